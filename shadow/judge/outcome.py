"""What judging a pair comes to, whichever judge it was: values that the worker writes down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

from shadow.judge.cache import Kept
from shadow.judge.pairwise import Comparison, Order, Side
from shadow.judge.parse import Scores, Verdict
from shadow.pair import Pair

Stage = Literal["first", "final"]
"""Which stage judged: the cheap one that is asked first, or the judge proper."""

Asked = Literal[
    "always", "inconsistent", "tie", "severity", "segment", "risk", "unscored", "error", "audit"
]
"""Why a stage was asked. All but `audit` follow from the pair; that one was drawn at random."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Where a pair comes from, as far as judging depends on it."""

    route: str | None = None
    segment: str | None = None
    risk: str | None = None


class Spending(Protocol):
    """Money for the judge, as one pair sees it."""

    async def reserve(self, *, calls: int, microusd: int) -> bool:
        """Set the most that `calls` calls may cost aside; False where the budget is used up."""

    async def settle(self, *, calls: int, microusd: int) -> None:
        """Add what was spent beyond what was reserved (negative: give back)."""


@dataclass(frozen=True, slots=True)
class LocalVerdict:
    """The verdict of a model that gives no words: `evidence` states its figures."""

    verdict: Side
    evidence: str
    scores: Scores | None = None
    severity: Literal["none", "minor", "major"] | None = None


@dataclass(frozen=True, slots=True)
class Judgment:
    """One order of one pair: a verdict, or an error with the transcript that shows it.

    `probability` is that with which this stage was asked: 1 where the pair itself called for it,
    the audit's share where it was drawn. Sums over audited pairs are weighed by its inverse.
    """

    order: Order
    model: str
    verdict: Verdict | LocalVerdict | None = None
    error: str | None = None
    transcript: str | None = None
    fingerprint: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0
    latency_s: float = 0.0
    cached: bool = False
    cache_key: str | None = None
    """Under which the verdict is kept, whether it came from there or goes there."""
    stage: Stage = "final"
    asked: Asked = "always"
    probability: float = 1.0
    rubric: str | None = None
    rubric_hash: str | None = None

    @property
    def kept(self) -> Kept | None:
        """The verdict for the cache; None for an error, and for one that came from there."""
        if self.cached or not isinstance(self.verdict, Verdict) or self.cache_key is None:
            return None
        return Kept(self.cache_key, self.verdict, self.model, self.fingerprint)


@dataclass(frozen=True, slots=True)
class Judged:
    """What judging came to. `comparison` is there only for `status` judged.

    `stage` gave the comparison, and was asked because of `asked`.
    """

    status: Literal["judged", "judge_error", "budget_exhausted", "unjudgeable"]
    judgments: tuple[Judgment, ...] = ()
    comparison: Comparison | None = None
    reason: str = ""
    stage: Stage = "final"
    asked: Asked = "always"

    def asked_because(self, asked: Asked, probability: float) -> Judged:
        """Return the same work with the reason and probability for which it was asked."""
        judgments = tuple(
            replace(each, asked=asked, probability=probability) for each in self.judgments
        )
        return replace(self, judgments=judgments, asked=asked)


class Comparer(Protocol):
    """Anything that compares the two answers of a pair: one judge, or several stages of them."""

    async def compare(
        self,
        pair: Pair,
        spending: Spending,
        situation: Situation = Situation(),
    ) -> Judged:
        """Compare; never raises for the judge's faults. Raises `StoreError`: nothing is spent."""

    def uncached(self) -> Comparer:
        """Return the same judge, asked anew every time and always in both orders.

        For pairs that examine the judge itself: connections and models are shared, not the cache.
        """

    async def close(self) -> None:
        """Let go of connections and models."""
