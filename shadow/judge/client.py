"""Asking the judge: any OpenAI-compatible endpoint, through the `openai` client."""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from openai import (
    DEFAULT_CONNECTION_LIMITS,
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    DefaultAsyncHttpxClient,
)
from pydantic import SecretStr

from gateway.upstream import Outbound
from shadow.judge.parse import RESPONSE_FORMAT
from shadow.judge.prompt import Messages
from shadow.transport import UpstreamTransport

_log = logging.getLogger("coalmine.worker")

RETRIES = 3
TIMEOUTS = 3
"""So many calls in a row without a reply in time, and the judge is left alone for a while ..."""

PAUSE_S = 30.0
"""... of this many seconds, in which pairs end as judge_error at once instead of piling up."""

MAX_OUTPUT_TOKENS = 2048
_LONGEST_WAIT_S = 30.0
_RETRIED = frozenset({408, 409, 425, 429})
_OPTIONAL = ("seed", "temperature", "response_format", "max_tokens")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the judge said, and what it took. `latency_s` is the last attempt's, in seconds."""

    text: str
    model: str
    fingerprint: str | None
    input_tokens: int
    output_tokens: int
    latency_s: float


class JudgeUnavailable(Exception):
    """The judge gave no reply, after retries where they could help. Names no secret."""


class JudgeClient:
    """One judge deployment. Safe to use from many tasks of one event loop.

    `parameters` are the deployment's own and win over temperature 0 and a fixed seed. A parameter
    that the endpoint refuses is left out from then on. `response_format` is what replies must be,
    that of a verdict unless another question is asked. `sleep`, `rng` and `clock` (seconds) serve
    the waits between retries.
    """

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key: SecretStr | None,
        timeout_s: float,
        max_concurrency: int,
        parameters: Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] = RESPONSE_FORMAT,
        outbound: Outbound = Outbound(),  # noqa: B008 - frozen
        backoff_s: float = 0.5,
        rng: Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=api_key.get_secret_value() if api_key else "none",
            max_retries=0,
            timeout=timeout_s,
            # The library's own choice of HTTP client, whose package changed between its versions.
            http_client=DefaultAsyncHttpxClient(
                # As many connections as calls in flight: none waits for another's to be free.
                transport=_transport(base_url, outbound, pool_size=max_concurrency),
                timeout=timeout_s,
                trust_env=False,
            ),
        )
        self._slots = asyncio.Semaphore(max_concurrency)
        self._backoff_s = backoff_s
        self._rng = rng or Random()
        self._sleep = sleep
        self._clock = clock
        self._timeouts = 0
        self._paused_until = 0.0
        self._parameters: dict[str, Any] = {
            "temperature": 0,
            "seed": 0,
            "max_tokens": MAX_OUTPUT_TOKENS,
            **(parameters or {}),
            "response_format": dict(response_format),
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """The sampling parameters in use; part of the cache's key."""
        return dict(self._parameters)

    async def ask(self, messages: Messages | Callable[[], Messages]) -> Reply:
        """Send one call; retry what may pass. Raises `JudgeUnavailable`.

        A function that returns the messages is called when it is this call's turn, and again for a
        retry, so that a call that waits holds no prompt.
        """
        if self._clock() < self._paused_until:
            raise JudgeUnavailable("no reply in time lately; it is asked again soon")
        attempt = 0
        while True:
            sent = self.parameters
            try:
                async with self._slots:
                    written = messages() if callable(messages) else messages
                    return await self._once(written, sent)
            except APIStatusError as error:
                if self._without_refused(error, sent):
                    continue
                wait = self._after_status(error, attempt)
            except APIConnectionError as error:
                wait = self._after_silence(error, attempt)
            except (APIError, ValueError, TypeError, AttributeError) as error:
                raise JudgeUnavailable(f"no usable reply: {type(error).__name__}") from None
            attempt += 1
            await self._sleep(wait)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _once(self, messages: Messages, sent: dict[str, Any]) -> Reply:
        started = self._clock()
        # The library walks typed parameters member by member; in `extra_body` they go as they are.
        create: Any = self._client.chat.completions.create
        body = {**sent, "messages": messages}
        reply = await create(model=self.model, messages=(), extra_body=body)
        latency = self._clock() - started
        self._timeouts = 0
        choices = getattr(reply, "choices", None)
        message = choices[0].message if choices else None
        usage = getattr(reply, "usage", None)
        return Reply(
            text=(message.content or message.refusal or "") if message else "",
            model=str(getattr(reply, "model", None) or self.model),
            fingerprint=getattr(reply, "system_fingerprint", None),
            input_tokens=int(getattr(usage, "prompt_tokens", None) or 0),
            output_tokens=int(getattr(usage, "completion_tokens", None) or 0),
            latency_s=latency,
        )

    def _after_status(self, error: APIStatusError, attempt: int) -> float:
        """Return how long to wait before asking again. Raises `JudgeUnavailable`."""
        status = error.status_code
        if not (status in _RETRIED or status >= 500) or attempt == RETRIES:
            raise JudgeUnavailable(f"the judge answered {status}") from None
        wanted = _retry_after(error.response.headers.get("retry-after", ""))
        return self._pause(attempt) if wanted is None else wanted

    def _after_silence(self, error: APIConnectionError, attempt: int) -> float:
        retries = RETRIES
        if isinstance(error, APITimeoutError):
            retries = 1
            self._timeouts += 1
            if self._timeouts >= TIMEOUTS:
                self._paused_until = self._clock() + PAUSE_S
                retries = 0
        if attempt >= retries:
            raise JudgeUnavailable(f"no reply: {type(error).__name__}") from None
        return self._pause(attempt)

    def _without_refused(self, error: APIStatusError, sent: dict[str, Any]) -> bool:
        """Drop the parameter that a 400 names; say whether it was sent and asking again helps."""
        if error.status_code not in (400, 422):
            return False
        said = f"{error.param or ''} {error.message}"
        for name in _OPTIONAL:
            if name in said and name in sent:
                if self._parameters.pop(name, None) is not None:
                    _log.warning("the judge does not accept %s; asking without it", name)
                return True
        return False

    def _pause(self, attempt: int) -> float:
        ceiling = min(_LONGEST_WAIT_S, self._backoff_s * 2.0**attempt)
        return ceiling * self._rng.uniform(0.5, 1.0)


def _retry_after(header: str) -> float | None:
    try:
        wait = float(header)
    except ValueError:
        return None
    return min(max(wait, 0.0), _LONGEST_WAIT_S)


def _transport(base_url: str, outbound: Outbound, *, pool_size: int) -> Any:
    package = type(DEFAULT_CONNECTION_LIMITS).__module__.partition(".")[0]
    return UpstreamTransport(
        "judge",
        base_url,
        outbound=outbound,
        pool_size=pool_size,
        library=importlib.import_module(package),
    )
