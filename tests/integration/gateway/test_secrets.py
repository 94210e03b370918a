"""No secret reaches a sink: store, log, metrics, errors, API; on any path that a request takes."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import text
from sqlmodel import SQLModel

from gateway.settings import Settings
from gateway.split import Mirror
from gateway.store import Store
from gateway.store.evidence import load_funnel
from rollout.api import create_app
from rollout.audit import Actor
from rollout.service import RolloutService
from shadow.metrics import WorkerMetrics
from shadow.serve import build_worker

ENVIRON = {
    "APP_KEY": "k-app-5f0c1e77aa",
    "BASE_KEY": "k-upstream-91be02dd",
    "CAND_KEY": "k-candidate-77ab31",
    "JUDGE_KEY": "k-judge-40cc5e1b",
}
USER = "user-key-of-dora-8841"
WRITTEN = {
    "mail": "dora.miller@mail.example",
    "card": "4012 8888 8888 1881",
    "key": "sk-live0123456789abcdefghij",
    "password": "correct-horse-7",
    "cookie": "session=9c1185a5c5e9fc54612808977ee8f548",
    "stranger": "k-stranger-0815-4711",
}
ANSWERED = {
    "mail": "eve.adams@mail.example",
    "iban": "GB29 NWBK 6016 1331 9268 19",
    "phone": "+49 151 23456789",
    "error": "sk-errorabcdefghijklmnop123",
}
SECRETS = (*ENVIRON.values(), USER, *WRITTEN.values(), *ANSWERED.values())
ASKED = (
    f"I am {WRITTEN['mail']}, card {WRITTEN['card']}, key {WRITTEN['key']}, "
    f"password: {WRITTEN['password']}"
)
TOLD = f"Ask {ANSWERED['mail']}, {ANSWERED['iban']}, {ANSWERED['phone']}"


def chat(content: str) -> bytes:
    """Build an answer."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "x", "choices": [choice]}).encode()


async def serve(received: Any) -> None:
    """Answer as baseline, candidate or judge, and fail as the request says."""
    body = received.json
    case = body.get("metadata", {}).get("case", "")
    if body["model"] == "judge-model":
        verdict = {"evidence": "e", "verdict": "tie", "scores": {"A": 5, "B": 5},
                   "severity": "none"}  # fmt: skip
        await received.answer(chat(json.dumps(verdict) if "odd" not in str(body) else "no verdict"))
    elif case == body["model"]:
        error = {"error": {"message": f"no such key {ANSWERED['error']} of {ANSWERED['mail']}"}}
        await received.answer(json.dumps(error).encode(), status="500 Oops")
    elif body.get("stream"):
        await received.begin_stream()
        for start in range(0, len(TOLD), 9):
            event = {"choices": [{"index": 0, "delta": {"content": TOLD[start : start + 9]}}]}
            await received.chunk(b"data: %b\n\n" % json.dumps(event).encode())
        done = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        await received.chunk(b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(done).encode())
        await received.chunk(b"")
    else:
        await received.answer(chat(f"{TOLD} ({body['model']} {case})"))


def add_rollout(w: Any) -> None:
    """Apply a rollout of the candidate."""
    spec = {
        "kind": "Rollout",
        "name": "r1",
        "route": "bot",
        "candidate": {"deployment": "cand"},
        "analysis": {"metrics": [{"name": "judge_win_rate"}, {"name": "format_valid"}]},
    }
    service = RolloutService(w.store, w.settings, health=lambda _: None)
    assert service.apply(spec, actor=Actor("local", "admin")).record.id == 1


async def declare(w: Any) -> None:
    """Give every deployment a key, and declare a judge."""
    upstreams = {"base": w.baseline, "cand": w.candidate, "judge": w.candidate}
    deployments = {
        name: {
            "base_url": upstream.base_url,
            "model": f"{name}-model",
            "api_key_env": f"{name.upper()}_KEY",
        }
        for name, upstream in upstreams.items()
    }
    report = await w.reload(deployments=deployments, judge={"deployment": "judge"})
    assert report.error is None
    w.settings = Settings.model_validate(w.document)


async def finish_pairs(w: Any) -> bytes:
    """Run a worker until no pair is pending, and return its metrics."""
    registry = CollectorRegistry()
    worker = build_worker(
        w.settings, w.store, environ=ENVIRON, metrics=WorkerMetrics(registry), rubric="r"
    )
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))

    def pending() -> int:
        with w.store.read() as session:
            return sum(each.get("pending", 0) for each in load_funnel(session, 1).values())

    async with asyncio.timeout(30):
        while await asyncio.to_thread(pending):
            assert not running.done(), running
            await asyncio.sleep(0.01)
    stop.set()
    await running
    return generate_latest(registry)


def stored(store: Store, folder: Path) -> bytes:
    """Return all that a store and its folder hold: files on SQLite, every row on PostgreSQL."""
    found = b"".join(each.read_bytes() for each in folder.iterdir() if each.is_file())
    if not store.is_sqlite:
        with store.read() as session:
            for table in SQLModel.metadata.sorted_tables:
                rows = session.connection().execute(text(f'SELECT * FROM "{table.name}"')).all()
                found += b"".join(
                    bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                    for row in rows
                    for value in row
                )
    return found


def asked_of_the_api(w: Any) -> str:
    """Read whatever the API tells of a rollout, and make some of its errors."""
    service = RolloutService(w.store, w.settings, health=lambda _: None)
    client = TestClient(create_app(w.settings, w.store, service), base_url="http://127.0.0.1:8081",
                        raise_server_exceptions=False)  # fmt: skip
    with client:
        pairs = client.get("/api/v1/rollouts/r1/pairs")
        assert pairs.status_code == 200, pairs.text
        listed = [each["id"] for each in pairs.json()["pairs"]]
        assert len(listed) == 8
        answers = [pairs, *(client.get(f"/api/v1/rollouts/r1/pairs/{each}") for each in listed)]
        answers += [
            client.get(f"/api/v1/{path}")
            for path in ("gateways", "rollouts", "routes", "deployments", "audit", "openapi.json")
        ]
        answers.append(client.post("/api/v1/privacy/deletions", json={"user_key": [USER]}))
        answers.append(client.post("/api/v1/privacy/deletions", json={"user_key": USER}))
        answers.append(client.get("/api/v1/audit"))
    assert answers[-2].json()["pairs"] == len(listed)
    return "\n".join(each.text + repr(each.headers) for each in answers)


def test_no_sink_holds_a_secret(
    world: Any, store_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Seeded in prompts, answers, headers, keys and errors, and looked for everywhere."""
    caplog.set_level(logging.DEBUG)
    found: dict[str, bytes] = {}
    document: dict[str, Any] = {
        "clients": [{"name": "app", "key_env": "APP_KEY", "may_force_variant": True}],
    }

    async def scenario() -> None:
        async with world(url=store_url, document=document, environ=ENVIRON) as w:
            await declare(w)
            await asyncio.to_thread(add_rollout, w)
            mirror = Mirror(rollout_id=1, rollout="r1", candidate="cand", percentage_bp=10_000,
                            noise_bp=10_000, salt="m")  # fmt: skip
            await w.split(candidate="cand", salt="s", rollout="r1", rollout_id=1,
                          mirrors=(mirror,), targeting_key=("header:x-user-id",))  # fmt: skip
            w.baseline.handler = w.candidate.handler = serve
            headers = {
                "authorization": f"Bearer {ENVIRON['APP_KEY']}",
                "x-user-id": USER,
                "cookie": WRITTEN["cookie"],
            }
            cases = ("plain", "cand-model", "base-model", "odd")
            for fields in ({"stream": True}, *({"metadata": {"case": case}} for case in cases)):
                answer = await w.chat(headers=headers, user=USER, note=ASKED, **fields)
                assert ANSWERED["mail"][:4] in answer.text
            stranger = {**headers, "authorization": f"Bearer {WRITTEN['stranger']}"}
            refused = [await w.chat(headers=stranger, note=ASKED)]
            refused += [
                await w.client.post("/chat/completions", content=body.encode(), headers=headers)
                for body in (f'{{"model": "bot", "x": "{ASKED}', ASKED)
            ]
            refused.append(await w.chat(headers=headers, model="unknown", note=ASKED))
            assert all(400 <= each.status_code < 500 for each in refused)
            found["errors"] = b"".join(each.content for each in refused)
            await w.funnel(1, "mirror", 5)
            found["store, packed"] = stored(w.store, tmp_path)
            found["worker's metrics"] = await finish_pairs(w)
            found["store"] = stored(w.store, tmp_path)
            found["gateway's metrics"] = generate_latest(w.gateway.registry)
            found["API"] = (await asyncio.to_thread(asked_of_the_api, w)).encode()
            found["store at the end"] = stored(w.store, tmp_path)

    asyncio.run(scenario())
    found["log"] = caplog.text.encode()
    assert b"[EMAIL_1]" in found["API"]
    assert b"[IBAN_1]" in found["store"]
    assert b'coalmine_redactions_total{route="bot",rule="email"}' in found["worker's metrics"]
    leaks = [
        (sink, secret) for sink, data in found.items() for secret in SECRETS
        if secret.encode() in data
    ]  # fmt: skip
    assert leaks == []
