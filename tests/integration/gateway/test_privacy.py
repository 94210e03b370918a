"""What reaches the store of what users write: redacted before it, or withheld and counted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlmodel import select

from gateway.split import Mirror
from gateway.store.tables import CaptureRow, IntakeRow, PairRow

DONE = b"data: [DONE]\n\n"
MAIL = "bob.smith@mail.example"
CARD = "4111 1111 1111 1111"
SHADOW = {"candidate": "cand", "salt": "s", "rollout": "r1", "rollout_id": 1}


def mirror(rollout_id: int, noise_bp: int = 0) -> Mirror:
    """Build a mirror of everything."""
    return Mirror(
        rollout_id=rollout_id,
        rollout=f"r{rollout_id}",
        candidate="cand",
        percentage_bp=10_000,
        noise_bp=noise_bp,
        salt=f"m{rollout_id}",
    )


MIRROR = mirror(1)


def reply(text: str) -> bytes:
    """Build the body of an answer."""
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"index": 0, "message": message}]}).encode()


def test_nothing_unredacted_reaches_the_store(world: Any, store_url: str) -> None:
    """The model and the user see what was written; the store never does, not even packed."""

    async def answer(received: Any) -> None:
        await received.answer(reply(f"Hello {MAIL}, card {CARD}"))

    async def scenario() -> None:
        async with world(url=store_url) as w:
            await w.split(**SHADOW, mirrors=(MIRROR,))
            w.baseline.handler = answer
            response = await w.chat(user="u-1", note=f"I am {MAIL}, key sk-abcdefghijklmnop1234")
            assert f"Hello {MAIL}, card {CARD}" in response.text
            assert MAIL in w.baseline.requests[0].json["note"]
            assert w.baseline.requests[0].json["user"] == "u-1"
            await w.funnel(1, "mirror", 1)
            with w.store.read() as session:
                packed = session.exec(select(IntakeRow)).one().data
            for secret in (MAIL, CARD, "sk-abcdef", "u-1"):
                assert secret.encode() not in packed
            (capture,) = await w.rows(select(CaptureRow))
            request = json.loads(capture.request_body)
            assert request["note"] == "I am [EMAIL_1], key [SECRET_1]"
            assert request["user"] == "[USER_1]"
            said = json.loads(capture.response_body)["choices"][0]["message"]["content"]
            assert said == "Hello [EMAIL_1], card [CARD_1]"
            assert capture.key_hash
            counted = {rule: w.metric("coalmine_redactions_total", rule=rule)
                       for rule in ("email", "card", "secret", "user", "phone")}  # fmt: skip
            assert counted == {"email": 2, "card": 1, "secret": 1, "user": 1, "phone": 0}

    asyncio.run(scenario())


def test_a_streamed_address_is_redacted_in_the_capture_only(world: Any) -> None:
    """Its three pieces go to the user as they are."""
    pieces = ["Ask bob.sm", "ith@mail", ".example now"]
    events = [
        b"data: %b\n\n"
        % json.dumps({"choices": [{"index": 0, "delta": {"content": piece}}]}).encode()
        for piece in pieces
    ]

    async def stream(received: Any) -> None:
        await received.begin_stream()
        for event in (*events, DONE, b""):
            await received.chunk(event)

    async def scenario() -> None:
        async with world() as w:
            await w.split(**SHADOW, mirrors=(MIRROR,))
            w.baseline.handler = stream
            assert (await w.chat(stream=True)).content == b"".join((*events, DONE))
            await w.funnel(1, "mirror", 1)
            (capture,) = await w.rows(select(CaptureRow))
            told = [
                json.loads(line[6:])["choices"][0]["delta"]["content"]
                for line in capture.response_body.split("\n")
                if line.startswith("data: {")
            ]
            assert told == ["Ask [EMAIL_1]", "", " now"]

    asyncio.run(scenario())


def test_what_cannot_be_redacted_is_withheld_and_the_funnel_adds_up(world: Any) -> None:
    """Token ids, a number that is a card, an answer that is no JSON: none is stored."""
    mirrors = (MIRROR, mirror(2, noise_bp=10_000))

    async def answer(received: Any) -> None:
        await received.answer(b"<html>" if "html" in received.json else reply("fine"))

    async def scenario() -> None:
        async with world() as w:
            await w.split(**SHADOW, mirrors=mirrors)
            w.baseline.handler = answer
            await w.client.post("/completions", json={"model": "bot", "prompt": [1, 2, 3]})
            await w.chat(card=4111111111111111)
            await w.chat(html=True)
            await w.chat()
            expected = {"eligible": 4, "pending": 1, "withheld": 3}
            for rollout_id, stream in ((1, "mirror"), (2, "mirror"), (2, "noise")):
                found = await w.funnel(rollout_id, stream, 4)
                assert found == expected
            assert len(await w.rows(select(CaptureRow))) == 1
            assert len(await w.rows(select(PairRow))) == 3
            for reason in ("tokens", "number", "unreadable"):
                assert w.metric("coalmine_redaction_withheld_total", reason=reason) == 1
            assert w.gateway.gateway.buffer.bytes == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("opted_out_by", ["header", "key"])
def test_who_opts_out_is_served_and_not_shadowed(world: Any, opted_out_by: str) -> None:
    """By header for one request, by key for a client; both count as withheld."""
    clients = [
        {"name": "app", "key_env": "APP_KEY"},
        {"name": "hospital", "key_env": "HOSPITAL_KEY", "shadow": False},
    ]
    environ = {"APP_KEY": "k-app", "HOSPITAL_KEY": "k-hospital"}

    async def scenario() -> None:
        async with world(document={"clients": clients}, environ=environ) as w:
            await w.split(**SHADOW, mirrors=(MIRROR,))
            shadowed = {"authorization": "Bearer k-app"}
            if opted_out_by == "header":
                not_shadowed = {**shadowed, "x-coalmine-shadow": "off"}
            else:
                not_shadowed = {"authorization": "Bearer k-hospital"}
            for headers in (shadowed, not_shadowed, shadowed):
                assert (await w.chat(headers=headers)).status_code == 200
            found = await w.funnel(1, "mirror", 3)
            assert found == {"eligible": 3, "pending": 2, "withheld": 1}
            assert len(await w.rows(select(CaptureRow))) == 2
            assert w.metric("coalmine_captures_total", outcome="withheld") == 1

    asyncio.run(scenario())


def test_rules_change_with_a_reload(world: Any) -> None:
    """From then on captures are redacted by the new ones; nobody's request is interrupted."""

    async def scenario() -> None:
        async with world() as w:
            await w.split(**SHADOW, mirrors=(MIRROR,))
            custom = [{"name": "employee", "pattern": r"EMP-\d{4}"}]
            before = await w.reload(redaction={"rules": {"email": False}, "custom": custom})
            assert before.error is None
            await w.chat(note=f"{MAIL} EMP-1234")
            await w.funnel(1, "mirror", 1)
            (capture,) = await w.rows(select(CaptureRow))
            assert json.loads(capture.request_body)["note"] == f"{MAIL} [EMPLOYEE_1]"
            wrong = await w.reload(redaction={"custom": [{"name": "x", "pattern": "(a+)+"}]})
            assert "redaction.custom.0.pattern" in str(wrong.error)
            changed = await w.reload(
                redaction={}, routes={"bot": {"baseline": "base", "store_bodies": False}}
            )
            assert changed.hash != before.hash
            await w.chat(note=MAIL)
            await w.funnel(1, "mirror", 2)
            rows = await w.rows(select(CaptureRow).order_by(CaptureRow.created_at))
            assert [row.store_bodies for row in rows] == [True, False]
            assert MAIL not in rows[1].request_body

    asyncio.run(scenario())
