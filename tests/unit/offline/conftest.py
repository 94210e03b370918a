"""Builders of finished pairs as exports see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from shadow.answer import Answer, read_answer
from shadow.offline.material import Material
from shadow.offline.rows import Origin
from shadow.pair import read_prompt


def _answer(content: str | None, *, finish_reason: str = "stop", **message: Any) -> Answer:
    body = {
        "choices": [
            {
                "message": {"role": "assistant", "content": content, **message},
                "finish_reason": finish_reason,
            }
        ]
    }
    return read_answer(endpoint="/v1/chat/completions", body=json.dumps(body))


@pytest.fixture
def answer() -> Callable[..., Answer]:
    """Builds an answer: `answer(content, tool_calls=…, finish_reason=…)`."""
    return _answer


@pytest.fixture
def material() -> Callable[..., Material]:
    """Builds a pair: two contents or answers, the judge's word, and any field."""

    def build(
        baseline: Answer | str | None = "The refund takes five days.",
        candidate: Answer | str | None = "No idea.",
        result: str = "loss",
        *,
        request: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Material:
        body = {"messages": [{"role": "user", "content": "How long does a refund take?"}]}
        prompt = read_prompt(
            endpoint="/v1/chat/completions", body=json.dumps({**body, **(request or {})})
        )
        values: dict[str, Any] = {
            "pair_id": 7,
            "capture_id": "c7",
            "request_id": "r7",
            "stream": "mirror",
            "outcome": "compared",
            "prompt": prompt,
            "baseline": _answer(baseline) if isinstance(baseline, str) else baseline,
            "candidate": _answer(candidate) if isinstance(candidate, str) else candidate,
            "comparison": {"decided_by": "judge", "result": result},
            "segment": "billing",
            "user": "u1",
            "captured_at": 10.0,
            "finished_at": 20.0,
        }
        return Material(**{**values, **fields})

    return build


@pytest.fixture
def origin() -> Origin:
    """Where the rows come from."""
    return Origin(
        rollout="bot-v7",
        generation=1,
        baseline="v6",
        baseline_revision="rev6",
        candidate="v7",
        candidate_revision="rev7",
        rubric_hash="rubric",
        code_version="1.0",
    )
