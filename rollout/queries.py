"""Prometheus queries of a spec: filling in their templates, and reading what comes back. Pure.

Two kinds. *Counters* are read for both arms at the same instant, and what they grew by between two
readings becomes evidence (:func:`advance`). A *threshold* is one number that must lie in a range.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, isfinite
from typing import Any

__all__ = [
    "ARMS",
    "Answer",
    "Counter",
    "Counts",
    "Reading",
    "Series",
    "advance",
    "fill",
    "read_answer",
    "read_number",
]

ARMS = ("baseline", "candidate")

_VARIABLE = re.compile(r"\$([A-Za-z_]\w*)")
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@ -]")
_MAX_SERIES = 2000
_ALMOST = 1e-6  # so that a sum of floats that should be a whole number is one

Series = Mapping[str, float]
"""Values by the labels of their series."""


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return the query with ``$variant`` and so on replaced; other names stay as they stand.

    Values are written for the inside of a string literal of PromQL: whatever is not a letter, a
    digit or one of ``_.:/@ -`` becomes a numeric escape, which means the same in single and in
    double quotes and can close neither.
    """

    def value(match: re.Match[str]) -> str:
        known = values.get(match[1])
        return match[0] if known is None else "".join(map(_escaped, known))

    return _VARIABLE.sub(value, template)


def _escaped(character: str) -> str:
    if _PLAIN.fullmatch(character):
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an instant query came to: its series, or why there are none that can be used."""

    series: Series
    error: str | None = None


def read_answer(document: Any) -> Answer:
    """Read the JSON that ``/api/v1/query`` answers with. A value that is not finite is an error."""
    if not isinstance(document, Mapping) or document.get("status") != "success":
        reason = document.get("error") if isinstance(document, Mapping) else None
        return Answer({}, f"Prometheus refused the query: {str(reason or 'no reason')[:200]}")
    try:
        data = document["data"]
        kind, result = data["resultType"], data["result"]
        if kind == "scalar":
            result = [{"metric": {}, "value": result}]
        elif kind != "vector":
            return Answer({}, f"the query gives a {str(kind)[:20]}; write one that gives a vector")
        if len(result) > _MAX_SERIES:
            return Answer({}, f"the query gives {len(result)} series; aggregate them")
        series = {
            json.dumps(each["metric"], sort_keys=True): float(each["value"][1]) for each in result
        }
    except (KeyError, TypeError, ValueError, IndexError):
        return Answer({}, "the answer is not that of Prometheus")
    if not all(map(isfinite, series.values())):
        return Answer({}, "the query gives a value that is not a finite number")
    return Answer(series)


def read_number(answer: Answer) -> tuple[float | None, str | None]:
    """Return the one value of an answer, or ``None`` and why there is not one."""
    if answer.error is not None:
        return None, answer.error
    if not answer.series:
        return None, "the query gives no data"
    if len(answer.series) > 1:
        return None, f"the query gives {len(answer.series)} series; aggregate them into one"
    return next(iter(answer.series.values())), None


@dataclass(frozen=True, slots=True)
class Reading:
    """Both counters of both arms at one instant (Unix seconds), each by arm."""

    at: float
    requests: Mapping[str, Series]
    failures: Mapping[str, Series]


@dataclass(frozen=True, slots=True)
class Counts:
    """What the counters grew by within ``seconds``: ``(requests, failures)`` by arm."""

    seconds: float
    arms: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Counter:
    """A reading to count from, and what of the growth since earlier ones is not counted yet.

    ``owed`` is by arm: parts of requests, where a rule gives fractions, and failures that were seen
    before their requests, which are scraped from elsewhere.
    """

    last: Reading
    owed: Mapping[str, tuple[float, float]]

    @classmethod
    def start(cls, reading: Reading) -> Counter:
        """Return a counter that has counted nothing yet."""
        return cls(reading, dict.fromkeys(ARMS, (0.0, 0.0)))


def advance(counter: Counter, reading: Reading) -> tuple[Counter, Counts | None]:
    """Return the counter at the next reading, and what was counted in between, if anything was.

    A series that is smaller than before was reset, or lost a part of its sum: what happened in
    between is not known for either arm, so nothing is counted and the reading is where to count
    from. Where an arm's requests are missing altogether, the reading is passed over. Series of
    requests that are new only say where to count from; a first series of failures, which many
    applications export with the first failure, counts as far as there are new requests.
    """
    last = counter.last
    if any(last.requests[arm] and not reading.requests[arm] for arm in ARMS):
        return counter, None
    kept = Reading(
        reading.at,
        {arm: _kept(last.requests[arm], reading.requests[arm]) for arm in ARMS},
        {arm: _kept(last.failures[arm], reading.failures[arm]) for arm in ARMS},
    )
    if any(
        _was_reset(before[arm], now[arm])
        for before, now in ((last.requests, reading.requests), (last.failures, reading.failures))
        for arm in ARMS
    ):
        return Counter.start(kept), None
    owed: dict[str, tuple[float, float]] = {}
    arms: dict[str, tuple[int, int]] = {}
    for arm in ARMS:
        requests = counter.owed[arm][0] + _grown(last.requests[arm], reading.requests[arm])
        failures = counter.owed[arm][1] + _grown(last.failures[arm], reading.failures[arm])
        counted = floor(requests + _ALMOST)
        failed = min(floor(failures + _ALMOST), counted)
        owed[arm] = max(0.0, requests - counted), max(0.0, failures - failed)
        if not reading.requests[arm].keys() - last.requests[arm].keys():
            first = sum(
                value
                for labels, value in reading.failures[arm].items()
                if labels not in last.failures[arm]
            )
            failed += min(floor(first + _ALMOST), counted - failed)
        arms[arm] = counted, failed
    counts = Counts(reading.at - last.at, arms) if any(n for n, _ in arms.values()) else None
    return Counter(kept, owed), counts


def _kept(before: Series, now: Series) -> Series:
    """Return the values to count from next: those of series that are gone for now stay."""
    both = {**before, **now}
    return both if len(both) <= _MAX_SERIES else now


def _was_reset(before: Series, now: Series) -> bool:
    return any(value < before.get(labels, value) for labels, value in now.items())


def _grown(before: Series, now: Series) -> float:
    return sum(value - before[labels] for labels, value in now.items() if labels in before)
