"""Counters and histograms that one thread writes without a lock, read when they are scraped.

A child of ``prometheus_client`` takes a lock and searches its buckets one by one, several times a
request. These are plain lists and dictionaries that only the event loop's thread writes; the
metric families of ``prometheus_client`` are made from a copy at each scrape, in another thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from math import inf
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

__all__ = ["Counters", "Histograms", "Level", "Tally"]

Key = TypeVar("Key", bound=Hashable)


class Tally:
    """What a histogram has seen under one set of labels: values a bucket, and their sum.

    ``counts`` has one more place than ``bounds`` (each the highest value of its bucket), for the
    values above all of them. The hot path may write ``counts`` and ``sum`` itself.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Take a value in."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Histograms(Collector):
    """A histogram, a :class:`Tally` for each set of labels that is bound."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self.name = name
        self.labels = tuple(labels)
        self._documentation = documentation
        self._bounds = tuple(bounds)
        self._limits = [floatToGoString(bound) for bound in (*bounds, inf)]  # type: ignore[no-untyped-call]
        self._tallies: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def bind(self, *labels: str) -> Tally:
        """Return the tally of these label values; from now on it is exposed."""
        return self._tallies.setdefault(labels, Tally(self._bounds))

    def describe(self) -> list[Metric]:
        """Return the family without samples, so that a name taken twice is found."""
        return [self._family()]

    def collect(self) -> list[Metric]:
        """Return the family as it is now; the count is what the buckets add up to."""
        family = self._family()
        for labels, tally in self._tallies.copy().items():
            total = 0.0
            buckets = []
            for limit, count in zip(self._limits, tally.counts.copy(), strict=True):
                total += count
                buckets.append((limit, total))
            family.add_metric(labels, buckets, float(tally.sum))
        return [family]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self.name, self._documentation, labels=self.labels)


class Counters(Collector, Generic[Key]):
    """A counter that is kept in dictionaries, one for each set of leading labels that is bound.

    A dictionary's keys are whatever is cheapest to count by; ``words`` turns one into the values
    of the other labels. Keys with the same words are added up.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        words: Callable[[Key], tuple[str, ...]],
        registry: CollectorRegistry,
    ) -> None:
        self.name = name
        self.labels = tuple(labels)
        self._documentation = documentation
        self._words = words
        self._counts: dict[tuple[str, ...], dict[Key, int]] = {}
        registry.register(self)

    def bind(self, *labels: str) -> dict[Key, int]:
        """Return the counts under these leading labels; a series appears with its first count."""
        return self._counts.setdefault(labels, {})

    def describe(self) -> list[Metric]:
        """Return the family without samples, so that a name taken twice is found."""
        return [self._family()]

    def collect(self) -> list[Metric]:
        """Return the family as it is now."""
        totals: dict[tuple[str, ...], float] = {}
        for leading, counts in self._counts.copy().items():
            for key, count in counts.copy().items():
                labels = (*leading, *self._words(key))
                totals[labels] = totals.get(labels, 0.0) + count
        family = self._family()
        for labels, total in totals.items():
            family.add_metric(labels, total)
        return [family]

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(self.name, self._documentation, labels=self.labels)


class Level(Collector):
    """A gauge without labels that goes up and down by one."""

    def __init__(self, name: str, documentation: str, *, registry: CollectorRegistry) -> None:
        self.name = name
        self.labels: tuple[str, ...] = ()
        self.value = 0
        self._documentation = documentation
        registry.register(self)

    def inc(self) -> None:
        """Go up by one."""
        self.value += 1

    def dec(self) -> None:
        """Go down by one."""
        self.value -= 1

    def describe(self) -> list[Metric]:
        """Return the family, so that a name taken twice is found."""
        return self.collect()

    def collect(self) -> list[Metric]:
        """Return the family as it is now."""
        return [GaugeMetricFamily(self.name, self._documentation, float(self.value))]
