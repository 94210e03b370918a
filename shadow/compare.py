"""Deciding a pair without a judge, and the words in which a comparison is kept."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from shadow.answer import Answer, Choice, visible
from shadow.checks import HARD, CheckResult
from shadow.checks.tool_contract import call_multiset
from shadow.judge.outcome import Judged
from shadow.pair import Pair

DecidedBy = Literal["check", "identical", "judge"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a pair came to. `judge` is the evidence's word, `score` the candidate's point of view.

    `score` is None where there is no verdict: missing is never a tie, a loss or a zero.
    """

    outcome: str
    judge: str
    score: float | None = None
    decided_by: DecidedBy | None = None
    reason: str = ""
    failed: dict[str, list[str]] = field(default_factory=dict)
    stage: str | None = None
    asked: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document kept as the pair's `comparison`.

        `stage` and `asked` say which stage of the judge decided, and why it was asked; a pair that
        no judge saw has neither.
        """
        document: dict[str, Any] = {
            "decided_by": self.decided_by,
            "result": self.judge,
            "score": self.score,
            "reason": self.reason,
            "failed": self.failed,
        }
        if self.stage is not None:
            document |= {"stage": self.stage, "asked": self.asked}
        return document


def decide_by_checks(pair: Pair, checks: Sequence[CheckResult]) -> Decision | None:
    """Decide a pair of which an arm failed a hard check, or whose answers are the same.

    One arm failed: the other wins. Both failed: nobody does; where both gave no answer at all
    there is nothing to score. A check with the outcome `error` decides nothing.
    """
    if pair.baseline is None or pair.candidate is None:
        return None
    failed = {
        "baseline": [c.name for c in checks if c.name in HARD and c.baseline.failed],
        "candidate": [c.name for c in checks if c.name in HARD and c.candidate.failed],
    }
    if failed["baseline"] or failed["candidate"]:
        return _by_failure(pair, {arm: names for arm, names in failed.items() if names})
    if identical(pair.baseline.answer, pair.candidate.answer):
        return Decision("compared", "not_needed", 0.0, "identical", "the answers are the same")
    return None


def _by_failure(pair: Pair, failed: dict[str, list[str]]) -> Decision:
    broken = pair.candidate is not None and pair.candidate.failed
    outcome = "candidate_failed" if broken else "compared"
    reason = "; ".join(f"{arm} failed {', '.join(names)}" for arm, names in failed.items())
    score: float | None = 0.0
    if len(failed) == 1:
        score = -1.0 if "candidate" in failed else 1.0
    elif broken and pair.baseline is not None and pair.baseline.failed:
        score = None
    return Decision(outcome, "not_needed", score, "check", reason, failed)


def decide_by_judge(judged: Judged) -> Decision:
    """Turn the judge's work into a decision; only two verdicts make a score."""
    if judged.comparison is not None:
        result = judged.comparison
        return Decision(
            "compared",
            result.result,
            result.score,
            "judge",
            stage=judged.stage,
            asked=judged.asked,
        )
    word = "error" if judged.status == "judge_error" else judged.status
    return Decision(judged.status, word, reason=judged.reason)


NO_JUDGE = Decision("compared", "not_needed", reason="no judge is asked for this rollout")


def identical(one: Answer, other: Answer) -> bool:
    """Say whether two answers are the same to a reader: calls as a multiset, text line by line."""
    if len(one.choices) != len(other.choices):
        return False
    return all(_same(a, b) for a, b in zip(one.choices, other.choices, strict=True))


def _same(one: Choice, other: Choice) -> bool:
    return (
        (one.text == other.text or _normal(one.text) == _normal(other.text))
        and _normal(one.refusal or "") == _normal(other.refusal or "")
        and call_multiset(one.tool_calls) == call_multiset(other.tool_calls)
    )


def _normal(text: str) -> str:
    shown = visible(text)
    if not shown.isascii():
        shown = unicodedata.normalize("NFC", shown)
    # Indentation and inner space stay: in code they mean something.
    return "\n".join(line.rstrip() for line in shown.splitlines() if line.strip())
