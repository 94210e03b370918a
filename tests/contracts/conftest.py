"""What dashboards and alert rules may speak of: the metrics that the product declares."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from gateway.metering import Counters, Histograms, Level

ROOT = Path(__file__).resolve().parents[2]

# What Prometheus itself adds, to every series or to the buckets of a histogram.
SCRAPE_LABELS = frozenset({"job", "instance"})
PROMETHEUS_SERIES = {"up": SCRAPE_LABELS}

# The names under which a metric of each type is stored.
SUFFIXES = {
    "gauge": ("",),
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}

WORDS = frozenset(
    """
    and or unless by without on ignoring group_left group_right offset bool
    sum min max avg count abs rate increase changes deriv vector sort_desc log10 round
    histogram_quantile
    """.split()  # noqa: SIM905 - a paragraph of words
)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\s*\{([^}]*)\}")
_CLAUSE = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"(?<![\w:$.])[A-Za-z_:][\w:]*")
_RANGE = re.compile(r"\[[^\]]*\]|\boffset\s+\w+")


@dataclass
class Query:
    """A PromQL expression taken apart: its metrics, their matchers, and the labels it groups by."""

    metrics: set[str] = field(default_factory=set)
    matchers: list[tuple[str, str, str]] = field(default_factory=list)
    groupings: set[str] = field(default_factory=set)


def take_apart(expression: str) -> Query:
    """Return the metrics, ``(metric, label, value)`` matchers and grouping labels of a query.

    What is neither a word of PromQL nor a label in a clause is taken for a metric, so that a
    misspelt function shows up as an unknown metric.
    """
    query = Query()
    for metric, body in _SELECTOR.findall(expression):
        query.metrics.add(metric)
        for label, value in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"', body):
            query.matchers.append((metric, label, value))
    rest = _RANGE.sub(" ", _STRING.sub(" ", _SELECTOR.sub(" ", expression)))
    for _, labels in _CLAUSE.findall(rest):
        query.groupings |= {label.strip() for label in labels.split(",") if label.strip()}
    rest = _CLAUSE.sub(" ", rest)
    query.metrics |= {name for name in _NAME.findall(rest) if name not in WORDS}
    return query


def labels_of(collector: Any) -> frozenset[str]:
    """Return the names of a collector's labels."""
    if isinstance(collector, MetricWrapperBase):
        return frozenset(collector._labelnames)
    assert isinstance(collector, Counters | Histograms | Level), f"{collector} hides its labels"
    return frozenset(collector.labels)


@pytest.fixture(scope="session")
def declared() -> dict[str, frozenset[str]]:
    """Every series that a process exports, by name, with its labels."""
    from gateway.metrics import GatewayMetrics
    from rollout.metrics import ControlMetrics
    from shadow.metrics import WorkerMetrics

    series: dict[str, frozenset[str]] = dict(PROMETHEUS_SERIES)
    for build in (GatewayMetrics, WorkerMetrics, ControlMetrics):
        registry = CollectorRegistry()
        build(registry)
        for collector in registry._collector_to_names:
            labels = labels_of(collector)
            [family] = collector.describe()
            for suffix in SUFFIXES[family.type]:
                name = family.name + suffix
                assert name not in series, f"{name} is declared twice"
                extra = {"le"} if suffix == "_bucket" else set()
                series[name] = labels | extra | SCRAPE_LABELS
    return series


@pytest.fixture(scope="session")
def faults(declared: dict[str, frozenset[str]]) -> Callable[..., list[str]]:
    """Return what is wrong with a query: metrics and labels that nobody exports."""

    def find(expression: str, recorded: dict[str, frozenset[str]] | None = None) -> list[str]:
        known = declared | (recorded or {})
        query = take_apart(expression)
        found = [f"no metric is called {name}" for name in sorted(query.metrics - known.keys())]
        found += [
            f"{metric} has no label {label}"
            for metric, label, _ in query.matchers
            if label not in known.get(metric, frozenset({label}))
        ]
        labels = frozenset().union(*(known.get(name, frozenset()) for name in query.metrics))
        found += [f"no metric of it has {label}" for label in sorted(query.groupings - labels)]
        return found

    return find


@pytest.fixture(scope="session")
def taken_apart() -> Callable[[str], Query]:
    """Take a PromQL expression apart into metrics, matchers and grouping labels."""
    return take_apart


@pytest.fixture(scope="session")
def commands_in() -> Callable[[str], Iterator[list[str]]]:
    """Find the ``coalmine …`` commands that a text tells its reader to run, as lists of words."""

    def find(text: str) -> Iterator[list[str]]:
        quoted = re.findall(r"`(coalmine [^`]+)`", text)
        quoted += re.findall(r"^(?:\s*#\s*|\$ )?(coalmine [a-z][^#\n]*)$", text, re.MULTILINE)
        quoted += re.findall(r"-- (coalmine [^\n]+)", text)
        for command in quoted:
            yield command.split()[1:]

    return find
