"""The worker end to end: real upstream, real judge endpoint, real store on both databases."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlmodel import select

from gateway.errors import StoreUnavailable
from gateway.settings import Settings
from gateway.store import Store
from gateway.store.evidence import Evidence, load_evidence, load_funnel
from gateway.store.tables import JudgmentRow, ReplicaRow
from shadow.metrics import WorkerMetrics
from shadow.serve import build_worker

KEYS = {"V7_KEY": "sk-candidate", "JUDGE_KEY": "sk-judge"}
TICKET = {"response_format": {"type": "json_object"}}


def work(
    settings: Settings,
    store: Store,
    until: Callable[[], bool],
    *,
    clock: Callable[[], float] = lambda: 100.0,
) -> str:
    """Run a worker until `until` holds, stop it, and return its metrics."""
    registry = CollectorRegistry()

    async def scenario() -> None:
        worker = build_worker(
            settings, store, environ=KEYS, metrics=WorkerMetrics(registry), rubric="r", clock=clock
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


def facts(store: Store, rollout_id: int) -> list[Evidence]:
    """Read all evidence."""
    with store.read() as session:
        return [fact for _, fact in load_evidence(session, rollout_id, after=0)]


def funnel(store: Store, rollout_id: int) -> dict[str, dict[str, int]]:
    """Read the funnel without its zeros."""
    with store.read() as session:
        whole = load_funnel(session, rollout_id)
    return {stream: {k: n for k, n in each.items() if n} for stream, each in whole.items()}


def settled(store: Store, rollout_id: int) -> Callable[[], bool]:
    """Say when no pair is pending any more."""
    return lambda: not any("pending" in each for each in funnel(store, rollout_id).values())


def test_a_backlog_of_live_answers_leaves_places_for_mirrored_ones(
    rows: Any, store: Store, settings_for: Any
) -> None:
    """A worker that can't keep up takes three live pairs for a mirrored one, and then the rest."""
    rollout = rows.rollout()
    for _ in range(14):
        rows.pair(rollout, stream="live")
    for _ in range(3):
        rows.pair(rollout)

    async def scenario() -> list[str]:
        settings = settings_for("http://127.0.0.1:1", "http://127.0.0.1:1")
        worker = build_worker(
            settings,
            store,
            environ=KEYS,
            metrics=WorkerMetrics(CollectorRegistry()),
            rubric="r",
            clock=lambda: 100.0,
        )
        streams: list[str] = []
        while claims := (await worker._claim(1))[0]:
            streams += [claim.stream for claim in claims]
        await worker.evaluator.close()
        return streams

    streams = asyncio.run(scenario())
    assert streams == [*["live", "live", "live", "mirror"] * 3, *["live"] * 5]


def test_a_pair_goes_from_capture_to_evidence(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, rows: Any,
    store: Store, settings_for: Any,
) -> None:  # fmt: skip
    """Mirrored with the client's parameters, checked, judged in both orders, counted once."""
    rollout = rows.rollout()
    pair = rows.pair(rollout, "plain", request={"temperature": 0.3})
    upstream_requests: list[Any] = []

    def upstream(request: Any) -> Any:
        upstream_requests.append(request)
        return reply_with(chat_document("GOOD answer"))

    async def servers() -> str:
        async with serving(upstream) as up, serving(fair_judge) as judge:
            settings = settings_for(up.url, judge.url)
            return await asyncio.to_thread(work, settings, store, settled(store, rollout))

    metrics = asyncio.run(servers())
    (request,) = upstream_requests
    assert request.path == "/v1/chat/completions"
    assert (request.json["model"], request.json["temperature"]) == ("model-v7", 0.3)
    assert request.headers["authorization"] == "Bearer sk-candidate"
    assert request.headers["x-coalmine-mirror"] == "1"
    (fact,) = facts(store, rollout)
    assert (fact.kind, fact.segment, fact.epoch) == ("pair", "billing", 3)
    assert (fact.payload["judge"], fact.payload["score"]) == ("win", 1.0)
    assert fact.payload["cluster"] == "k1"
    assert fact.payload["failures"]["error_rate"] == [0, 0]
    assert fact.payload["values"]["latency"][0] == 0.5
    assert fact.payload["values"]["latency"][1] > 0
    assert funnel(store, rollout) == {"mirror": {"compared": 1}}
    row = rows.get(pair)
    assert row.candidate_status == 200
    assert "GOOD answer" in (row.candidate_response or "")
    assert row.comparison["decided_by"] == "judge"
    with store.read() as session:
        judgments = session.exec(select(JudgmentRow)).all()
        assert {(j.order, j.verdict, j.fingerprint) for j in judgments} == {
            ("AB", "B", "fp_1"),
            ("BA", "A", "fp_1"),
        }
        replica = session.exec(select(ReplicaRow)).one()
        assert (replica.role, replica.stopped_at) == ("worker", 100.0)
    assert (
        'coalmine_pairs_total{outcome="compared",rollout="r1",route="bot",stream="mirror"} 1.0'
        in metrics
    )
    assert 'coalmine_judge_verdicts_total{rollout="r1",verdict="win"} 1.0' in metrics
    assert 'coalmine_judge_position_bias{rollout="r1"} 0.0' in metrics
    assert 'coalmine_judge_calls_total{result="verdict"} 2.0' in metrics
    assert "sk-" not in metrics


def test_every_way_a_pair_can_end_reconciles(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, rows: Any,
    store: Store, settings_for: Any,
) -> None:  # fmt: skip
    """Whatever candidate, judge or client did, each pair ends in exactly one outcome."""
    rollout = rows.rollout(mirror={"timeout": 1.0, "max_concurrency": 8})
    expected: dict[int, tuple[str, float | None]] = {}

    def add(said: str, outcome: str, score: float | None, **capture: Any) -> None:
        request = {"messages": [{"role": "user", "content": said}], **capture.pop("request", {})}
        expected[rows.pair(rollout, request=request, **capture)] = (outcome, score)

    add("GOOD", "compared", 1.0)
    add("plain", "compared", 0.0)
    add("same", "compared", 0.0)
    add("break json", "compared", 0.0, request=TICKET)
    add("break json", "compared", -1.0, request=TICKET, answer="{}")
    add("status 500", "candidate_failed", -1.0)
    add("status 400", "candidate_failed", -1.0)
    add("hang", "candidate_failed", -1.0)
    add("cut", "candidate_failed", -1.0)
    add("garbage", "candidate_failed", -1.0)
    add("huge", "candidate_failed", -1.0)
    add("status 401", "unjudgeable", None)
    add("nul", "compared", 0.0)
    add("nonsense", "judge_error", None)
    add("GOOD", "unjudgeable", None, truncated=True)
    add("GOOD", "unjudgeable", None, request_body="not json")
    add("GOOD", "unjudgeable", None, endpoint="/v1/embeddings")
    add("GOOD", "unjudgeable", None, status=400, response_body='{"error": {"message": "x"}}')
    add("GOOD", "compared", 1.0, status=500, response_body='{"error": {"message": "x"}}')

    def upstream(request: Any) -> Any:
        said = request.json["messages"][0]["content"]
        if said.startswith("status"):
            return reply_with({"error": {"message": "x"}}, int(said.split()[1]))
        special = {
            "hang": reply_with(hang=True),
            "cut": reply_with(chat_document("half"), cut=True),
            "garbage": reply_with(raw=b"<html>\x00\xff"),
            "huge": reply_with(chat_document("x" * 2_000_000)),
            "same": reply_with(chat_document("plain ")),
            "nul": reply_with(chat_document("\x00 \ud800".encode("utf-8", "replace").decode())),
        }
        return special.get(said) or reply_with(chat_document(f"{said} answer"))

    def judge(request: Any) -> Any:
        if "nonsense" in request.json["messages"][1]["content"]:
            return reply_with(chat_document("\x00 no idea"))
        return fair_judge(request)

    async def servers() -> str:
        async with serving(upstream) as up, serving(judge) as judging:
            settings = settings_for(up.url, judging.url)
            return await asyncio.to_thread(work, settings, store, settled(store, rollout))

    metrics = asyncio.run(servers())
    ended = {pair: rows.get(pair) for pair in expected}
    for pair, (outcome, score) in expected.items():
        row = ended[pair]
        assert row.state == "done"
        assert (row.outcome, row.comparison["score"]) == (outcome, score), row.comparison
    counted: dict[str, int] = {}
    for outcome, _ in expected.values():
        counted[outcome] = counted.get(outcome, 0) + 1
    assert funnel(store, rollout) == {"mirror": counted}
    by_pair = {fact.payload["pair_id"]: fact.payload for fact in facts(store, rollout)}
    assert by_pair.keys() == expected.keys()
    timed_out = next(p for p in by_pair.values() if p["failures"]["timeout_rate"] == [0, 1])
    assert timed_out["values"]["latency"] == [0.5, 1.0]
    assert timed_out["failures"]["error_rate"] == [0, 1]
    error = next(p for p in by_pair.values() if p["judge"] == "error")
    assert error["failures"]["empty_rate"] == [0, 0]
    total = sum(
        float(line.rsplit(" ", 1)[1])
        for line in metrics.splitlines()
        if line.startswith("coalmine_pairs_total{")
    )
    assert total == len(expected)
    with store.read() as session:
        nonsense = session.exec(
            select(JudgmentRow).where(JudgmentRow.error != None)  # noqa: E711 - SQL
        ).all()
        assert len(nonsense) == 2
        assert all("no idea" in (each.transcript or "") for each in nonsense)


def test_the_noise_stream_asks_the_baseline_again(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, rows: Any,
    store: Store, settings_for: Any,
) -> None:  # fmt: skip
    """A/A pairs go to the deployment that answered, and are evidence of their own kind."""
    rollout = rows.rollout()
    rows.pair(rollout, stream="noise")
    models: list[str] = []

    def upstream(request: Any) -> Any:
        models.append(request.json["model"])
        return reply_with(chat_document("other words"))

    async def servers() -> None:
        async with serving(upstream) as up, serving(fair_judge) as judge:
            settings = settings_for(up.url, judge.url)
            await asyncio.to_thread(work, settings, store, settled(store, rollout))

    asyncio.run(servers())
    assert models == ["model-v6"]
    (fact,) = facts(store, rollout)
    assert (fact.kind, fact.payload["judge"]) == ("noise", "tie")
    assert funnel(store, rollout) == {"noise": {"compared": 1}}


def test_live_answers_are_checked_and_not_mirrored(
    serving: Any, reply_with: Any, rows: Any, store: Store, settings_for: Any
) -> None:
    """The checks run on what a user got, with the weight at which it was served."""
    rollout = rows.rollout(analysis={"metrics": [{"name": "latency", "slo": 0.2}]})
    rows.pair(rollout, "no json", stream="live", variant="candidate", deployment="v7",
              request=TICKET)  # fmt: skip
    rows.pair(rollout, "{}", stream="live", request=TICKET)
    asked: list[Any] = []

    async def servers() -> str:
        async with serving(lambda r: asked.append(r) or reply_with({})) as up:
            return await asyncio.to_thread(
                work, settings_for(up.url), store, settled(store, rollout)
            )

    metrics = asyncio.run(servers())
    assert asked == []
    payloads = {fact.payload["variant"]: fact.payload for fact in facts(store, rollout)}
    assert payloads["candidate"]["failures"]["format_valid"] == 1
    assert payloads["baseline"]["failures"]["format_valid"] == 0
    assert payloads["candidate"]["failures"]["latency"] == 1
    assert payloads["candidate"]["weight_bp"] == 500
    assert funnel(store, rollout) == {"live": {"checked": 2}}
    assert re.search(
        r'coalmine_checks_total\{check="format_valid",result="fail",.*variant="candidate"\} 1',
        metrics,
    )


def test_each_answer_costs_what_its_deployment_asks(
    serving: Any, reply_with: Any, chat_document: Any, rows: Any, store: Store, settings_for: Any
) -> None:
    """Captured and mirrored answers are priced apart, whichever arm was captured."""
    rollout = rows.rollout(analysis={"metrics": [{"name": "cost", "margin": 0.1}]})
    rows.pair(rollout)
    rows.pair(rollout, variant="candidate", deployment="v7")
    rows.pair(rollout, stream="noise")
    rows.pair(rollout, stream="live", variant="candidate", deployment="v7")

    def priced(url: str, read: float, written: float) -> dict[str, Any]:
        return {
            "base_url": url,
            "model": "m",
            "dollars_per_million_input_tokens": read,
            "dollars_per_million_output_tokens": written,
        }

    async def servers() -> None:
        async with serving(lambda r: reply_with(chat_document("other"))) as up:
            deployments = {"v6": priced(up.url, 1, 10), "v7": priced(up.url, 2, 30)}
            settings = settings_for(up.url, deployments=deployments)
            await asyncio.to_thread(work, settings, store, settled(store, rollout))

    asyncio.run(servers())
    cheap, dear = pytest.approx(200e-6), pytest.approx(500e-6)  # 100 tokens read, 10 written
    found = [(fact.kind, fact.payload["values"]["cost"]) for fact in facts(store, rollout)]
    expected = [("live", dear), ("noise", [cheap, cheap]), ("pair", [cheap, dear])]
    assert sorted(found, key=lambda each: each[0]) == [*expected, expected[-1]]


def test_what_the_candidate_served_is_compared_the_other_way_round(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, rows: Any,
    store: Store, settings_for: Any,
) -> None:  # fmt: skip
    """A mirrored baseline stands on its side of the pair; its failures never help the candidate."""
    rollout = rows.rollout()
    rows.pair(rollout, "GOOD", variant="candidate", deployment="v7")
    failed = rows.pair(
        rollout, "GOOD", variant="candidate", deployment="v7",
        request={"messages": [{"role": "user", "content": "fail"}]},
    )  # fmt: skip
    models: list[str] = []

    def upstream(request: Any) -> Any:
        models.append(request.json["model"])
        if request.json["messages"][0]["content"] == "fail":
            return reply_with({}, 500)
        return reply_with(chat_document("plain"))

    async def servers() -> None:
        async with serving(upstream) as up, serving(fair_judge) as judge:
            settings = settings_for(up.url, judge.url)
            await asyncio.to_thread(work, settings, store, settled(store, rollout))

    asyncio.run(servers())
    assert models == ["model-v6", "model-v6"]
    for fact in facts(store, rollout):
        # Only answers that arrived are captured: whether and when they did is no evidence here.
        assert fact.payload["failures"]["error_rate"] == [None, None]
        assert fact.payload["values"]["latency"] == [None, None]
    scores = {fact.payload["pair_id"]: fact.payload["score"] for fact in facts(store, rollout)}
    assert scores.pop(failed) is None
    assert list(scores.values()) == [1.0]
    assert funnel(store, rollout) == {"mirror": {"compared": 1, "unjudgeable": 1}}


def test_streams_are_mirrored_as_streams(
    serving: Any, reply_with: Any, rows: Any, store: Store, settings_for: Any
) -> None:
    """The candidate is asked as the client asked, and the joined answers are compared."""
    rollout = rows.rollout()

    def chunk(text: str, finish: str | None = None) -> str:
        delta = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
        return f"data: {json.dumps(delta)}\n\n"

    captured = chunk("Hel") + chunk("lo", "stop") + "data: [DONE]\n\n"
    rows.pair(rollout, request={"stream": True}, response_body=captured)
    seen: list[Any] = []

    def upstream(request: Any) -> Any:
        seen.append(request.json)
        body = chunk("H") + chunk("ello") + chunk("", "stop") + "data: [DONE]\n\n"
        return reply_with(raw=body.encode())

    async def servers() -> None:
        async with serving(upstream) as up:
            await asyncio.to_thread(work, settings_for(up.url), store, settled(store, rollout))

    asyncio.run(servers())
    assert seen[0]["stream"] is True
    assert seen[0]["stream_options"] == {"include_usage": True}
    (fact,) = facts(store, rollout)
    assert (fact.payload["judge"], fact.payload["score"]) == ("not_needed", 0.0)
    assert fact.payload["values"]["ttft"][1] is not None
    assert fact.payload["values"]["inter_token"][0] is None  # "Hello" is one token


def test_without_a_judge_the_checks_still_count(
    serving: Any, reply_with: Any, chat_document: Any, rows: Any, store: Store, settings_for: Any
) -> None:
    """No judge means no score, never a tie."""
    rollout = rows.rollout()
    rows.pair(rollout)

    async def servers() -> None:
        async with serving(lambda _r: reply_with(chat_document("other"))) as up:
            await asyncio.to_thread(work, settings_for(up.url), store, settled(store, rollout))

    asyncio.run(servers())
    (fact,) = facts(store, rollout)
    assert (fact.payload["judge"], fact.payload["score"]) == ("not_needed", None)
    assert fact.payload["failures"]["refusal_rate"] == [0, 0]


def test_a_budget_that_is_used_up_holds_verdicts_not_checks(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, rows: Any,
    store: Store, settings_for: Any,
) -> None:  # fmt: skip
    """Pairs beyond the budget have no score and are counted apart."""
    rollout = rows.rollout(mirror={"budget": {"calls_per_day": 2}})
    for number in range(3):
        rows.pair(rollout, f"plain {number}")

    async def servers() -> int:
        async with (
            serving(lambda _r: reply_with(chat_document("GOOD"))) as up,
            serving(fair_judge) as judge,
        ):
            settings = settings_for(up.url, judge.url, worker={"concurrency": 1})
            await asyncio.to_thread(work, settings, store, settled(store, rollout))
            return len(judge.requests)

    assert asyncio.run(servers()) == 2
    assert funnel(store, rollout) == {"mirror": {"compared": 1, "budget_exhausted": 2}}
    assert sorted(str(fact.payload["score"]) for fact in facts(store, rollout)) == [
        "1.0", "None", "None",
    ]  # fmt: skip


def test_the_same_pair_is_judged_once(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, rows: Any,
    store: Store, settings_for: Any,
) -> None:  # fmt: skip
    """A verdict is kept with the pair that paid for it, and serves the next one free."""
    rollout = rows.rollout()
    for _ in range(2):
        rows.pair(rollout)

    async def servers() -> int:
        async with (
            serving(lambda _r: reply_with(chat_document("GOOD"))) as up,
            serving(fair_judge) as judge,
        ):
            settings = settings_for(up.url, judge.url, worker={"concurrency": 1})
            await asyncio.to_thread(work, settings, store, settled(store, rollout))
            return len(judge.requests)

    assert asyncio.run(servers()) == 2
    assert [fact.payload["score"] for fact in facts(store, rollout)] == [1.0, 1.0]
    with store.read() as session:
        cached = [row.cached for row in session.exec(select(JudgmentRow)).all()]
    assert sorted(cached) == [False, False, True, True]


def test_a_busy_candidate_is_asked_again_after_the_pause_it_wants(
    serving: Any, reply_with: Any, chat_document: Any, rows: Any, store: Store, settings_for: Any
) -> None:
    """A 429 is no failure of the candidate while there is time."""
    rollout = rows.rollout()
    rows.pair(rollout)
    answers = iter([reply_with({}, 429, {"retry-after": "0"}), reply_with(chat_document("plain"))])

    async def servers() -> None:
        async with serving(lambda _r: next(answers)) as up:
            await asyncio.to_thread(work, settings_for(up.url), store, settled(store, rollout))

    asyncio.run(servers())
    assert funnel(store, rollout) == {"mirror": {"compared": 1}}


def test_a_worker_killed_in_the_middle_is_replaced_and_counted_once(
    serving: Any, reply_with: Any, chat_document: Any, rows: Any, store: Store, settings_for: Any
) -> None:
    """The first worker dies with its mirror in flight; the second finishes the pair."""
    rollout = rows.rollout()
    pair = rows.pair(rollout)
    asked = asyncio.Event

    async def scenario() -> None:
        arrived = asked()
        hang = True

        def upstream(_request: Any) -> Any:
            arrived.set()
            return reply_with(hang=True) if hang else reply_with(chat_document("plain"))

        async with serving(upstream) as up:
            settings = settings_for(up.url)
            first = build_worker(
                settings, store, environ=KEYS, metrics=WorkerMetrics(CollectorRegistry()),
                rubric="r", clock=lambda: 100.0,
            )  # fmt: skip
            running = asyncio.create_task(first.run(asyncio.Event()))
            await asyncio.wait_for(arrived.wait(), 20)
            running.cancel()  # no drain, no release: as a kill would leave it
            await asyncio.gather(running, return_exceptions=True)
            for task in list(first._work):
                task.cancel()
            assert rows.get(pair).state == "claimed"
            hang = False
            await asyncio.to_thread(
                work, settings, store, settled(store, rollout), clock=lambda: 100.0 + 181.0
            )

    asyncio.run(scenario())
    assert funnel(store, rollout) == {"mirror": {"compared": 1}}
    assert len(facts(store, rollout)) == 1
    assert rows.get(pair).attempts == 2


def test_a_candidate_that_hangs_holds_up_no_other(
    serving: Any, reply_with: Any, chat_document: Any, rows: Any, store: Store, settings_for: Any,
) -> None:  # fmt: skip
    """Two rollouts of one route from the same captures: the other one's pairs are all finished."""
    hanging = rows.rollout(name="hanging", mirror={"max_concurrency": 64})
    healthy = rows.rollout(name="healthy", candidate={"deployment": "v6"})
    stuck = [rows.pair(hanging) for _ in range(30)]
    for _ in range(10):
        rows.pair(healthy)

    async def servers() -> None:
        def upstream(request: Any) -> Any:
            if request.json["model"] == "model-v7":
                return reply_with(hang=True)
            return reply_with(chat_document("plain"))

        async with serving(upstream) as up:
            settings = settings_for(up.url, worker={"concurrency": 4, "drain_timeout": 0})
            await asyncio.to_thread(work, settings, store, settled(store, healthy))

    asyncio.run(servers())
    assert funnel(store, healthy) == {"mirror": {"compared": 10}}
    assert {rows.get(pair).state for pair in stuck} == {"pending"}


def test_an_answer_of_another_baseline_is_no_evidence(
    serving: Any, reply_with: Any, rows: Any, store: Store, settings_for: Any,
) -> None:  # fmt: skip
    """After another candidate's promotion the new baseline answers: the candidate is not asked."""
    rollout = rows.rollout()
    pair = rows.pair(rollout, deployment="promoted")

    async def servers() -> None:
        async with serving(lambda _request: reply_with({})) as up:
            await asyncio.to_thread(work, settings_for(up.url), store, settled(store, rollout))
            assert up.requests == []

    asyncio.run(servers())
    assert funnel(store, rollout) == {"mirror": {"unjudgeable": 1}}
    (fact,) = facts(store, rollout)
    assert (fact.payload["kept"], fact.payload["score"]) == (False, None)
    assert "'promoted' answered, and not the baseline 'v6'" in rows.get(pair).comparison["reason"]


def test_a_stopped_worker_gives_back_what_it_cannot_finish(
    serving: Any, reply_with: Any, rows: Any, store: Store, settings_for: Any
) -> None:
    """Past the drain timeout a pair goes back to the queue with its attempt."""
    rollout = rows.rollout()
    pair = rows.pair(rollout)

    async def servers() -> None:
        async with serving(lambda _r: reply_with(hang=True)) as up:
            settings = settings_for(up.url, worker={"drain_timeout": 0})
            await asyncio.to_thread(work, settings, store, lambda: bool(up.requests))

    asyncio.run(servers())
    row = rows.get(pair)
    assert (row.state, row.attempts, row.claimed_by) == ("pending", 0, None)
    assert funnel(store, rollout) == {"mirror": {"pending": 1}}


def test_bodies_and_keys_stay_out_of_the_log(
    serving: Any, reply_with: Any, chat_document: Any, rows: Any, store: Store,
    settings_for: Any, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A worker's log names pairs, never what people wrote or how we authenticate."""
    caplog.set_level(logging.INFO)
    rollout = rows.rollout()
    rows.pair(rollout, request={"messages": [{"role": "user", "content": "my card is 4111"}]})

    async def servers() -> None:
        async with serving(lambda _r: reply_with({"error": "4111"}, 500)) as up:
            await asyncio.to_thread(work, settings_for(up.url), store, settled(store, rollout))

    asyncio.run(servers())
    assert "4111" not in caplog.text
    assert "sk-candidate" not in caplog.text


def test_a_store_that_is_away_is_waited_for(
    serving: Any, reply_with: Any, chat_document: Any, rows: Any, store: Store,
    settings_for: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """An outage between claim and result loses nothing: the result is written when it is over."""
    rollout = rows.rollout()
    rows.pair(rollout)
    away = threading.Event()
    refused = threading.Event()
    write = store.write

    def flaky() -> Any:
        if away.is_set():
            refused.set()
            raise StoreUnavailable("the store is away")
        return write()

    async def servers() -> None:
        def upstream(_request: Any) -> Any:
            away.set()
            return reply_with(chat_document("plain"))

        async def come_back() -> None:
            async with asyncio.timeout(20):
                while not refused.is_set():
                    await asyncio.sleep(0.01)
            away.clear()

        async with serving(upstream) as up:
            monkeypatch.setattr(store, "write", flaky)
            back = asyncio.create_task(come_back())
            await asyncio.to_thread(work, settings_for(up.url), store, settled(store, rollout))
            await back

    asyncio.run(servers())
    assert funnel(store, rollout) == {"mirror": {"compared": 1}}
    assert len(facts(store, rollout)) == 1


def test_a_pair_that_breaks_the_worker_is_tried_again_and_then_expires(
    serving: Any, reply_with: Any, rows: Any, store: Store, settings_for: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A poisonous pair neither kills the worker nor stays for ever."""
    rollout = rows.rollout()
    rows.pair(rollout)
    now = [100.0]

    def broken(**_arguments: Any) -> Any:
        now[0] += 1000.0
        raise RuntimeError("boom")

    monkeypatch.setattr("shadow.evaluate.read_prompt", broken)

    async def servers() -> None:
        async with serving(lambda _r: reply_with({})) as up:
            await asyncio.to_thread(
                work, settings_for(up.url), store, settled(store, rollout), clock=lambda: now[0]
            )

    asyncio.run(servers())
    assert funnel(store, rollout) == {"mirror": {"expired": 1}}
    assert now[0] == 3100.0
