"""Builders for prompts, answers and pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.settings import Contract
from shadow.answer import Answer, read_answer
from shadow.pair import Arm, Pair, read_prompt


def _chat(content: str | None = "fine", **message: Any) -> Answer:
    finish = message.pop("finish_reason", "stop")
    body = {
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, **message},
                "finish_reason": finish,
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }
    return read_answer(endpoint="/v1/chat/completions", body=json.dumps(body))


@pytest.fixture
def chat() -> Callable[..., Answer]:
    """Builds the answer of a chat completion: `chat(content, tool_calls=…, finish_reason=…)`."""
    return _chat


@pytest.fixture
def pair() -> Callable[..., Pair]:
    """Builds a pair from two contents or answers, the request's fields and a contract."""

    def build(
        baseline: Answer | str | None = "fine",
        candidate: Answer | str | None = "fine",
        *,
        contract: Contract | None = None,
        slo_s: float | None = None,
        **request: Any,
    ) -> Pair:
        body = {"model": "r", "messages": [{"role": "user", "content": "hello"}], **request}
        return Pair(
            prompt=read_prompt(endpoint="/v1/chat/completions", body=json.dumps(body)),
            baseline=Arm(baseline if isinstance(baseline, Answer) else _chat(baseline)),
            candidate=Arm(candidate if isinstance(candidate, Answer) else _chat(candidate)),
            contract=contract or Contract(),
            slo_s=slo_s,
        )

    return build
