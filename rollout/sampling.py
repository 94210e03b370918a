"""How much of the traffic is mirrored: what the step needs, whatever the traffic. Pure.

**Why this biases nothing.** The share is worked out from counts and clocks alone: how many requests
came, how many pairs are there and on their way, how much time and budget is left. It never looks at
what a pair said, nor at what is in a request. At each moment every eligible request is drawn with
the same chance, independently of everything else (:class:`gateway.split.Sampler`), and the share in
force was set before the request came: it is *predictable*. Given the past, a sampled pair is
therefore distributed as any pair of that moment is, and the conditional mean that the e-processes
bet on (STATISTICS: ``E[z_i | past] <= 0`` under the null hypothesis) is the same for every share;
no weights are needed, and stopping at any time stays valid. That a *step* may have begun because of
earlier results does no harm either: those are the past. What changes with the share is only which
average is estimated: at an even pace a quiet hour counts as much as a busy one, so it is the mean
over time rather than over requests. Both arms answer the same request either way, so that the mix
of requests favours neither.

Shares are in basis points of eligible requests, paces in pairs a second, times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp

from rollout.steps import Step

__all__ = [
    "FIRST_BP",
    "FLOOR",
    "LIVE_PAIRS",
    "Budget",
    "Meter",
    "live_bp",
    "needed_pace",
    "wanted_bp",
]

FIRST_BP = 100.0
"""The share with which an adaptive mirror starts, before any traffic was seen: 1%."""

FLOOR = 1 / 60
"""Pairs a second below which no mirror falls: one a minute, so that evidence never ends."""

LIVE_PAIRS = 100
"""Pairs wanted soon after a live step began; the policy asks for up to 50."""

_LIVE_S = 60.0
_LEAST_BP = 0.01
_TOLERATED = 1.25
_MEMORY_S = 60.0
_SURGE = 20
_CALLS_PER_PAIR = 2
_BACKLOG_S = 60.0
_LEAST_BACKLOG = 50


@dataclass(frozen=True, slots=True)
class Meter:
    """How many a second, from a counter that is read now and then.

    A mean that forgets within about a minute: of a counter read at intervals ``dt`` it is the sum
    of the counts over the sum of the intervals, each weighted by ``exp(-age / 60)``.
    """

    at: float | None = None
    count: int = 0
    events: float = 0.0
    seconds: float = 0.0
    latest: float = 0.0

    def read(self, count: int, now: float) -> Meter:
        """Return the meter after a reading; a clock that was set back starts it anew."""
        if self.at is None or now < self.at:
            return Meter(now, count)
        passed = now - self.at
        if passed == 0:
            return self
        new = max(0, count - self.count)
        kept = exp(-passed / _MEMORY_S)
        return replace(
            self,
            at=now,
            count=count,
            events=self.events * kept + new,
            seconds=self.seconds * kept + passed,
            latest=new / passed if new >= _SURGE else 0.0,
        )

    @property
    def mean(self) -> float | None:
        """The mean rate, or ``None`` before the second reading."""
        return self.events / self.seconds if self.seconds else None

    @property
    def high(self) -> float | None:
        """The mean, or the latest rate where that is higher: a surge counts at once."""
        mean = self.mean
        return None if mean is None else max(mean, self.latest)


@dataclass(frozen=True, slots=True)
class Budget:
    """What the judge may still cost today; ``None``: no limit.

    ``microusd_per_call`` is what a call has cost today on average, ``None`` before the first.
    """

    calls: int | None = None
    microusd: int | None = None
    microusd_per_call: float | None = None

    def pairs(self, noise: float) -> float | None:
        """Return how many pairs it pays for, each judged in both orders; ``None``: any number.

        ``noise`` is the share of pairs that also go to the baseline again, and are judged too.
        """
        calls: list[float] = []
        if self.calls is not None:
            calls.append(self.calls)
        if self.microusd is not None:
            if self.microusd <= 0:
                calls.append(0)
            elif self.microusd_per_call:
                calls.append(self.microusd / self.microusd_per_call)
        if not calls:
            return None
        return max(0.0, min(calls)) / _CALLS_PER_PAIR / (1 + noise)


def needed_pace(
    step: Step,
    *,
    pairs: int,
    pending: int,
    finishing: float | None,
    elapsed: float,
    target: float,
    affordable: float | None,
    left_today: float,
) -> float:
    """Return how many pairs a second should be gathered in a step.

    ``pairs`` have come since the step began ``elapsed`` seconds ago, ``pending`` are captured and
    not evaluated, ``finishing`` is how many a second the workers finish (``None``: not known yet).

    A mirror step gathers its ``min_pairs`` evenly over ``target`` seconds, or over its
    ``min_duration`` where that is longer, catches up when it is behind, and goes on at that pace
    while proofs are open. A live step gathers :data:`LIVE_PAIRS` within its ``min_duration``, so
    that it need not wait for them, and then :data:`FLOOR`, as a bake and a pause do. Where the
    judge's budget pays for fewer pairs (``affordable``) than the step needs, they are spread over
    what is left of the day (``left_today``). Where pairs wait for more than a minute, half of what
    the workers manage is gathered until they have caught up.
    """
    match step.kind:
        case "mirror":
            span, wanted = max(target, step.min_duration), step.min_pairs
            afterwards = wanted / span
        case "analysis":
            span, wanted, afterwards = max(_LIVE_S, step.min_duration), LIVE_PAIRS, FLOOR
        case _:
            span, wanted, afterwards = target, 0, FLOOR
    missing = wanted - pairs - pending
    pace = missing / max(span - elapsed, span / 10) if missing > 0 else afterwards
    if affordable is not None and affordable < max(missing, FLOOR * left_today):
        pace = min(pace, affordable / max(left_today, 1.0))
    if finishing is not None and pending > max(_LEAST_BACKLOG, finishing * _BACKLOG_S):
        pace = min(pace, finishing / 2)
    return max(pace, FLOOR)


def wanted_bp(pace: float, *, traffic: float | None, most_bp: float, present_bp: float) -> float:
    """Return the share to sample, so that ``traffic`` requests a second give ``pace`` pairs.

    Never above ``most_bp``. The present share stays where it is off by no more than a quarter,
    because every change is written to the store and read by every gateway, and where no traffic
    was seen.
    """
    if not traffic:
        return min(present_bp, most_bp)
    share = min(most_bp, max(_LEAST_BP, round(pace / traffic * 10_000, 2)))
    if (
        present_bp <= most_bp
        and share <= present_bp * _TOLERATED
        and (present_bp <= share * _TOLERATED)
    ):
        return present_bp
    return share


def live_bp(
    *, pending: int, finishing: float | None, traffic: float | None, most_bp: int, present_bp: int
) -> int:
    """Return the share of live answers to check: all that are wanted, or what workers manage.

    ``pending``, ``finishing`` and ``traffic`` are those of the live stream alone, which workers
    take first. Where it waits for more than a minute it is cut to half of what they manage, so
    that mirrored pairs get their turn; without a backlog it doubles until it is whole again. Both
    arms are sampled alike, and by the same argument as above the cut favours neither.
    """
    if finishing is None or not traffic:
        return min(present_bp, most_bp)
    if pending > max(_LEAST_BACKLOG, finishing * _BACKLOG_S):
        return max(1, min(present_bp, most_bp, round(finishing / 2 / traffic * 10_000)))
    if pending <= max(_LEAST_BACKLOG, finishing * _BACKLOG_S) / 4:
        return min(most_bp, present_bp * 2)
    return min(present_bp, most_bp)
