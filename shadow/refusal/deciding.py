"""Which answers a model is asked about, and where its reading goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from shadow.answer import Choice
from shadow.checks.stance import Reading, Stance, read_stance
from shadow.judge.judge import Spending
from shadow.pair import Arm, Pair, Prompt

Result = Literal["decided", "cached", "failed", "budget_exhausted"]
"""What became of one question; all but the first two leave the rules' reading as it is."""


@dataclass(frozen=True, slots=True)
class Question:
    """One answer of which the rules are not sure, with what they made of it."""

    prompt: Prompt
    text: str
    reading: Reading


@dataclass(frozen=True, slots=True)
class Decided:
    """A model's reading of one answer: None where it has none. `dollars` is what that cost."""

    stance: Stance | None
    result: Result
    dollars: float = 0.0


class Decider(Protocol):
    """A model that reads what an answer does with its request. Never raises for its own faults."""

    name: str

    async def decide(self, question: Question, spending: Spending) -> Decided:
        """Read one answer. Raises `StoreError`: without a store nothing is spent."""

    async def close(self) -> None:
        """Let go of connections and models."""


async def with_stances(
    pair: Pair,
    decider: Decider,
    spending: Spending,
    heard: Callable[[str, Decided], None] = lambda _name, _decided: None,
) -> Pair:
    """Return the pair with the model's readings of all choices that the rules are not sure of.

    Both arms are asked about by the same rule. `heard` hears of each question by the decider's
    name.
    """

    async def read(choice: Choice) -> str | None:
        if choice.refusal or choice.tool_calls or choice.finish_reason == "content_filter":
            return None
        reading = read_stance(choice.text)
        if reading.sure:
            return None
        decided = await decider.decide(Question(pair.prompt, choice.text, reading), spending)
        heard(decider.name, decided)
        return decided.stance

    async def side(arm: Arm | None) -> Arm | None:
        if arm is None or arm.failed:
            return arm
        read_all = await asyncio.gather(*(read(choice) for choice in arm.answer.choices))
        return replace(arm, stances=tuple(read_all)) if any(read_all) else arm

    baseline, candidate = await asyncio.gather(side(pair.baseline), side(pair.candidate))
    return replace(pair, baseline=baseline, candidate=candidate)
