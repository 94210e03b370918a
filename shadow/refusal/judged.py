"""The judge's deployment, asked what an answer does with its request: cached, and within budget."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable

import msgspec
from pydantic import ValidationError

from gateway.errors import StoreError
from gateway.store.engine import Store
from shadow.judge.cache import JudgeCache, keep_payload
from shadow.judge.client import MAX_OUTPUT_TOKENS, JudgeClient, JudgeUnavailable
from shadow.judge.judge import Spending
from shadow.prices import Prices
from shadow.refusal.deciding import Decided, Question
from shadow.refusal.prompt import SYSTEM, TEMPLATE, USER, Read, conversation_of, render

_log = logging.getLogger("coalmine.worker")

MAX_CHARS = 50_000
"""Characters of request and answer above which nothing is asked; nothing is ever cut to fit."""

_CHARS_PER_TOKEN = 3


class JudgeDecider:
    """Asks one question an answer. `nonce` gives new random text, `clock` Unix seconds."""

    name = "judge"

    def __init__(
        self,
        client: JudgeClient,
        store: Store,
        *,
        endpoint: str,
        nonce: Callable[[], str],
        clock: Callable[[], float],
        prices: Prices = Prices(),  # noqa: B008 - frozen
    ) -> None:
        self._client = client
        self._store = store
        self._cache = JudgeCache(store)
        self._endpoint = endpoint
        self._nonce = nonce
        self._clock = clock
        self._prices = prices

    async def decide(self, question: Question, spending: Spending) -> Decided:
        """Read one answer together with what it answers."""
        conversation = conversation_of(question.prompt)
        size = len(conversation) + len(question.text)
        if size > MAX_CHARS:
            return Decided(None, "failed")
        key = self._key(conversation, question.text)
        kept = await self._kept(key)
        if kept is not None:
            return Decided(kept.stance, "cached")
        tokens = (size + len(SYSTEM) + len(USER)) // _CHARS_PER_TOKEN
        reserved = self._prices.microusd(tokens, MAX_OUTPUT_TOKENS)
        if not await spending.reserve(calls=1, microusd=reserved):
            return Decided(None, "budget_exhausted")
        spent = 0
        try:
            nonce = self._nonce()
            while nonce in conversation or nonce in question.text:
                nonce = self._nonce()
            reply = await self._client.ask(
                lambda: render(conversation=conversation, answer=question.text, nonce=nonce)
            )
            spent = self._prices.microusd(reply.input_tokens, reply.output_tokens)
            read = Read.model_validate_json(reply.text)
        except (JudgeUnavailable, ValidationError) as error:
            # Type only: the reply may quote a customer.
            _log.warning("the judge gave no reading of an answer: %s", type(error).__name__)
            return Decided(None, "failed", spent / 1_000_000)
        finally:
            await spending.settle(calls=0, microusd=spent - reserved)
        await self._keep(key, read)
        return Decided(read.stance, "decided", spent / 1_000_000)

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()

    def _key(self, conversation: str, answer: str) -> str:
        document = {
            "endpoint": self._endpoint,
            "model": self._client.model,
            "parameters": self._client.parameters,
            "template": [TEMPLATE, SYSTEM + USER],
            "conversation": conversation,
            "answer": answer,
        }
        return hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()

    async def _kept(self, key: str) -> Read | None:
        try:
            payload = await asyncio.to_thread(self._cache.get, key)
            return None if payload is None else Read(evidence="", stance=payload["stance"])
        except (StoreError, KeyError, ValidationError):
            _log.warning("a kept reading can't be read; asking the judge")
            return None

    async def _keep(self, key: str, read: Read) -> None:
        """Keep the stance alone: the evidence may quote the answer."""
        payload = {"stance": read.stance}
        try:
            await asyncio.to_thread(keep_payload, self._store, key, payload, now=self._clock())
        except StoreError as error:
            _log.warning("a reading was not kept: %s", error)
