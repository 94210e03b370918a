"""The pure part of the benchmark: what the rounds come to, and which goals they meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

__all__ = ["GOALS", "METRICS", "Goal", "Round", "cpu_seconds", "parent_of", "report", "summary"]

Round = Mapping[str, Mapping[str, float]]
"""One round: the metrics by subject."""

METRICS = {
    "cpu_us_per_request": "µs",
    "requests_per_second": "1/s",
    "cpu_busy": "ratio",
    "added_p50_us": "µs",
    "added_p99_us": "µs",
    "cpu_us_per_chunk": "µs",
    "first_chunk_p50_us": "µs",
    "first_chunk_p99_us": "µs",
    "rss_mib": "MiB",
    "captured_share": "ratio",
}
"""What is measured of each subject, and its unit."""


def cpu_seconds(stat: str, ticks_per_second: int) -> float:
    """Return the CPU seconds (user and system) of a ``/proc/PID/stat`` line.

    The program's name stands in brackets and may itself hold spaces and brackets.
    """
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / ticks_per_second


def parent_of(stat: str) -> int:
    """Return the parent's process id of a ``/proc/PID/stat`` line."""
    return int(stat[stat.rindex(")") + 2 :].split()[1])


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit on a value of one round: ``value`` returns ``None`` where a subject was missing."""

    name: str
    unit: str
    sign: str
    limit: float
    needs: tuple[str, ...]
    value: Callable[[Round], float]

    @property
    def text(self) -> str:
        """The goal as it is printed."""
        return f"{self.sign} {self.limit:g}"

    def over(self, rounds: Sequence[Round]) -> list[float]:
        """Return the value of each round in which all that it needs was measured."""
        return [self.value(one) for one in rounds if all(name in one for name in self.needs)]

    def met(self, value: float) -> bool:
        """Say whether ``value`` keeps the limit."""
        return value <= self.limit if self.sign == "<=" else value >= self.limit


def _ratio(metric: str, peer: str, limit: float) -> Goal:
    return Goal(
        f"{metric}: ours / {peer}",
        "ratio",
        "<=",
        limit,
        ("ours", peer),
        lambda one: one["ours"][metric] / max(one[peer][metric], 1e-9),
    )


GOALS = (
    _ratio("cpu_us_per_request", "vllm-router", 1.0),
    _ratio("cpu_us_per_request", "envoy", 1.0),
    _ratio("cpu_us_per_request", "nginx", 1.5),
    _ratio("cpu_us_per_chunk", "nginx", 1.1),
    Goal(
        "added_p50_us: ours", "µs", "<=", 500.0, ("ours",), lambda one: one["ours"]["added_p50_us"]
    ),
    _ratio("added_p99_us", "vllm-router", 1.5),
    Goal(
        "cpu_us_per_request: litellm / ours",
        "ratio",
        ">=",
        200.0,
        ("ours", "litellm"),
        lambda one: one["litellm"]["cpu_us_per_request"] / one["ours"]["cpu_us_per_request"],
    ),
)
"""The data plane's goals; ``ours`` is the gateway with every feature switched on."""


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the median, its rounds and the spread: (largest - smallest) / median."""
    middle = median(values)
    spread = (max(values) - min(values)) / abs(middle) if middle else 0.0
    return {"value": round(middle, 4), "rounds": len(values), "spread": round(spread, 3)}


def report(rounds: Sequence[Round], environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the benchmark's JSON document: the goals first, then what was measured.

    A goal is judged by the median of its rounds. One whose peer was not measured has no value and
    ``met`` is ``None``, as it is for measurements, which have no goal.
    """
    results: list[dict[str, Any]] = []
    for goal in GOALS:
        row: dict[str, Any] = {
            "name": goal.name,
            "value": None,
            "unit": goal.unit,
            "goal": goal.text,
            "met": None,
        }
        values = goal.over(rounds)
        if values:
            row |= summary(values)
            row["met"] = goal.met(median(values))
        else:
            missing = [name for name in goal.needs if not any(name in one for one in rounds)]
            row["note"] = f"not measured: {', '.join(missing)} missing"
        results.append(row)
    for subject in dict.fromkeys(name for one in rounds for name in one):
        for metric, unit in METRICS.items():
            values = [one[subject][metric] for one in rounds if metric in one.get(subject, {})]
            if values:
                name = f"{subject}: {metric}"
                row = {"name": name, "value": None, "unit": unit, "goal": None, "met": None}
                results.append(row | summary(values))
    return {"environment": dict(environment), "results": results}
