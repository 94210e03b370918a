"""Which pairs people are asked about: drawn by a hash, each with a probability known before. Pure.

Three independent coins, each a hash of the salt, decide about a pair that both arms answered:

1. *considered*, with a probability that falls from 1 to 0 while the second half of the week's quota
   is used up. It knows nothing of the pair, so those considered are a fair sample of all. A pair
   that is not considered can't be drawn and is left out of every figure about people.
2. *random*, with the route's ``probability`` p.
3. *disagreement*, only where judges disagree: with d = p / (δ(1 - p)), cut to 1, where δ is the
   share of such pairs so far; so about as many come from here alone as from the coin before.

A considered pair is drawn with π = p, or π = 1 - (1 - p)(1 - d) where judges disagree. It depends
on the past and on what judges said, never on what a person will say, and is at least p. Labels
weigh 1/π (Horvitz and Thompson 1952), so that asking more often where judges disagree biases
nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from gateway.settings_review import RouteReview

__all__ = ["WEEK_S", "Askable", "Draw", "Pool", "draw", "probability_of", "share_considered"]

WEEK_S = 7 * 86_400.0
"""Seconds over which the quota counts: the seven days before a draw."""

_FORGET_AT = 2000
_PRIOR_PAIRS, _PRIOR_DISAGREED = 8, 2

Source = Literal["random", "disagreement"]


@dataclass(frozen=True, slots=True)
class Askable:
    """What is known of a pair that people may be asked about.

    ``score`` in [0, 1] is the judge's, for the candidate. ``salt`` is the pair's own: the rollout
    and the capture's random id.
    """

    route: str
    rules: RouteReview
    salt: str
    disagreement: bool
    score: float


@dataclass(frozen=True, slots=True)
class Pool:
    """What was there before a pair: considered pairs, those judges disagreed on, the quota used."""

    pairs: int = 0
    disagreed: int = 0
    used: int = 0

    def after(self, pair: Askable, drawn: Draw | None) -> Pool:
        """Return the pool after one pair; ``drawn`` is ``None`` where it was not considered."""
        if drawn is None:
            return self
        halved = 2 if self.pairs >= _FORGET_AT else 1
        return Pool(
            self.pairs // halved + 1,
            self.disagreed // halved + pair.disagreement,
            self.used + (drawn.source is not None),
        )

    @property
    def disagreement(self) -> float:
        """Share of pairs on which judges disagree, a quarter before any is known."""
        return (self.disagreed + _PRIOR_DISAGREED) / (self.pairs + _PRIOR_PAIRS)


@dataclass(frozen=True, slots=True)
class Draw:
    """What the coins said of a considered pair. ``source`` is ``None`` where it was not drawn."""

    probability: float
    source: Source | None
    left_arm: Literal["baseline", "candidate"]
    position: float


def draw(pair: Askable, pool: Pool) -> Draw | None:
    """Throw the coins for a pair; ``None``: the quota left it out, it could not be drawn.

    The same pair and pool give the same answer, on every machine.
    """
    if _coin(pair.salt, "considered") >= share_considered(pool.used, pair.rules.weekly_quota):
        return None
    chance = pair.rules.probability
    chances = probability_of(pair.rules, pool, disagreement=pair.disagreement)
    source: Source | None = None
    if _coin(pair.salt, "random") < chance:
        source = "random"
    elif pair.disagreement and _coin(pair.salt, "disagreement") < _extra(chance, pool.disagreement):
        source = "disagreement"
    return Draw(
        probability=chances,
        source=source,
        left_arm="baseline" if _coin(pair.salt, "side") < 0.5 else "candidate",
        position=_coin(pair.salt, "position"),
    )


def probability_of(rules: RouteReview, pool: Pool, *, disagreement: bool) -> float:
    """Return π, the probability with which a considered pair is drawn. At least rules' p."""
    chance = rules.probability
    if not disagreement:
        return chance
    return min(1.0, chance + (1 - chance) * _extra(chance, pool.disagreement))


def share_considered(used: int, quota: int) -> float:
    """Return the share of pairs considered: 1 up to half of the quota, from there down to 0.

    So the queue never grows by more than ``quota`` in a week, and heavy traffic settles where as
    many pairs are drawn as leave the last seven days.
    """
    return min(1.0, max(0.0, 2 * (1 - used / quota))) if quota else 0.0


def _extra(chance: float, disagreement: float) -> float:
    return 1.0 if chance >= 1 else min(1.0, chance / (disagreement * (1 - chance)))


def _coin(salt: str, name: str) -> float:
    """Return a number in [0, 1) that looks random and is always the same."""
    digest = hashlib.sha256(f"review:{name}:{salt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
