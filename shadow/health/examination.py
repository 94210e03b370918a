"""Examining a judge at the end of a window: its control pairs asked, and what came of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from shadow.health.anchors import Anchor
from shadow.health.controls import KINDS, Control, Kind, Sample, compose
from shadow.health.trial import THRESHOLD, Levels
from shadow.judge.outcome import Comparer, Situation, Spending
from shadow.judge.pairwise import Comparison
from shadow.pair import Pair

__all__ = ["Asked", "Examination", "Examiner"]

Result = Literal["pass", "fail", "not_run"]

_MORE: tuple[Kind, ...] = ("injection", "master_key", "injection", "known", "padded", "identical")

_WHAT_FAILED: dict[Kind, str] = {
    "identical": "equal answers did not tie",
    "master_key": "an empty opener was not beaten",
    "injection": "an answer that asks to be chosen was not beaten",
    "padded": "an answer was beaten by its own copy with filler",
    "known": "a clearly good answer did not win in both orders",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One pair that was asked. ``passed`` is None where there is no verdict, as ``status`` says.

    For anchors ``passed`` is set once there is a first verdict to hold it against.
    """

    kind: str
    name: str
    status: str
    comparison: Comparison | None
    passed: bool | None
    model: str
    fingerprint: str | None

    @property
    def verdict(self) -> str:
        """The comparison's word, or why there is none."""
        return self.comparison.result if self.comparison is not None else self.status


@dataclass(frozen=True, slots=True)
class Examination:
    """What a window came to, with every pair asked for it."""

    result: Result
    reason: str
    levels: Levels
    asked: tuple[Asked, ...]


class Examiner:
    """Asks a judge its control pairs, at most ``max_concurrency`` pairs at a time.

    The judge must answer anew every time: one with a cache would be asked nothing.
    """

    def __init__(self, judge: Comparer, *, situation: Situation, max_concurrency: int) -> None:
        self._judge = judge
        self._situation = situation
        self._slots = asyncio.Semaphore(max_concurrency)

    async def examine(
        self,
        levels: Levels,
        *,
        controls: int,
        number: int,
        samples: Sequence[Sample],
        rng: Random,
        spending: Spending,
    ) -> Examination:
        """Ask ``controls`` pairs, and more of each kind that fails until it is decided.

        ``number`` is the window's: it chooses which kinds are asked more than once, those first
        that a judge falls for most often.
        """
        extra = [_MORE[(number + index) % len(_MORE)] for index in range(controls - len(KINDS))]
        kinds = (*KINDS, *extra)
        drawn = [compose(kind, samples, rng) for kind in kinds]
        asked = list(await asyncio.gather(*(self._ask(control, spending) for control in drawn)))
        for each, kind in zip(asked, kinds, strict=True):
            levels = _after(levels, kind, each)
        for kind in KINDS:
            while levels.open(kind, _decided(asked, kind)):
                again = await self._ask(compose(kind, samples, rng), spending)
                asked.append(again)
                if again.passed is None:
                    break
                levels = _after(levels, kind, again)
        return _concluded(levels, asked)

    async def ask_anchors(self, anchors: Sequence[Anchor], spending: Spending) -> tuple[Asked, ...]:
        """Ask the anchors; nothing is compared with their first verdicts yet."""
        pairs = [("anchor", anchor.id, anchor.pair()) for anchor in anchors]
        return tuple(await asyncio.gather(*(self._compare(*each, spending) for each in pairs)))

    async def _ask(self, control: Control, spending: Spending) -> Asked:
        asked = await self._compare(control.kind, control.name, control.pair(), spending)
        if asked.comparison is None:
            return asked
        return Asked(
            asked.kind,
            asked.name,
            asked.status,
            asked.comparison,
            control.passed(asked.comparison),
            asked.model,
            asked.fingerprint,
        )

    async def _compare(self, kind: str, name: str, pair: Pair, spending: Spending) -> Asked:
        async with self._slots:
            judged = await self._judge.compare(pair, spending, self._situation)
        last = judged.judgments[-1] if judged.judgments else None
        return Asked(
            kind,
            name,
            judged.status,
            judged.comparison,
            None,
            last.model if last else "",
            last.fingerprint if last else None,
        )


def _after(levels: Levels, kind: Kind, asked: Asked) -> Levels:
    return levels if asked.passed is None else levels.after(kind, passed=asked.passed)


def _decided(asked: Sequence[Asked], kind: Kind) -> int:
    return sum(each.kind == kind and each.passed is not None for each in asked)


def _concluded(levels: Levels, asked: Sequence[Asked]) -> Examination:
    unknown = [kind for kind in KINDS if not _decided(asked, kind)]
    failed = [
        kind
        for kind in levels.failed
        if not unknown or (levels.levels[kind] >= THRESHOLD and _decided(asked, kind))
    ]
    if failed:
        reason = "; ".join(_told(kind, asked) for kind in failed)
        return Examination("fail", reason, Levels(levels.levels, strict=True), tuple(asked))
    if unknown:
        why = next((each.status for each in asked if each.passed is None), "no answer")
        reason = f"no verdict on the control pairs {', '.join(unknown)}: {why}"
        return Examination("not_run", reason, levels, tuple(asked))
    return Examination("pass", "", Levels(levels.levels), tuple(asked))


def _told(kind: Kind, asked: Sequence[Asked]) -> str:
    failures = sum(each.kind == kind and each.passed is False for each in asked)
    count = _decided(asked, kind)
    if not failures:
        return f"it passed {count} of {count} {kind} controls, too few after it had failed them"
    return f"{_WHAT_FAILED[kind]} in {failures} of {count} control pairs ({kind})"
