"""What a worker stores of answers: redacted like their captures, and none of it where asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlmodel import col, select

from gateway.settings import Settings
from gateway.store import Store
from gateway.store.erasure import NOT_KEPT
from gateway.store.evidence import load_evidence, load_funnel, move_funnel
from gateway.store.tables import CaptureRow, JudgeCacheRow, JudgmentRow, PairRow
from shadow.metrics import WorkerMetrics
from shadow.serve import build_worker

MAIL = "carol.jones@mail.example"
REQUEST = {"messages": [{"role": "user", "content": "I am [EMAIL_1]"}]}


def work(settings: Settings, store: Store, until: Callable[[], bool]) -> str:
    """Run a worker until `until` holds, and return its metrics."""
    registry = CollectorRegistry()

    async def scenario() -> None:
        metrics = WorkerMetrics(registry)
        worker = build_worker(
            settings, store, environ={}, metrics=metrics, rubric="r", clock=lambda: 100.0
        )
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))
        try:
            async with asyncio.timeout(20):
                while not await asyncio.to_thread(until):
                    assert not running.done(), running
                    await asyncio.sleep(0.01)
        finally:
            stop.set()
            await asyncio.wait_for(running, 20)

    asyncio.run(scenario())
    return generate_latest(registry).decode()


def funnel(store: Store, rollout_id: int) -> dict[str, dict[str, int]]:
    """Read the funnel without its zeros."""
    with store.read() as session:
        whole = load_funnel(session, rollout_id)
    return {stream: {k: n for k, n in each.items() if n} for stream, each in whole.items()}


def settled(store: Store, rollout_id: int) -> Callable[[], bool]:
    """Say when no pair is pending any more."""
    return lambda: not any("pending" in each for each in funnel(store, rollout_id).values())


def run(
    serving: Any,
    upstream: Callable[[Any], Any],
    judge: Callable[[Any], Any],
    settings_for: Any,
    store: Store,
    rollout: int,
    **changes: Any,
) -> tuple[str, list[Any]]:
    """Run a worker over these servers; return its metrics, and what the judge was asked."""

    async def scenario() -> tuple[str, list[Any]]:
        async with serving(upstream) as up, serving(judge) as judging:
            settings = settings_for(up.url, judging.url, **changes)
            metrics = await asyncio.to_thread(work, settings, store, settled(store, rollout))
            return metrics, judging.requests

    return asyncio.run(scenario())


@pytest.mark.parametrize("streamed", [False, True])
def test_the_candidates_answer_is_redacted_before_anything_sees_it(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, rows: Any, store: Store,
    settings_for: Any, streamed: bool,
) -> None:  # fmt: skip
    """Neither the store nor the judge gets it, and its numbers follow those of the request."""
    rollout = rows.rollout()
    pair = rows.pair(rollout, "plain", request={**REQUEST, "stream": streamed})
    pieces = ["GOOD [EMAIL_1], ask car", "ol.jones@mail.ex", "ample"]

    def upstream(_: Any) -> Any:
        if not streamed:
            return reply_with(chat_document("".join(pieces)))
        events = [{"choices": [{"index": 0, "delta": {"content": each}}]} for each in pieces]
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        raw = "".join(f"data: {json.dumps(each)}\n\n" for each in events) + "data: [DONE]\n\n"
        return reply_with(raw=raw.encode(), headers={"content-type": "text/event-stream"})

    metrics, asked = run(serving, upstream, fair_judge, settings_for, store, rollout)
    kept = rows.get(pair).candidate_response
    assert MAIL not in kept
    assert "GOOD [EMAIL_1], ask [EMAIL_2]" in kept
    assert len(asked) == 2
    assert all(b"carol" not in request.body for request in asked)
    assert all(b"GOOD [EMAIL_1], ask [EMAIL_2]" in request.body for request in asked)
    assert 'coalmine_redactions_total{route="bot",rule="email"} 1.0' in metrics
    assert funnel(store, rollout) == {"mirror": {"compared": 1}}


def test_what_a_failing_candidate_says_is_redacted_too(
    serving: Any, reply_with: Any, fair_judge: Any, rows: Any, store: Store, settings_for: Any
) -> None:
    """An error's message, and a body that is nothing of what was asked for."""
    rollout = rows.rollout()
    replies = {
        "error": reply_with({"error": {"message": f"no such user {MAIL}"}}, 500),
        "html": reply_with(raw=f"<html>{MAIL} ".encode()),
        "cut": reply_with(raw=b'data: {"choices":[{"delta":{"content":"carol.jones@ma"}}]}\n\n'
                          b'data: {"choices":[{"delta":{"content":"il.example"'),
    }  # fmt: skip
    pairs = {each: rows.pair(rollout, request={"metadata": {"case": each}}) for each in replies}

    def upstream(request: Any) -> Any:
        return replies[request.json["metadata"]["case"]]

    run(serving, upstream, fair_judge, settings_for, store, rollout)
    kept = {each: rows.get(number) for each, number in pairs.items()}
    assert kept["error"].candidate_error == "status 500: no such user [EMAIL_1]"
    assert kept["html"].candidate_response == "<html>[EMAIL_1] "
    assert kept["cut"].candidate_response == ""
    assert all(row.candidate_error for row in kept.values())
    assert "carol" not in repr(kept)


def test_an_answer_that_may_not_be_kept_is_withheld(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, rows: Any, store: Store,
    settings_for: Any,
) -> None:  # fmt: skip
    """Nothing of it is stored or judged, and the funnel says so."""
    rollout = rows.rollout()
    pair = rows.pair(rollout, "plain")
    routes = {"bot": {"baseline": "v6", "redaction": {"on_match": "withhold"}}}

    def upstream(_: Any) -> Any:
        return reply_with(chat_document(f"GOOD {MAIL}"))

    metrics, asked = run(serving, upstream, fair_judge, settings_for, store, rollout, routes=routes)
    assert asked == []
    row = rows.get(pair)
    assert (row.outcome, row.candidate_response) == ("withheld", "")
    assert row.comparison["reason"] == "the answer is withheld (matched)"
    assert funnel(store, rollout) == {"mirror": {"withheld": 1}}
    assert 'coalmine_redaction_withheld_total{reason="matched",route="bot"} 1.0' in metrics


def test_bodies_that_are_not_to_be_stored_end_with_their_last_pair(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, rows: Any, store: Store,
    settings_for: Any,
) -> None:  # fmt: skip
    """Features, checks and verdicts stay, and no word of request, answers and judge."""
    rollout = rows.rollout()
    first = rows.pair(
        rollout, "zebra plain", store_bodies=False, id="c1",
        request={"messages": [{"role": "user", "content": "zebra question"}]},
    )  # fmt: skip
    with store.write() as session:
        noise = PairRow(rollout_id=rollout, capture_id="c1", stream="noise", created_at=0.0)
        session.add(noise)
        move_funnel(store, session, [(rollout, "noise", "pending", 1)])
    kept_pair = rows.pair(rollout, "giraffe plain")
    answers = {"model-v7": "zebra GOOD answer", "model-v6": "zebra other answer"}

    def upstream(request: Any) -> Any:
        return reply_with(chat_document(answers[request.json["model"]]))

    def judge(request: Any) -> Any:
        said = fair_judge(request).document
        content = json.loads(said["choices"][0]["message"]["content"])
        if "zebra question" in request.json["messages"][1]["content"]:
            content["evidence"] = "the zebra is better"
        return reply_with(chat_document(json.dumps(content)))

    run(serving, upstream, judge, settings_for, store, rollout)
    assert funnel(store, rollout) == {"mirror": {"compared": 2}, "noise": {"compared": 1}}
    with store.read() as session:
        capture = session.get(CaptureRow, "c1")
        assert capture
        assert (capture.request_body, capture.response_body) == ("", "")
        assert capture.bodies_removed_at == 100.0
        pairs = session.exec(select(PairRow).where(PairRow.capture_id == "c1")).all()
        judgments = session.exec(select(JudgmentRow)).all()
        cache = session.exec(select(JudgeCacheRow)).all()
        facts = load_evidence(session, rollout, after=0)
    assert len(pairs) == 2
    for row in pairs:
        assert row.candidate_response is None
        assert row.comparison["result"] in {"win", "tie"}
        assert row.checks["format_valid"]["candidate"]["outcome"] == "not_applicable"
    mine = [each for each in judgments if each.pair_id in {row.id for row in pairs}]
    assert len(mine) == 4
    assert all(each.verdict and each.scores and each.evidence is None for each in mine)
    assert {each.cache_key for each in judgments} == {each.key for each in cache}
    words = [each.payload["verdict"]["evidence"] for each in cache]
    assert (words.count(NOT_KEPT), words.count("e")) == (4, 2)
    assert "zebra" not in repr((capture, pairs, judgments, cache, facts))
    other = rows.get(kept_pair)
    assert "zebra GOOD" in other.candidate_response
    assert rows.get(first).outcome == "compared"
    assert len(facts) == 3


def test_a_kept_verdict_without_words_is_used_again(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, rows: Any, store: Store,
    settings_for: Any,
) -> None:  # fmt: skip
    """The same answers are not judged twice, though the judge's words are gone."""
    rollout = rows.rollout()
    rows.pair(rollout, "plain", store_bodies=False)

    def upstream(_: Any) -> Any:
        return reply_with(chat_document("GOOD answer"))

    async def scenario() -> int:
        async with serving(upstream) as up, serving(fair_judge) as judging:
            settings = settings_for(up.url, judging.url)
            await asyncio.to_thread(work, settings, store, settled(store, rollout))
            rows.pair(rollout, "plain")
            await asyncio.to_thread(work, settings, store, settled(store, rollout))
            return len(judging.requests)

    assert asyncio.run(scenario()) == 2
    with store.read() as session:
        judgments = session.exec(select(JudgmentRow).order_by(col(JudgmentRow.id))).all()
    assert [each.cached for each in judgments] == [False, False, True, True]
    assert len({each.cache_key for each in judgments}) == 2
    assert judgments[2].verdict == judgments[0].verdict
