"""Judging one pair in both orders: cache, budget, call, one repair, and what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from gateway.errors import StoreError
from shadow.answer import Answer
from shadow.judge.cache import JudgeCache, Kept, cache_key
from shadow.judge.client import MAX_OUTPUT_TOKENS, JudgeClient, JudgeUnavailable, Reply
from shadow.judge.pairwise import Comparison, Order, combine
from shadow.judge.parse import Unparsed, Verdict, parse_verdict, repair_messages
from shadow.judge.prompt import SYSTEM, USER, Material, material, render
from shadow.pair import Pair
from shadow.prices import Prices

_log = logging.getLogger("coalmine.worker")

MAX_PROMPT_CHARS = 200_000
"""Characters of data above which a pair is unjudgeable: nothing is ever cut to fit."""

_CHARS_PER_TOKEN = 3
"""Few, so that what is reserved is rather too much than too little."""


class Spending(Protocol):
    """Money for the judge, as one pair sees it."""

    async def reserve(self, *, calls: int, microusd: int) -> bool:
        """Set the most that `calls` calls may cost aside; False where the budget is used up."""

    async def settle(self, *, calls: int, microusd: int) -> None:
        """Add what was spent beyond what was reserved (negative: give back)."""


@dataclass(frozen=True, slots=True)
class Judgment:
    """One order of one pair: a verdict, or an error with the transcript that shows it."""

    order: Order
    model: str
    verdict: Verdict | None = None
    error: str | None = None
    transcript: str | None = None
    fingerprint: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0
    latency_s: float = 0.0
    cached: bool = False
    key: str | None = None
    cache_key: str | None = None
    """Under which key the verdict is kept, whether it came from there or goes there."""

    @property
    def kept(self) -> Kept | None:
        """The verdict for the cache; None for an error, and for one that came from there."""
        if self.verdict is None or self.key is None:
            return None
        return Kept(self.key, self.verdict, self.model, self.fingerprint)


@dataclass(frozen=True, slots=True)
class Judged:
    """What judging came to. `comparison` is there only for `status` judged."""

    status: Literal["judged", "judge_error", "budget_exhausted", "unjudgeable"]
    judgments: tuple[Judgment, ...] = ()
    comparison: Comparison | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Call:
    order: Order
    material: Material
    key: str
    kept: dict[str, Any] | None = field(default=None)


class Judge:
    """One judge with its rubric. `nonce` returns new random text for every call."""

    def __init__(
        self,
        client: JudgeClient,
        *,
        endpoint: str,
        rubric: str,
        nonce: Callable[[], str],
        cache: JudgeCache | None = None,
        prices: Prices = Prices(),  # noqa: B008 - frozen
    ) -> None:
        self.client = client
        self._endpoint = endpoint
        self._rubric = rubric
        self._nonce = nonce
        self._cache = cache
        self._prices = prices

    async def compare(self, pair: Pair, spending: Spending) -> Judged:
        """Judge both orders at the same time and combine them. Never raises for the judge's faults.

        Both orders are reserved before the first is sent, so that no pair is judged in one only.
        """
        if pair.baseline is None or pair.candidate is None:
            raise ValueError("a comparison needs both arms")
        first, second = pair.baseline.answer, pair.candidate.answer
        calls = [
            await self._prepare(pair, "AB", first, second),
            await self._prepare(pair, "BA", second, first),
        ]
        if calls[0].material.characters > MAX_PROMPT_CHARS:
            return Judged("unjudgeable", reason="unjudgeable_length")
        open_calls = [call for call in calls if call.kept is None]
        reserved = sum(self._estimate(call.material) for call in open_calls)
        if open_calls and not await spending.reserve(calls=len(open_calls), microusd=reserved):
            return Judged("budget_exhausted", reason="the judge's budget for today is used up")
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._judge(call, spending)) for call in calls]
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        judgments = tuple(task.result() for task in tasks)
        await spending.settle(
            calls=0, microusd=sum(each.cost_microusd for each in judgments) - reserved
        )
        verdicts = {each.order: each.verdict for each in judgments}
        ab, ba = verdicts["AB"], verdicts["BA"]
        if ab is None or ba is None:
            reason = next(each.error for each in judgments if each.error) or ""
            return Judged("judge_error", judgments, reason=reason)
        return Judged("judged", judgments, combine(ab.verdict, ba.verdict))

    async def close(self) -> None:
        """Close the client."""
        await self.client.close()

    async def _prepare(self, pair: Pair, order: Order, first: Answer, second: Answer) -> _Call:
        data = material(pair.prompt, first, second)
        key = cache_key(
            endpoint=self._endpoint,
            model=self.client.model,
            parameters=self.client.parameters,
            rubric=self._rubric,
            material=data,
        )
        kept = None
        if self._cache is not None:
            try:
                kept = await asyncio.to_thread(self._cache.get, key)
            except StoreError:
                _log.warning("the judge's cache can't be read; asking the judge")
        return _Call(order, data, key, kept)

    def _estimate(self, data: Material) -> int:
        characters = data.characters + len(self._rubric) + len(SYSTEM) + len(USER)
        return self._prices.microusd(characters // _CHARS_PER_TOKEN, MAX_OUTPUT_TOKENS)

    async def _judge(self, call: _Call, spending: Spending) -> Judgment:
        if call.kept is not None:
            try:
                return Judgment(
                    call.order,
                    model=str(call.kept["model"]),
                    verdict=Verdict.model_validate(call.kept["verdict"]),
                    fingerprint=call.kept.get("fingerprint"),
                    cached=True,
                    cache_key=call.key,
                )
            except (KeyError, ValidationError):
                _log.warning("a kept verdict can't be read; asking the judge")
        nonce = self._nonce()
        while nonce in str(call.material):
            nonce = self._nonce()
        messages = render(rubric=self._rubric, material=call.material, nonce=nonce)
        judgment = Judgment(call.order, model=self.client.model, cache_key=call.key)
        try:
            reply = await self.client.ask(messages)
            judgment = self._add(judgment, reply)
            parsed = parse_verdict(reply.text)
            estimate = self._estimate(call.material)
            if isinstance(parsed, Unparsed) and await spending.reserve(calls=1, microusd=estimate):
                try:
                    again = await self.client.ask(repair_messages(messages, reply.text, parsed))
                finally:
                    await spending.settle(calls=0, microusd=-estimate)
                judgment = self._add(judgment, again)
                parsed = parse_verdict(again.text)
        except JudgeUnavailable as error:
            return replace(judgment, error=f"transport: {error}")
        if isinstance(parsed, Unparsed):
            return replace(judgment, error=f"no verdict: {parsed.reason}")
        return replace(judgment, verdict=parsed, transcript=None, key=call.key)

    def _add(self, judgment: Judgment, reply: Reply) -> Judgment:
        said = f"{judgment.transcript}\n---\n{reply.text}" if judgment.transcript else reply.text
        cost = self._prices.microusd(reply.input_tokens, reply.output_tokens)
        return replace(
            judgment,
            model=reply.model,
            fingerprint=reply.fingerprint,
            transcript=said,
            input_tokens=judgment.input_tokens + reply.input_tokens,
            output_tokens=judgment.output_tokens + reply.output_tokens,
            cost_microusd=judgment.cost_microusd + cost,
            latency_s=reply.latency_s,
        )
