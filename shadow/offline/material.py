"""One finished pair as exports look at it, and which of its answers was the better one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shadow.answer import Answer
from shadow.checks import HARD
from shadow.pair import Prompt

__all__ = ["Arm", "Judged", "Material", "Preferred", "Source", "broken_checks", "preferred"]

Arm = Literal["baseline", "candidate"]
Source = Literal["human", "check", "judge", "capture"]

_SIGNS = {"win": 1.0, "lean_win": 0.5, "lean_loss": -0.5, "loss": -1.0}


@dataclass(frozen=True, slots=True)
class Judged:
    """One verdict of the judge: `order` AB (baseline first) or BA, scores 1 to 10 by side.

    `quarantined` says that the judge failed its control pairs before it next passed them.
    """

    order: str
    model: str
    scores: Mapping[str, Any] | None = None
    rubric_hash: str | None = None
    quarantined: bool = False


@dataclass(frozen=True, slots=True)
class Material:
    """A pair with all that is known of it; a live answer has one arm only.

    `checks` and `comparison` are what the worker stored, `label` is what people said: 1 for the
    candidate, 0 for the baseline, one half for neither, None where nobody has said anything.
    Instants are Unix seconds; `deployments` names who answered, by arm.
    """

    pair_id: int
    capture_id: str
    request_id: str
    stream: str
    outcome: str | None
    prompt: Prompt
    baseline: Answer | None
    candidate: Answer | None
    checks: Mapping[str, Any] = field(default_factory=dict)
    comparison: Mapping[str, Any] = field(default_factory=dict)
    label: float | None = None
    judged: tuple[Judged, ...] = ()
    segment: str | None = None
    risk: str | None = None
    user: str | None = None
    captured_at: float = 0.0
    finished_at: float = 0.0

    def answer(self, arm: Arm) -> Answer | None:
        """Return an arm's answer."""
        return self.baseline if arm == "baseline" else self.candidate


@dataclass(frozen=True, slots=True)
class Preferred:
    """Which arm's answer is the better one, who says so, and how strongly.

    `score` is 1, or ½ for a lean (the judge saw a tie in one of the orders). `margin` is by how
    many points of 1 to 10 the judge scored it higher, over both orders; None without scores.
    """

    winner: Arm
    source: Source
    score: float
    checks: tuple[str, ...] = ()
    margin: float | None = None

    @property
    def loser(self) -> Arm:
        """The other arm."""
        return "baseline" if self.winner == "candidate" else "candidate"


def broken_checks(material: Material, arm: Arm, *, metric: str | None = None) -> tuple[str, ...]:
    """Return the hard checks that an arm failed; with `metric`, whether it failed that one."""
    names = HARD if metric is None else {metric}
    failed = (
        name
        for name in names
        if ((material.checks.get(name) or {}).get(arm) or {}).get("outcome") == "fail"
    )
    return tuple(sorted(failed))


def preferred(material: Material, *, metric: str | None = None) -> Preferred | str:
    """Return which answer is the better one, or a word on why that is not known.

    People come first: what they said outranks the judge, their "neither" too. A failed hard check
    outranks the judge as well, and where people preferred an answer that fails one there is nothing
    to learn from either. Only what the judge saw alike in both orders, or as a lean, is a
    preference: `inconsistent` and errors never are, nor what it said while it was not to be
    trusted. `metric` names a check that decides alone.
    """
    if material.baseline is None or material.candidate is None or material.stream != "mirror":
        return "one_answer"
    arms: tuple[Arm, Arm] = ("baseline", "candidate")
    hard = {arm: broken_checks(material, arm) for arm in arms}
    if metric is not None and metric != "judge_win_rate":
        return _by_check({arm: broken_checks(material, arm, metric=metric) for arm in arms}, hard)
    if material.label is not None:
        return _by_people(material, hard)
    if hard["baseline"] or hard["candidate"]:
        return _by_check(hard, hard) if metric is None else "check_decides"
    return _by_judge(material)


def _by_people(material: Material, hard: Mapping[Arm, tuple[str, ...]]) -> Preferred | str:
    if material.label == 0.5:
        return "human_tie"
    winner: Arm = "candidate" if (material.label or 0.0) > 0.5 else "baseline"
    if hard[winner]:
        return "human_against_check"
    return Preferred(winner, "human", 1.0, margin=_margin(material, winner))


def _by_check(
    failed: Mapping[Arm, tuple[str, ...]], hard: Mapping[Arm, tuple[str, ...]]
) -> Preferred | str:
    if bool(failed["baseline"]) == bool(failed["candidate"]):
        return "both_failed" if failed["baseline"] else "both_passed"
    winner: Arm = "baseline" if failed["candidate"] else "candidate"
    if hard[winner]:
        return "both_failed"
    loser: Arm = "candidate" if winner == "baseline" else "baseline"
    return Preferred(winner, "check", 1.0, failed[loser])


def _by_judge(material: Material) -> Preferred | str:
    if material.comparison.get("decided_by") != "judge":
        decided = material.comparison.get("decided_by")
        return "identical" if decided == "identical" else str(material.outcome or "not_judged")
    result = str(material.comparison.get("result"))
    sign = _SIGNS.get(result)
    if sign is None:
        return result if result in ("tie", "inconsistent") else "not_judged"
    if any(each.quarantined for each in material.judged):
        return "judge_quarantined"
    winner: Arm = "candidate" if sign > 0 else "baseline"
    return Preferred(winner, "judge", abs(sign), margin=_margin(material, winner))


def _margin(material: Material, winner: Arm) -> float | None:
    """Return by how many points the judge scored the winner higher, averaged over its verdicts."""
    gaps: list[float] = []
    for each in material.judged:
        scores = each.scores or {}
        a, b = scores.get("A"), scores.get("B")
        if not isinstance(a, int | float) or not isinstance(b, int | float):
            continue
        candidate = b - a if each.order == "AB" else a - b
        gaps.append(candidate if winner == "candidate" else -candidate)
    return sum(gaps) / len(gaps) if gaps else None
