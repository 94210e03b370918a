"""What a check says: an outcome for each arm, with its reason. All values, never exceptions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from shadow.pair import Arm, Pair

Outcome = Literal["pass", "fail", "not_applicable", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One arm's outcome.

    `value` is a measurement in the check's unit; `flags` are facts that are reported apart and
    decide nothing (such as JSON that parses only without its code fence).
    """

    outcome: Outcome
    reason: str = ""
    value: float | None = None
    flags: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the arm broke the check."""
        return self.outcome == "fail"

    def bit(self) -> int | None:
        """Return 1 for a failure, 0 for a pass, None where there is no outcome to count."""
        return {"pass": 0, "fail": 1}.get(self.outcome)

    def to_json(self) -> dict[str, Any]:
        """Return the finding as a JSON object without empty members."""
        document: dict[str, Any] = {"outcome": self.outcome}
        if self.reason:
            document["reason"] = self.reason
        if self.value is not None:
            document["value"] = self.value
        if self.flags:
            document["flags"] = list(self.flags)
        return document


PASS = Finding("pass")
ABSENT = Finding("not_applicable", "this arm was not asked")
NO_ANSWER = Finding("not_applicable", "no answer to check")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check on both arms. `name` is the metric's name in specs and evidence."""

    name: str
    baseline: Finding = field(default=ABSENT)
    candidate: Finding = field(default=ABSENT)

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {"baseline": self.baseline.to_json(), "candidate": self.candidate.to_json()}


def both(name: str, pair: Pair, examine: Callable[[Arm], Finding]) -> CheckResult:
    """Apply `examine` to each arm that has an answer.

    An arm that failed has nothing to examine: its failure is counted by `error_rate` and
    `timeout_rate`, once.
    """

    def side(arm: Arm | None) -> Finding:
        if arm is None:
            return ABSENT
        return NO_ANSWER if arm.failed else examine(arm)

    return CheckResult(name, side(pair.baseline), side(pair.candidate))
