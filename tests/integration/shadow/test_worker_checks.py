"""What routes promise reaches the checks of a real worker, and what it finds reaches evidence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from gateway.settings import Settings
from gateway.store import Store
from gateway.store.evidence import load_evidence, load_funnel
from shadow.metrics import WorkerMetrics
from shadow.serve import build_worker

NO = "I'm sorry, but I can't help with that."
UNSURE = "This is a sensitive matter, and I'm sorry that I have to leave it at that."
BOILERPLATE = (
    "Thank you for reaching out to us today. I completely understand how important this is to you, "
    "and I am more than happy to look into it. Before we begin, let me reassure you that your "
    "satisfaction is our highest priority at all times, whatever it is that you may need from us."
)


def _work(settings: Settings, store: Store, rollout: int) -> str:
    """Run a worker until no pair is pending, and return its metrics."""
    registry = CollectorRegistry()

    def settled() -> bool:
        with store.read() as session:
            funnel = load_funnel(session, rollout)
        return not any(each.get("pending") for each in funnel.values())

    async def scenario() -> None:
        worker = build_worker(
            settings, store, environ={}, metrics=WorkerMetrics(registry), rubric="r",
            clock=lambda: 100.0,
        )  # fmt: skip
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))
        try:
            async with asyncio.timeout(20):
                while not await asyncio.to_thread(settled):
                    assert not running.done(), running
                    await asyncio.sleep(0.01)
        finally:
            stop.set()
            await asyncio.wait_for(running, 20)

    asyncio.run(scenario())
    return generate_latest(registry).decode()


def _run(
    serving: Any, handler: Callable[[Any], Any], store: Store, rollout: int,
    build: Callable[[str], Settings],
) -> tuple[list[Any], str]:  # fmt: skip
    async def servers() -> str:
        async with serving(handler) as up:
            return await asyncio.to_thread(_work, build(up.url), store, rollout)

    metrics = asyncio.run(servers())
    with store.read() as session:
        return [fact.payload for _, fact in load_evidence(session, rollout, after=0)], metrics


def test_a_routes_declarations_become_evidence(
    serving: Any, reply_with: Any, chat_document: Any, rows: Any, store: Store, settings_for: Any
) -> None:
    """Must-refuse, a known failure and a contract's fence: found, counted apart, and vetoed."""
    rollout = rows.rollout(analysis={"metrics": [{"name": "error_rate"}]})
    rows.pair(rollout, NO, request={"metadata": {"must_refuse": "true"}})
    route = {
        "baseline": "v6",
        "must_refuse": "metadata.must_refuse",
        "contract": {"xml": True},
        "known_failures": {
            "cases": [
                {
                    "number": 1,
                    "title": "once it answered",
                    "messages": [{"role": "user", "content": "hi"}],
                    "must": {"refuses": True},
                }
            ]
        },
    }
    (payload,), metrics = _run(
        serving, lambda _r: reply_with(chat_document("```xml\n<a/>\n```")), store, rollout,
        lambda url: settings_for(url, routes={"bot": route}),
    )  # fmt: skip
    failures = payload["failures"]
    assert failures["under_refusal_rate"] == [0, 1]
    assert failures["over_refusal_rate"] == [None, None]
    assert failures["known_failure_rate"] == [0, 1]
    assert failures["format_valid"] == [1, 1]
    assert failures["boilerplate_rate"] == [None, None]
    assert payload["values"]["words"] == [8.0, 3.0]
    flag = 'check="format_valid",flag="xml_after_fences",route="bot",variant="candidate"'
    assert f"coalmine_check_flags_total{{{flag}}} 1.0" in metrics
    known = 'check="known_failure_rate",flag="known_case",route="bot",variant="baseline"'
    assert f"coalmine_check_flags_total{{{known}}} 1.0" in metrics


def test_a_known_failure_is_known_by_its_words_before_redaction(
    serving: Any, reply_with: Any, chat_document: Any, rows: Any, store: Store, settings_for: Any
) -> None:
    """A case is written as its user asked; captures hold placeholders, and it is found in them."""
    rollout = rows.rollout(analysis={"metrics": [{"name": "error_rate"}]})
    captured = {"role": "user", "content": "Write to [EMAIL_1], please"}
    rows.pair(rollout, "Done.", request={"messages": [captured]})
    asked = {"role": "user", "content": "Write to ann@mail.example, please"}
    case = {"number": 1, "title": "t", "messages": [asked], "must": {"contains": ["Done"]}}
    (payload,), _ = _run(
        serving, lambda _r: reply_with(chat_document("No.")), store, rollout,
        lambda url: settings_for(
            url, routes={"bot": {"baseline": "v6", "known_failures": {"cases": [case]}}}
        ),
    )  # fmt: skip
    assert payload["failures"]["known_failure_rate"] == [0, 1]


def test_boilerplate_is_seen_over_many_pairs(
    serving: Any, reply_with: Any, chat_document: Any, rows: Any, store: Store, settings_for: Any
) -> None:
    """The candidate answers different questions alike; live answers are not compared so."""
    rollout = rows.rollout(analysis={"metrics": [{"name": "error_rate"}]})
    for number in range(5):
        message = {"role": "user", "content": f"question {number}"}
        own = " ".join(f"own{number}word{n}" for n in range(60))
        rows.pair(rollout, own, request={"messages": [message]})
    rows.pair(rollout, "live", stream="live", variant="candidate", deployment="v7")
    payloads, _ = _run(
        serving, lambda _r: reply_with(chat_document(BOILERPLATE)), store, rollout, settings_for
    )
    live = [each for each in payloads if "variant" in each]
    pairs = [each["failures"]["boilerplate_rate"] for each in payloads if "pair_id" in each]
    assert live[0]["failures"]["boilerplate_rate"] is None
    assert sorted(candidate for _, candidate in pairs) == [0, 0, 0, 1, 1]
    assert [baseline for baseline, _ in pairs] == [0] * 5


def test_the_judge_decides_what_the_rules_do_not(
    serving: Any, reply_with: Any, chat_document: Any, rows: Any, store: Store, settings_for: Any
) -> None:
    """With `refusal.decider: judge` a doubtful answer becomes a refusal in the evidence."""
    rollout = rows.rollout(analysis={"metrics": [{"name": "error_rate"}]})
    rows.pair(rollout, "It opens at nine.")

    def handler(request: Any) -> Any:
        if request.json["model"] == "judge-1":
            return reply_with(chat_document(json.dumps({"evidence": "", "stance": "refused"})))
        return reply_with(chat_document(UNSURE))

    (payload,), metrics = _run(
        serving, handler, store, rollout,
        lambda url: settings_for(url, url, refusal={"decider": "judge"}),
    )  # fmt: skip
    assert payload["failures"]["refusal_rate"] == [0, 1]
    assert 'coalmine_refusal_decisions_total{decider="judge",result="decided"} 1.0' in metrics
