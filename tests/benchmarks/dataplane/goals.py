"""The pure part of the benchmark: what the rounds come to, and which goals they meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

__all__ = ["GOALS", "METRICS", "Goal", "Round", "report", "summary"]

Round = Mapping[str, Mapping[str, float]]
"""One round: the metrics by subject."""

METRICS = {
    "cpu_us_per_request": "µs",
    "requests_per_second": "1/s",
    "cpu_busy": "ratio",
    "added_p50_us": "µs",
    "added_p99_us": "µs",
    "latencies": "count",
    "cpu_us_per_chunk": "µs",
    "first_chunk_p50_us": "µs",
    "first_chunk_p99_us": "µs",
    "rss_mib": "MiB",
    "stalled_kib_per_stream": "KiB",
    "captured_share": "ratio",
}
"""What is measured of each subject, and its unit."""

FLOOR_US = 20.0
"""Added latency below this is noise of the clock and the scheduler, and may even be negative: in a
ratio both sides count as at least this much."""

ENOUGH = 2000
"""Latencies a round below which a p99 is called rough."""

BUSY = 0.9
"""Share of its core that a subject uses at full speed; below, something else was the limit."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit on a value of one round; ``needs`` are the subjects and metrics that it takes."""

    name: str
    unit: str
    sign: str
    limit: float
    needs: tuple[tuple[str, str], ...]
    value: Callable[[Round], float]

    @property
    def text(self) -> str:
        """The goal as it is printed."""
        return f"{self.sign} {self.limit:g}"

    def over(self, rounds: Sequence[Round]) -> list[float]:
        """Return the value of each round in which all that it needs was measured."""
        return [
            self.value(one)
            for one in rounds
            if all(metric in one.get(subject, {}) for subject, metric in self.needs)
        ]

    def absent(self, rounds: Sequence[Round]) -> list[str]:
        """Return the subjects of which no round has what the goal needs."""
        return [
            subject
            for subject, metric in self.needs
            if not any(metric in one.get(subject, {}) for one in rounds)
        ]

    def met(self, value: float) -> bool:
        """Say whether ``value`` keeps the limit."""
        return value <= self.limit if self.sign == "<=" else value >= self.limit


def _ours(metric: str, limit: float) -> Goal:
    name, unit = f"{metric}: ours", METRICS[metric]
    return Goal(name, unit, "<=", limit, (("ours", metric),), lambda one: one["ours"][metric])


def _ratio(metric: str, over: str, under: str, sign: str, limit: float) -> Goal:
    least = FLOOR_US if metric.startswith("added_") else 1e-9
    return Goal(
        f"{metric}: {over} / {under}",
        "ratio",
        sign,
        limit,
        ((over, metric), (under, metric)),
        lambda one: max(one[over][metric], least) / max(one[under][metric], least),
    )


GOALS = (
    _ratio("cpu_us_per_request", "ours", "vllm-router", "<=", 1.0),
    _ratio("cpu_us_per_request", "ours", "envoy", "<=", 1.0),
    _ratio("cpu_us_per_request", "ours", "nginx", "<=", 1.5),
    _ratio("cpu_us_per_chunk", "ours", "nginx", "<=", 1.1),
    _ours("added_p50_us", 500.0),
    _ratio("added_p99_us", "ours", "vllm-router", "<=", 1.5),
    _ours("stalled_kib_per_stream", 200.0),
    _ratio("cpu_us_per_request", "litellm", "ours", ">=", 200.0),
)
"""The data plane's goals; ``ours`` is the gateway with every feature switched on."""


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the median, its rounds and the spread: (largest - smallest) / median."""
    middle = median(values)
    spread = (max(values) - min(values)) / abs(middle) if middle else 0.0
    return {"value": round(middle, 4), "rounds": len(values), "spread": round(spread, 3)}


def report(
    rounds: Sequence[Round],
    environment: Mapping[str, Any],
    *,
    unmeasured: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the benchmark's JSON document: the goals first, then what was measured.

    A goal is judged by the median of its rounds. One whose peer was not measured has no value and
    ``met`` is ``None``, as it is for measurements, which have no goal; its note says why, with the
    peer's reason from ``unmeasured``.
    """
    results = [_goal(goal, rounds, unmeasured or {}) for goal in GOALS]
    for subject in dict.fromkeys(name for one in rounds for name in one):
        for metric, unit in METRICS.items():
            values = [one[subject][metric] for one in rounds if metric in one.get(subject, {})]
            if values:
                row = {"name": f"{subject}: {metric}", "value": None, "unit": unit}
                row |= {"goal": None, "met": None, **summary(values)}
                if metric == "added_p99_us":
                    _call_rough(row, rounds, [subject])
                results.append(row)
    results += _harness(rounds)
    return {"environment": dict(environment), "results": results}


def _goal(goal: Goal, rounds: Sequence[Round], unmeasured: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": goal.name, "value": None, "unit": goal.unit}
    row |= {"goal": goal.text, "met": None}
    values = goal.over(rounds)
    if values:
        row |= summary(values)
        row["met"] = goal.met(median(values))
        if goal.name.startswith("added_p99_us"):
            _call_rough(row, rounds, [subject for subject, _ in goal.needs])
    else:
        reasons: dict[str, list[str]] = {}
        for name in goal.absent(rounds):
            reasons.setdefault(unmeasured.get(name, "failed"), []).append(name)
        row["note"] = "; ".join(f"{why}: {', '.join(names)}" for why, names in reasons.items())
    return row


def _call_rough(row: dict[str, Any], rounds: Sequence[Round], names: Sequence[str]) -> None:
    least = min(
        one[name]["latencies"]
        for one in rounds
        for name in names
        if "latencies" in one.get(name, {})
    )
    if least < ENOUGH:
        row["note"] = f"rough: {least:,.0f} latencies a round"


def _harness(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """Tell whether upstream and generator were faster than all that was measured through them."""
    metric = "requests_per_second"
    ratios, waited = [], set()
    for one in rounds:
        others = {name: seen for name, seen in one.items() if name != "direct" and metric in seen}
        if "direct" in one and others:
            ratios.append(one["direct"][metric] / max(seen[metric] for seen in others.values()))
        waited |= {name for name, seen in others.items() if seen.get("cpu_busy", 1.0) < BUSY}
    if not ratios:
        return []
    row = {"name": f"{metric}: direct / fastest", "value": None, "unit": "ratio"}
    row |= {"goal": None, "met": None, **summary(ratios)}
    if waited:
        row["note"] = f"the load, not the subject, was the limit of: {', '.join(sorted(waited))}"
    return [row]
