"""From what the evaluator's parts measure of themselves to rows with goals: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from evaluator.rows import Row

__all__ = ["bias_rows", "checks_rows", "coverage_rows", "flight_rows"]

_MICRO = 1000.0
_KIB = 1024.0
_TAKEN_AT_ITS_WORD = "judge"


def checks_rows(rounds: Sequence[float], by_check: Mapping[str, float]) -> list[Row]:
    """Return what all checks cost on a pair, from microseconds a round, and the dearest three."""
    middle = median(rounds) / _MICRO
    spread = (max(rounds) - min(rounds)) / _MICRO / middle if len(rounds) > 1 else None
    name = "all checks on a pair of 1,000-token answers"
    rows = [Row(name, middle, "ms", "< 1", len(rounds), spread, "CPU of one core")]
    dearest = sorted(by_check.items(), key=lambda each: -each[1])[:3]
    rows += [Row(f"of these: {check}", cost / _MICRO, "ms") for check, cost in dearest]
    return rows


def flight_rows(flight: Mapping[str, Any], *, wanted: int) -> list[Row]:
    """Return what thousands of judge calls in flight took, from a flight's document."""
    note = f"{flight['calls']} calls, answers of 4,000 characters"
    judged = flight["judged"] / flight["pairs"]
    return [
        Row("judge calls in flight at most", flight["most_in_flight"], "", f">= {wanted}"),
        Row("memory of a judge call in flight", flight["bytes_a_call"] / _KIB, "KiB", "< 200",
            note=note),
        Row("judge calls a second", flight["calls_per_second"], "1/s", note="server after 1 s"),
        Row("pairs judged of those asked", judged, "", ">= 1"),
    ]  # fmt: skip


def bias_rows(rows: Iterable[Any]) -> list[Row]:
    """Return how far position bias of 15 points moves the win rate, by way of asking.

    Of each way the truth at which it is moved furthest, in points of a win rate.
    """
    worst: dict[str, Any] = {}
    for row in rows:
        if row.asked not in worst or abs(row.bias) > abs(worst[row.asked].bias):
            worst[row.asked] = row
    made = []
    for way, row in worst.items():
        # Two orders take the bias out altogether: what is left is the simulation's own error.
        goal = "< 1" if way == "both orders" else ""
        note = f"at a truth of {row.truth:g}, {row.calls:.2f} calls a pair, ±{row.error:.2g}"
        name = f"win rate moved by a position bias of 15 points, {way}"
        made.append(Row(name, abs(row.bias) * 100, "points", goal, note=note))
    return made


def coverage_rows(shares: Mapping[str, float], *, runs: int, goal: float) -> list[Row]:
    """Return in how many runs a 95% bound held, corrected by so many labels, and uncorrected."""
    rows = [
        Row(
            f"corrected lower bound holds, {looks} labels",
            share,
            "",
            f">= {goal:g}",
            runs,
            note="judge at 0.566 for a truth of 0.500",
        )
        for looks, share in shares.items()
        if looks.isdigit()
    ]
    alone = shares[_TAKEN_AT_ITS_WORD]
    rows.append(Row("the judge's own interval holds", alone, "", rounds=runs, note="no labels"))
    return rows
