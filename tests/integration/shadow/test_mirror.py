"""How a request is written for a deployment, and how gently it is sent."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any

from pydantic import SecretStr

from gateway.settings import Deployment
from gateway.store.tables import CaptureRow
from shadow.lag import LoopLag
from shadow.mirror import Mirrored, MirrorTarget


def capture(**values: Any) -> CaptureRow:
    """Build a capture that was never stored."""
    body = {"model": "bot", "messages": [{"role": "user", "content": "hi"}], "seed": 7}
    return CaptureRow(
        **{
            "id": "c", "route": "bot", "request_id": "r", "created_at": 0.0,
            "endpoint": "/v1/chat/completions", "variant": "baseline", "reason": "split",
            "deployment": "v6", "stream": False, "request_body": json.dumps(body),
            "response_body": "{}", "status": 200, "total_s": 1.0, "split_revision": 1,
            "epoch": 0, "weight_bp": 0,
            **values,
        }
    )  # fmt: skip


def send(
    serving: Any, handler: Any, *captures: CaptureRow, metrics: Any = None,
    timeout_s: float = 10.0, max_body_bytes: int = 10_000, lag: LoopLag | None = None,
    **deployment: Any,
) -> tuple[list[Mirrored], Any, float]:  # fmt: skip
    """Send captures one after the other; return the results, the server, the share in use."""

    async def scenario() -> tuple[list[Mirrored], Any, float]:
        async with serving(handler) as fake:
            if metrics is not None:
                fake.metrics = metrics
            target = MirrorTarget(
                Deployment(base_url=fake.url, model="model-v7", **deployment),
                api_key=SecretStr("sk-1"),
                max_body_bytes=max_body_bytes,
                rng=Random(1),
                lag=lag,
            )
            try:
                made = [
                    await target.send(each, timeout_s=timeout_s, max_concurrency=4)
                    for each in captures
                ]
                return made, fake, target._limiter.share
            finally:
                await target.close()

    return asyncio.run(asyncio.wait_for(scenario(), 20))


def test_the_candidate_gets_its_own_prompt_and_parameters(
    serving: Any, reply_with: Any, chat_document: Any
) -> None:
    """Model, system prompt and parameters are the deployment's; the rest is the client's."""
    (made,), fake, _ = send(
        serving,
        lambda _r: reply_with(chat_document("ok")),
        capture(),
        system_prompt="be kind",
        parameters={"temperature": 0.1},
    )
    sent = fake.requests[0].json
    assert sent["messages"][0] == {"role": "system", "content": "be kind"}
    assert (sent["model"], sent["temperature"], sent["seed"]) == ("model-v7", 0.1, 7)
    assert made.arm.answer.text == "ok"
    assert made.arm.latency_s is not None
    assert made.arm.ttft_s is not None


def test_an_answer_beyond_the_cap_is_the_candidates_failure(
    serving: Any, reply_with: Any, chat_document: Any
) -> None:
    """A model that never stops is not dropped from the evidence."""
    (made,), _, _ = send(serving, lambda _r: reply_with(chat_document("x" * 20_000)), capture())
    assert made.arm.failed
    assert "larger than" in (made.arm.answer.error or "")


def test_a_deployment_that_stays_busy_is_given_up_in_time(serving: Any, reply_with: Any) -> None:
    """A pause that would outlast the timeout is not waited for."""
    (made,), fake, share = send(
        serving, lambda _r: reply_with({}, 429, {"retry-after": "60"}), capture(), timeout_s=2.0
    )
    assert (made.arm.status, made.arm.failed) == (429, True)
    assert len(fake.requests) == 1
    assert share < 1.0


def test_a_growing_queue_narrows_the_mirror(
    serving: Any, reply_with: Any, chat_document: Any, monkeypatch: Any
) -> None:
    """The engine's own metric holds the mirror back before users notice."""
    monkeypatch.setattr("shadow.mirror._POLL_S", 0.0)
    text = b'vllm:num_requests_waiting{model_name="m"} 12.0\n'
    _, _, share = send(
        serving,
        lambda _r: reply_with(chat_document("ok")),
        *(capture() for _ in range(4)),
        metrics=reply_with(raw=text),
    )
    assert share < 0.5


def test_what_cannot_be_sent_is_said(serving: Any, reply_with: Any) -> None:
    """A body that is no request, and a key that is refused, are no facts about the model."""
    (broken, refused), _, _ = send(
        serving, lambda _r: reply_with({}, 401), capture(request_body="[]"), capture()
    )
    assert broken.unusable
    assert "api_key_env" in (refused.unusable or "")


def test_a_latency_timed_by_a_busy_worker_is_unknown(
    serving: Any, reply_with: Any, chat_document: Any
) -> None:
    """The answer counts, but its latency is left out rather than held against the candidate."""

    class Late(LoopLag):
        def disturbed(self, started: float, ended: float) -> bool:
            return ended >= started

    (made,), _, _ = send(serving, lambda _r: reply_with(chat_document("ok")), capture(), lag=Late())
    assert made.arm.answer.text == "ok"
    assert made.arm.latency_s is None
    assert made.arm.ttft_s is None
