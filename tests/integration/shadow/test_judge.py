"""The judge over a real connection: retries, repair, cache, budget, and what is kept of errors."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.store import Store
from shadow.answer import Answer, Choice
from shadow.budget import DailyBudget, Limits
from shadow.judge.cache import JudgeCache, keep_verdicts
from shadow.judge.client import JudgeClient
from shadow.judge.judge import Judge, Judged
from shadow.pair import Arm, Pair, read_prompt
from shadow.prices import Prices

SECRET = "sk-very-secret"


@pytest.fixture
def store(sqlite_url: str, open_stores: Callable[[str], Store]) -> Store:
    """A store; which database it is makes no difference here."""
    return open_stores(sqlite_url)


def pair(baseline: str = "plain", candidate: str = "GOOD") -> Pair:
    """Build a pair whose answers differ."""
    prompt = read_prompt(endpoint="chat/completions", body='{"messages": []}')
    return Pair(prompt, Arm(Answer((Choice(baseline),))), Arm(Answer((Choice(candidate),))))


def judge_at(url: str, store: Store | None = None, **changes: Any) -> Judge:
    """Build a judge that does not wait between retries."""
    counter = iter(range(10_000))

    async def no_wait(_seconds: float) -> None:
        return None

    client = JudgeClient(
        base_url=url, model="judge-1", api_key=SecretStr(SECRET), max_concurrency=8,
        timeout_s=changes.pop("timeout_s", 5), sleep=changes.pop("sleep", no_wait),
        clock=changes.pop("clock", time.monotonic),
    )  # fmt: skip
    return Judge(
        client,
        endpoint=url,
        rubric="be fair",
        nonce=lambda: f"nonce{next(counter):08d}",
        cache=JudgeCache(store) if store else None,
        prices=changes.pop("prices", Prices(1.0, 2.0)),
    )


def budget(store: Store, limits: Limits = Limits()) -> DailyBudget:  # noqa: B008 - frozen
    """Build the budget of rollout 1."""
    return DailyBudget(store, 1, limits, lambda: 0.0)


def run(
    serving: Any, handler: Any, store: Store, *pairs: Pair, **changes: Any
) -> tuple[list[Judged], list[Any]]:
    """Judge pairs one after the other; return what came of them and the requests seen."""

    async def scenario() -> tuple[list[Judged], list[Any]]:
        async with serving(handler) as fake:
            limits = changes.pop("limits", Limits())
            judge = judge_at(fake.url, changes.pop("cached_in", None), **changes)
            try:
                made = [await judge.compare(each, budget(store, limits)) for each in pairs]
            finally:
                await judge.close()
            return made, fake.requests

    return asyncio.run(asyncio.wait_for(scenario(), 20))


def test_both_orders_are_asked_and_combined(serving: Any, fair_judge: Any, store: Store) -> None:
    """The better answer wins wherever it stands, and the opposite pair gives the opposite."""
    (won, lost, tied), requests = run(
        serving, fair_judge, store, pair(), pair("GOOD", "plain"), pair("x", "y")
    )
    assert [each.comparison.result for each in (won, lost, tied) if each.comparison] == [
        "win", "loss", "tie",
    ]  # fmt: skip
    assert len(requests) == 6
    assert {each.order: each.verdict.verdict for each in won.judgments if each.verdict} == {
        "AB": "B",
        "BA": "A",
    }
    assert {each.fingerprint for each in won.judgments} == {"fp_1"}
    sent = requests[0].json
    assert sent["temperature"] == 0
    assert "seed" in sent
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert requests[0].headers["authorization"] == f"Bearer {SECRET}"
    assert all(each.cost_microusd == 120 for each in won.judgments)


def test_a_judge_that_always_says_a_is_inconsistent(
    serving: Any, reply_with: Any, chat_document: Any, store: Store
) -> None:
    """Position bias never becomes a win."""
    text = json.dumps(
        {"evidence": "e", "verdict": "A", "scores": {"A": 9, "B": 1}, "severity": "none"}
    )
    (made,), _ = run(serving, lambda _r: reply_with(chat_document(text)), store, pair())
    assert made.comparison
    assert (made.comparison.result, made.comparison.score) == ("inconsistent", 0.0)


def test_passing_failures_are_retried(serving: Any, fair_judge: Any, reply_with: Any,
                                      store: Store) -> None:  # fmt: skip
    """Statuses that pass, and a wait that the judge asks for, are no judge_error."""
    seen: list[str] = []
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    def handler(request: Any) -> Any:
        order = request.json["messages"][1]["content"][-400:]
        seen.append(order)
        if len(seen) == 1:
            return reply_with({"error": {"message": "busy"}}, 429, {"retry-after": "7"})
        if len(seen) in (2, 3):
            return reply_with({"error": {"message": "oops"}}, 503)
        return fair_judge(request)

    (made,), requests = run(serving, handler, store, pair(), sleep=sleep)
    assert made.status == "judged"
    assert len(requests) == 5
    assert 7.0 in waits
    assert all(0.25 <= wait <= 7 for wait in waits)


def test_a_dead_judge_is_an_error_and_never_a_tie(
    serving: Any, reply_with: Any, store: Store
) -> None:
    """After the retries the pair has no comparison and says why."""
    (made,), requests = run(
        serving, lambda _r: reply_with({"error": {"message": "down"}}, 500), store, pair()
    )
    assert (made.status, made.comparison) == ("judge_error", None)
    assert "500" in made.reason
    assert len(requests) == 8


def test_an_unreachable_judge_is_an_error(store: Store, serving: Any, fair_judge: Any) -> None:
    """A refused connection is no exception for the worker."""

    async def scenario() -> Judged:
        async with serving(fair_judge) as fake:
            url = fake.url
        judge = judge_at(url)
        try:
            return await judge.compare(pair(), budget(store))
        finally:
            await judge.close()

    made = asyncio.run(asyncio.wait_for(scenario(), 20))
    assert made.status == "judge_error"
    assert all(each.error and "transport" in each.error for each in made.judgments)


def test_a_judge_that_hangs_does_not_hold_the_pairs_up(
    serving: Any, reply_with: Any, fair_judge: Any, store: Store
) -> None:
    """After some calls without a reply it is left alone, and asked again later."""
    hang = True
    now = [1000.0]

    async def scenario() -> tuple[list[str], list[int]]:
        nonlocal hang
        states: list[str] = []
        counts: list[int] = []
        async with serving(lambda r: reply_with(hang=True) if hang else fair_judge(r)) as fake:
            judge = judge_at(fake.url, timeout_s=0.2, clock=lambda: now[0])
            try:
                for step in (0.0, 0.0, 31.0):
                    now[0] += step
                    hang = step == 0
                    made = await judge.compare(pair(), budget(store))
                    states.append(made.status)
                    counts.append(len(fake.requests))
            finally:
                await judge.close()
        return states, counts

    states, counts = asyncio.run(asyncio.wait_for(scenario(), 20))
    assert states == ["judge_error", "judge_error", "judged"]
    assert counts[1] == counts[0]


def test_a_wrong_key_is_not_retried_and_not_shown(
    serving: Any, reply_with: Any, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A 401 stays a 401; the key reaches neither logs nor errors nor transcripts."""
    caplog.set_level(logging.DEBUG)
    reply = reply_with({"error": {"message": f"bad key {SECRET}"}}, 401)
    (made,), requests = run(serving, lambda _r: reply, store, pair())
    assert made.status == "judge_error"
    assert len(requests) == 2
    assert SECRET not in repr(made)
    assert SECRET not in caplog.text


def test_nonsense_is_repaired_once_and_then_an_error(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, store: Store
) -> None:
    """A reply outside the schema is asked again once; what was said is kept for people."""
    (made,), requests = run(
        serving, lambda _r: reply_with(chat_document("I like both.")), store, pair()
    )
    assert made.status == "judge_error"
    assert len(requests) == 4
    assert all(each.transcript == "I like both.\n---\nI like both." for each in made.judgments)

    def once(request: Any) -> Any:
        if len(request.json["messages"]) == 2:
            return reply_with(chat_document('{"verdict": "B"}'))
        return fair_judge(request)

    (repaired,), requests = run(serving, once, store, pair())
    assert repaired.comparison
    assert repaired.comparison.result == "win"
    assert "verdict" in requests[-1].json["messages"][2]["content"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"choices": []}',
        b'{"choices": null}',
        b'{"choices": [{}]}',
        b'{"choices": [7]}',
        b'{"usage": 3}',
        b'{"choices": [{"message": {"content": null}}]}',
    ],
)
def test_garbage_on_the_wire_is_an_error(
    serving: Any, reply_with: Any, store: Store, raw: bytes
) -> None:
    """Whatever a broken endpoint sends, the pair ends as judge_error."""
    headers = {"content-type": "application/json"}
    (made,), _ = run(serving, lambda _r: reply_with(raw=raw, headers=headers), store, pair())
    assert made.status == "judge_error"


def test_a_parameter_that_the_judge_refuses_is_left_out(
    serving: Any, fair_judge: Any, reply_with: Any, store: Store
) -> None:
    """Models that take no seed or temperature can judge."""

    def handler(request: Any) -> Any:
        for name in ("seed", "temperature"):
            if name in request.json:
                return reply_with({"error": {"message": f"unsupported {name}", "param": name}}, 400)
        return fair_judge(request)

    (made, again), requests = run(serving, handler, store, pair(), pair("a", "GOOD b"))
    assert made.status == again.status == "judged"
    assert all("seed" not in request.json for request in requests[-2:])


def test_verdicts_are_cached_and_errors_are_not(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, store: Store
) -> None:
    """The second time the same pair costs nothing; a failed one is asked again."""
    broken = True

    def handler(request: Any) -> Any:
        return reply_with(chat_document("?")) if broken else fair_judge(request)

    async def scenario() -> tuple[list[Judged], list[int]]:
        nonlocal broken
        made: list[Judged] = []
        counts: list[int] = []
        async with serving(handler) as fake:
            judge = judge_at(fake.url, store)
            try:
                for value in (True, False, False):
                    broken = value
                    made.append(await judge.compare(pair(), budget(store)))
                    with store.write() as session:
                        kept = [each.kept for each in made[-1].judgments if each.kept]
                        keep_verdicts(store, session, kept, now=1.0)
                    counts.append(len(fake.requests))
                made.append(await judge.compare(pair("GOOD", "plain"), budget(store)))
                counts.append(len(fake.requests))
            finally:
                await judge.close()
        return made, counts

    made, counts = asyncio.run(asyncio.wait_for(scenario(), 20))
    assert counts == [4, 6, 6, 6]
    assert made[0].status == "judge_error"
    assert [each.cached for each in made[2].judgments] == [True, True]
    assert sum(each.cost_microusd for each in made[2].judgments) == 0
    assert made[3].comparison
    assert made[3].comparison.result == "loss"


def test_an_exhausted_budget_asks_nothing(serving: Any, fair_judge: Any, store: Store) -> None:
    """Calls are reserved before they are made; both orders or none."""
    (first, second), requests = run(
        serving, fair_judge, store, pair(), pair("x", "GOOD z"), limits=Limits(calls=3)
    )
    assert first.status == "judged"
    assert (second.status, second.judgments) == ("budget_exhausted", ())
    assert len(requests) == 2


def test_only_what_was_spent_stays_on_the_bill(serving: Any, fair_judge: Any, store: Store) -> None:
    """The reservation is generous, the bill exact."""
    from shadow.budget import reserve

    run(serving, fair_judge, store, pair())
    day = "1970-01-01"
    assert reserve(store, 1, day, Limits(microusd=240 + 1), calls=0, microusd=1)
    assert not reserve(store, 1, day, Limits(microusd=240 + 1), calls=0, microusd=1)


def test_a_prompt_that_is_too_long_is_unjudgeable_and_never_cut(
    serving: Any, fair_judge: Any, store: Store
) -> None:
    """No verdict is given on half an answer."""
    (made,), requests = run(serving, fair_judge, store, pair("x", "GOOD " * 50_000))
    assert (made.status, made.reason) == ("unjudgeable", "unjudgeable_length")
    assert requests == []
