"""A cheap judge first, the judge proper where the cheap one can't be relied on, and at random.

The random audit is what tells how far the two agree: among pairs that the first stage would have
decided alone, a share drawn by chance alone is judged by both. The whole cascade is one judge: what
it says, whoever said it, is what people's labels calibrate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from shadow.judge.outcome import Asked, Comparer, Judged, Situation, Spending
from shadow.pair import Pair


@dataclass(frozen=True, slots=True)
class Escalation:
    """When the final stage is asked; `audit` is the random share of the rest."""

    audit: float = 0.1
    segments: frozenset[str] = frozenset()
    risks: frozenset[str] = frozenset({"high"})

    def reason(self, first: Judged, situation: Situation) -> Asked | None:
        """Return why the final stage must see a pair, None where the first one may decide it."""
        if situation.risk in self.risks:
            return "risk"
        if situation.segment in self.segments:
            return "segment"
        if first.comparison is None:
            return "unscored" if first.status == "unjudgeable" else "error"
        result = first.comparison.result
        if result not in ("win", "loss"):
            # One that changed with the order, to a tie or about, is inconsistent here.
            return "tie" if result == "tie" else "inconsistent"
        verdicts = [each.verdict for each in first.judgments]
        major = any(verdict is not None and verdict.severity == "major" for verdict in verdicts)
        return "severity" if major else None


class Cascade:
    """Two stages as one judge. `rng` draws the audit."""

    def __init__(
        self, first: Comparer, final: Comparer, *, escalation: Escalation, rng: Random
    ) -> None:
        self.first = first
        self.final = final
        self._escalation = escalation
        self._rng = rng

    async def compare(
        self,
        pair: Pair,
        spending: Spending,
        situation: Situation = Situation(),  # noqa: B008 - frozen
    ) -> Judged:
        """Compare by the first stage, and by the final one where it is called for or drawn.

        The final stage's verdict counts where there is one. An audit that brings none leaves the
        first stage's standing; a pair that was escalated and got none has none.
        """
        first = await self.first.compare(pair, spending, situation)
        if first.status == "budget_exhausted":
            return first
        asked, probability = self._escalation.reason(first, situation), 1.0
        if asked is None:
            if self._rng.random() >= self._escalation.audit:
                return first
            asked, probability = "audit", self._escalation.audit
        judged = await self.final.compare(pair, spending, situation)
        final = judged.asked_because(asked, probability)
        both = first.judgments + final.judgments
        if asked == "audit" and final.comparison is None:
            return replace(first, judgments=both)
        return replace(final, judgments=both)

    def uncached(self) -> Cascade:
        """Return the same stages, asked anew every time and in both orders."""
        return Cascade(
            self.first.uncached(),
            self.final.uncached(),
            escalation=self._escalation,
            rng=self._rng,
        )

    async def close(self) -> None:
        """Close both stages."""
        await self.first.close()
        await self.final.close()
