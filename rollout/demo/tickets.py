"""What is rolled out on the real engine: the route, its JSON contract, two adapters, the users.

The demo and the heavy test share it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from openai import APIStatusError, AsyncOpenAI, OpenAIError
from openai.types.chat import ChatCompletionMessageParam

from gateway.prompts import Prompt
from rollout.demo.engine import ADAPTERS, BASE, Engine
from rollout.demo.scene import ROUTE
from rollout.demo.traffic import Tally

__all__ = ["TICKET_SCHEMA", "Users", "adapter_spec", "scene_arguments"]

TICKET_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["category", "urgency", "reply"],
    "properties": {
        "category": {"type": "string", "minLength": 1},
        "urgency": {"enum": ["low", "normal", "high"]},
        "reply": {"type": "string", "minLength": 1},
    },
    "additionalProperties": False,
}
"""The contract of the route: every answer is one such object and nothing else."""

_MAX_TOKENS = 64
_USER_COUNT = 200


def scene_arguments(engine: Engine, *, seed: int) -> dict[str, Any]:
    """Return the arguments of ``build_scene`` for a system over this engine.

    Base model and adapters are deployments on the same engine; the judge is simulated.
    """
    deployments = {
        name: {
            "base_url": engine.base_url,
            "model": name,
            "parameters": {"temperature": 0},
            "manifest": {"base_model": BASE, "adapter": None if name == BASE else name},
        }
        for name in (BASE, *ADAPTERS)
    }
    judge = {"role": "judge", "first_token": "5ms"}
    return {
        "simulator": {"seed": seed, "models": {"judge": judge}},
        "changes": {
            "deployments": deployments,
            "routes": {
                ROUTE: {
                    "baseline": BASE,
                    "segment": "header:x-category",
                    "risk": "header:x-risk",
                    "contract": {"json_schema": TICKET_SCHEMA},
                }
            },
        },
    }


def adapter_spec(adapter: Literal["same", "broken"]) -> dict[str, Any]:
    """Return the rollout of an adapter: shadow, half of the users, everybody."""
    return {
        "kind": "Rollout",
        "name": f"adapter-{adapter}",
        "route": ROUTE,
        "candidate": {"deployment": adapter},
        "mirror": {
            "percentage": 50,
            "adaptive": False,
            "max_concurrency": 8,
            "timeout": "30s",
            "noise_probe": "5%",
        },
        "steps": [
            {"mirror": {"min_pairs": 80, "max_duration": "4m"}},
            {"set_weight": 50},
            {"analysis": {"min_samples": 50, "min_duration": 2, "max_duration": "2m"}},
            {"set_weight": 100},
            {"analysis": {"min_samples": 100, "min_duration": 2, "max_duration": "2m"}},
        ],
        "analysis": {
            "metrics": [
                {"name": "judge_win_rate", "margin": 0.05},
                {"name": "format_valid", "margin": 0.05, "critical": True},
                {"name": "truncation_rate", "margin": 0.05},
                {"name": "empty_rate", "margin": 0.05},
                {"name": "error_rate", "margin": 0.05, "critical": True},
                {"name": "timeout_rate", "margin": 0.05},
                {"name": "latency", "role": "signal", "slo": "2s"},
                {"name": "output_tokens", "role": "signal", "margin": "25%"},
            ],
        },
    }


class Users:
    """People who ask over and over, each through the official ``openai`` client.

    ``count`` of them ask at a time, one request after the other; every third request is streamed.
    ``seed`` fixes the order of the prompts. What they saw is in ``tally``.
    """

    def __init__(
        self, base_url: str, prompts: Sequence[Prompt], *, count: int = 6, seed: int = 1
    ) -> None:
        self.tally = Tally()
        self._base_url = base_url
        # The file goes category by category; users do not.
        self._prompts = random.Random(seed).sample(prompts, len(prompts))
        self._count = count
        self._asked = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until ``stop`` is set, then let the open requests end."""
        async with AsyncOpenAI(
            base_url=self._base_url, api_key="none", max_retries=0, timeout=60
        ) as client:
            await asyncio.gather(*(self._ask_on(client, stop) for _ in range(self._count)))

    async def _ask_on(self, client: AsyncOpenAI, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._asked += 1
            number = self._asked
            try:
                said = await self._ask(client, number)
            except APIStatusError as error:
                self.tally.statuses[error.status_code] += 1
            except OpenAIError:
                self.tally.statuses[0] += 1
            else:
                self.tally.statuses[200] += 1
                variant = said.get("x-coalmine-variant", "")
                self.tally.variants[variant] += 1
                if variant == "candidate":
                    self.tally.rollouts[said.get("x-coalmine-rollout", "")] += 1

    async def _ask(self, client: AsyncOpenAI, number: int) -> Mapping[str, str]:
        """Ask once and return the response's headers, once the whole answer is there."""
        prompt = self._prompts[number % len(self._prompts)]
        messages = cast("list[ChatCompletionMessageParam]", list(prompt.messages))
        headers = {
            "x-user-id": f"user-{number % _USER_COUNT}",
            "x-category": prompt.category,
            "x-risk": prompt.risk,
        }
        completions = client.chat.completions.with_raw_response
        if number % 3:
            answer = await completions.create(
                model=ROUTE, messages=messages, max_tokens=_MAX_TOKENS, extra_headers=headers
            )
            return answer.headers
        stream = await completions.create(
            model=ROUTE,
            messages=messages,
            max_tokens=_MAX_TOKENS,
            extra_headers=headers,
            stream=True,
        )
        async for _ in stream.parse():
            pass
        return stream.headers
