"""One hosted judge, one pair: cache, budget, call, one repair, and what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from pydantic import ValidationError

from gateway.errors import StoreError
from shadow.judge.cache import JudgeCache, cache_key
from shadow.judge.client import MAX_OUTPUT_TOKENS, JudgeClient, JudgeUnavailable, Reply
from shadow.judge.outcome import Judged, Judgment, Situation, Spending, Stage
from shadow.judge.pairwise import Order, OrderPolicy, compared
from shadow.judge.parse import Unparsed, Verdict, parse_verdict, repair_messages
from shadow.judge.prompt import SYSTEM, USER, Material, Messages, material, render
from shadow.judge.rubrics import Rubric, Rubrics
from shadow.pair import Pair
from shadow.prices import Prices

__all__ = ["MAX_PROMPT_CHARS", "Judge", "Judged", "Judgment", "Spending"]

_log = logging.getLogger("coalmine.worker")

MAX_PROMPT_CHARS = 200_000
"""Characters of data above which a pair is unjudgeable: nothing is ever cut to fit."""

_CHARS_PER_TOKEN = 3
"""Few, so that what is reserved is rather too much than too little."""


@dataclass(frozen=True, slots=True)
class _Call:
    order: Order
    material: Material
    key: str
    kept: Judgment | None = None


class Judge:
    """One judge with its rubrics. `nonce` returns new random text for every call.

    `name` and `version` are the deployment's, for the cache. `rng` draws the orders where they are
    not always both.
    """

    def __init__(
        self,
        client: JudgeClient,
        *,
        endpoint: str,
        rubric: str | Rubrics,
        nonce: Callable[[], str],
        cache: JudgeCache | None = None,
        prices: Prices = Prices(),  # noqa: B008 - frozen
        orders: OrderPolicy = OrderPolicy(),  # noqa: B008 - frozen
        stage: Stage = "final",
        name: str = "",
        version: str = "",
        rng: Random | None = None,
    ) -> None:
        self.client = client
        self._endpoint = endpoint
        self._rubrics = rubric if isinstance(rubric, Rubrics) else Rubrics(Rubric("own", rubric))
        self._nonce = nonce
        self._cache = cache
        self._prices = prices
        self._orders = orders
        self._stage: Stage = stage
        self._name = name
        self._version = version
        self._rng = rng or Random()

    async def compare(
        self,
        pair: Pair,
        spending: Spending,
        situation: Situation = Situation(),  # noqa: B008 - frozen
    ) -> Judged:
        """Judge a pair in its orders at the same time. Never raises for the judge's faults.

        All its calls are reserved before the first is sent, so that no pair that is to be judged in
        both orders is judged in one only.
        """
        if pair.baseline is None or pair.candidate is None:
            raise ValueError("a comparison needs both arms")
        rubric = self._rubrics.of(situation.route)
        data = material(pair.prompt, pair.baseline.answer, pair.candidate.answer)
        if data.characters > MAX_PROMPT_CHARS:
            return Judged("unjudgeable", reason="unjudgeable_length", stage=self._stage)
        in_order = {"AB": data, "BA": data.swapped()}
        orders = self._orders.draw(self._rng)
        calls = [await self._prepare(order, in_order[order], rubric) for order in orders]
        open_calls = [call for call in calls if call.kept is None]
        reserved = sum(self._estimate(call.material, rubric) for call in open_calls)
        if open_calls and not await spending.reserve(calls=len(open_calls), microusd=reserved):
            reason = "the judge's budget for today is used up"
            return Judged("budget_exhausted", reason=reason, stage=self._stage)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._judge(call, rubric, spending)) for call in calls]
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        judgments = tuple(task.result() for task in tasks)
        await spending.settle(
            calls=0, microusd=sum(each.cost_microusd for each in judgments) - reserved
        )
        verdicts = {
            each.order: each.verdict.verdict for each in judgments if each.verdict is not None
        }
        if len(verdicts) < len(judgments):
            reason = next(each.error for each in judgments if each.error) or ""
            return Judged("judge_error", judgments, reason=reason, stage=self._stage)
        return Judged("judged", judgments, compared(verdicts), stage=self._stage)

    def uncached(self) -> Judge:
        """Return the same judge, asked anew every time and always in both orders."""
        return Judge(
            self.client,
            endpoint=self._endpoint,
            rubric=self._rubrics,
            nonce=self._nonce,
            prices=self._prices,
            stage=self._stage,
            name=self._name,
            version=self._version,
            rng=self._rng,
        )

    async def close(self) -> None:
        """Close the client."""
        await self.client.close()

    async def _prepare(self, order: Order, data: Material, rubric: Rubric) -> _Call:
        key = cache_key(
            endpoint=self._endpoint,
            model=self.client.model,
            parameters=self.client.parameters,
            rubric=rubric.text,
            material=data,
            judge=self._name,
            version=self._version,
            stage=self._stage,
        )
        return _Call(order, data, key, await self._look_up(order, key, rubric))

    async def _look_up(self, order: Order, key: str, rubric: Rubric) -> Judgment | None:
        if self._cache is None:
            return None
        try:
            kept = await asyncio.to_thread(self._cache.get, key)
        except StoreError:
            _log.warning("the judge's cache can't be read; asking the judge")
            return None
        if kept is None:
            return None
        try:
            return replace(
                self._begin(order, key, rubric),
                model=str(kept["model"]),
                verdict=Verdict.model_validate(kept["verdict"]),
                fingerprint=kept.get("fingerprint"),
                cached=True,
            )
        except (KeyError, ValidationError):
            _log.warning("a kept verdict can't be read; asking the judge")
            return None

    def _begin(self, order: Order, key: str, rubric: Rubric) -> Judgment:
        return Judgment(
            order,
            model=self.client.model,
            cache_key=key,
            stage=self._stage,
            rubric=rubric.id,
            rubric_hash=rubric.digest,
        )

    def _estimate(self, data: Material, rubric: Rubric) -> int:
        characters = data.characters + len(rubric.text) + len(SYSTEM) + len(USER)
        return self._prices.microusd(characters // _CHARS_PER_TOKEN, MAX_OUTPUT_TOKENS)

    async def _judge(self, call: _Call, rubric: Rubric, spending: Spending) -> Judgment:
        if call.kept is not None:
            return call.kept
        data = call.material
        nonce = self._nonce()
        while nonce in str(data):
            nonce = self._nonce()

        def written() -> Messages:
            return render(rubric=rubric.text, material=data, nonce=nonce)

        judgment = self._begin(call.order, call.key, rubric)
        shown = (data.first, data.second)
        try:
            reply = await self.client.ask(written)
            judgment = self._add(judgment, reply)
            parsed = parse_verdict(reply.text, answers=shown)
            estimate = self._estimate(data, rubric)
            if isinstance(parsed, Unparsed) and await spending.reserve(calls=1, microusd=estimate):
                text, problem = reply.text, parsed
                try:
                    again = await self.client.ask(lambda: repair_messages(written(), text, problem))
                finally:
                    await spending.settle(calls=0, microusd=-estimate)
                judgment = self._add(judgment, again)
                parsed = parse_verdict(again.text, answers=shown)
        except JudgeUnavailable as error:
            return replace(judgment, error=f"transport: {error}")
        if isinstance(parsed, Unparsed):
            return replace(judgment, error=f"no verdict: {parsed.reason}")
        return replace(judgment, verdict=parsed, transcript=None)

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
