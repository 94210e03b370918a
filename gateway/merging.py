"""The metrics of several processes as one: pure, and how each gauge is brought together.

Counters and histograms are added up. Buckets are cumulative, so that sums of them are again those
of a histogram, with the sum of the counts in ``+Inf``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from prometheus_client.core import Metric

__all__ = ["GAUGES", "Families", "Family", "decode", "encode", "lasting", "merge", "show", "take"]

Labels = tuple[tuple[str, str], ...]

_ADDED = frozenset({"counter", "histogram", "summary"})


def _sum(values: Iterable[float]) -> float:
    return sum(values, 0.0)


GAUGES: dict[str, Callable[[Sequence[float]], float]] = {
    "coalmine_split_weight_ratio": max,
    "coalmine_split_revision": min,  # so that a process that lags behind shows
    "coalmine_breaker_open": max,
    "coalmine_capture_buffer_bytes": _sum,
    "coalmine_streams_open": _sum,
    "coalmine_upstream_connections": _sum,
    "coalmine_store_up": min,
}
"""How a gauge's values in several processes become one; the highest counts for any other."""


class Family(msgspec.Struct, frozen=True, array_like=True):
    """A metric family of one process: ``samples`` are name, labels and value, in their order."""

    name: str
    documentation: str
    type: str
    samples: tuple[tuple[str, Labels, float], ...]


Families = tuple[Family, ...]
_decoder = msgspec.msgpack.Decoder(Families)


def take(metrics: Iterable[Metric]) -> Families:
    """Return what a registry collects, without the times at which series were created."""
    return tuple(
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            tuple(
                (sample.name, tuple(sample.labels.items()), float(sample.value))
                for sample in metric.samples
                if not sample.name.endswith("_created")
            ),
        )
        for metric in metrics
    )


def encode(families: Families) -> bytes:
    """Return families as bytes for :func:`decode`."""
    return msgspec.msgpack.encode(families)


def decode(data: bytes) -> Families:
    """Return families from :func:`encode`. Raises :class:`msgspec.DecodeError`."""
    return _decoder.decode(data)


def lasting(families: Iterable[Family]) -> Families:
    """Return those that still count once their process is gone: all but gauges."""
    return tuple(family for family in families if family.type in _ADDED)


def merge(processes: Iterable[Families]) -> Families:
    """Return the families of all ``processes`` as those of one."""
    found: dict[str, tuple[Family, dict[tuple[str, Labels], list[float]]]] = {}
    for families in processes:
        for family in families:
            _, series = found.setdefault(family.name, (family, {}))
            for name, labels, value in family.samples:
                series.setdefault((name, labels), []).append(value)
    merged = []
    for family, series in found.values():
        rule = _sum if family.type in _ADDED else GAUGES.get(family.name, max)
        samples = tuple((name, labels, rule(each)) for (name, labels), each in series.items())
        merged.append(msgspec.structs.replace(family, samples=samples))
    return tuple(merged)


def show(families: Iterable[Family]) -> list[Metric]:
    """Return families in the form that ``prometheus_client`` writes out."""
    shown = []
    for family in families:
        metric = Metric(family.name, family.documentation, family.type)
        for name, labels, value in family.samples:
            metric.add_sample(name, dict(labels), value)
        shown.append(metric)
    return shown
