"""A worker with a judge in stages, on both stores: who judged, why, and what is recorded of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlmodel import select

from gateway.settings import Settings
from gateway.store import Store
from gateway.store.evidence import load_evidence, load_funnel
from gateway.store.tables import JudgmentRow
from shadow.judge.rubrics import built_in
from shadow.metrics import WorkerMetrics
from shadow.serve import build_worker


def verdict(reply_with: Any, chat_document: Any, side: str, severity: str = "none") -> Any:
    """Return the reply that gives a verdict."""
    document = {
        "evidence": "e",
        "verdict": side,
        "scores": {"A": 7, "B": 4},
        "severity": severity,
    }
    return reply_with(chat_document(json.dumps(document)))


def work(settings: Settings, store: Store, rollout: int, seed: int = 1) -> str:
    """Run a worker until nothing is pending; return its metrics."""
    registry = CollectorRegistry()

    def pending() -> bool:
        with store.read() as session:
            return any(each.get("pending") for each in load_funnel(session, rollout).values())

    async def scenario() -> None:
        worker = build_worker(
            settings, store, environ={}, metrics=WorkerMetrics(registry),
            rubric=built_in().text, clock=lambda: 100.0, rng=Random(seed),
        )  # fmt: skip
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))
        try:
            async with asyncio.timeout(20):
                while await asyncio.to_thread(pending):
                    assert not running.done(), running
                    await asyncio.sleep(0.01)
        finally:
            stop.set()
            await asyncio.wait_for(running, 20)

    asyncio.run(scenario())
    return generate_latest(registry).decode()


@pytest.fixture
def staged(serving: Any, reply_with: Any, chat_document: Any, store: Store, rows: Any) -> Any:
    """Run one pair through two hosted stages; return judgments, comparison, requests, metrics."""

    def run(
        small: Callable[[Any], Any], strong: Callable[[Any], Any], **changes: Any
    ) -> tuple[list[JudgmentRow], Any, list[Any], str]:
        rollout = rows.rollout()
        pair = rows.pair(rollout, "plain", **changes.pop("pair", {}))

        async def servers() -> tuple[str, list[Any]]:
            async with (
                serving(lambda _request: reply_with(chat_document("GOOD answer"))) as up,
                serving(small) as one,
                serving(strong) as two,
            ):
                settings = Settings.model_validate(
                    {
                        "deployments": {
                            "v6": {"base_url": up.url, "model": "model-v6"},
                            "v7": {"base_url": up.url, "model": "model-v7"},
                            "small": {"base_url": one.url, "model": "small-1"},
                            "judge": {"base_url": two.url, "model": "judge-1"},
                        },
                        "routes": {"bot": {"baseline": "v6", **changes.pop("route", {})}},
                        "judge": {
                            "deployment": "judge",
                            "timeout": 5,
                            "health": {"enabled": False},  # calls are counted here
                            "first_stage": {"deployment": "small", "audit": 0.01},
                            **changes.pop("judge", {}),
                        },
                    }
                )
                metrics = await asyncio.to_thread(work, settings, store, rollout)
                return metrics, two.requests

        metrics, requests = asyncio.run(servers())
        with store.read() as session:
            judgments = list(session.exec(select(JudgmentRow).order_by("id")).all())
            facts = [fact for _, fact in load_evidence(session, rollout, after=0)]
        comparison = rows.get(pair).comparison
        assert facts[0].payload["score"] == comparison["score"]
        return judgments, comparison, requests, metrics

    return run


def test_a_clear_pair_costs_only_the_small_judge(
    staged: Any, fair_judge: Any, reply_with: Any
) -> None:
    """The strong judge hears nothing; the verdict counts and says who gave it."""
    judgments, comparison, strong, metrics = staged(fair_judge, lambda _r: reply_with({}, 500))
    assert strong == []
    assert (comparison["result"], comparison["stage"]) == ("win", "first")
    assert {(j.stage, j.asked, j.probability) for j in judgments} == {("first", "always", 1.0)}
    assert {(j.rubric, j.rubric_hash) for j in judgments} == {("built-in", built_in().digest)}
    assert 'coalmine_judge_stages_total{asked="always",rollout="r1",stage="first"} 1.0' in metrics
    assert 'coalmine_judge_verdicts_total{rollout="r1",verdict="win"} 1.0' in metrics


def test_an_inconsistent_pair_goes_to_the_strong_judge(
    staged: Any, fair_judge: Any, reply_with: Any, chat_document: Any
) -> None:
    """Its verdict counts; all four judgments are kept, with the reason."""
    judgments, comparison, _, metrics = staged(
        lambda _request: verdict(reply_with, chat_document, "A"), fair_judge
    )
    assert (comparison["result"], comparison["stage"], comparison["asked"]) == (
        "win",
        "final",
        "inconsistent",
    )
    assert [(j.stage, j.asked) for j in judgments] == [
        ("first", "always"),
        ("first", "always"),
        ("final", "inconsistent"),
        ("final", "inconsistent"),
    ]
    assert (
        'coalmine_judge_stages_total{asked="inconsistent",rollout="r1",stage="final"} 1.0'
        in metrics
    )
    assert 'coalmine_judge_score_sum{rollout="r1",stage="first",variant="baseline"} 11.0' in metrics


@pytest.mark.parametrize(
    ("pair", "judge", "asked"),
    [
        ({"risk": "high"}, {}, "risk"),
        (
            {"segment": "legal"},
            {"first_stage": {"deployment": "small", "escalate_segments": ["legal"]}},
            "segment",
        ),
    ],
)
def test_risk_and_segment_call_the_strong_judge(
    staged: Any, fair_judge: Any, pair: dict[str, Any], judge: dict[str, Any], asked: str
) -> None:
    """However clear the first verdict is."""
    _, comparison, strong, _ = staged(fair_judge, fair_judge, pair=pair, judge=judge)
    assert (comparison["stage"], comparison["asked"]) == ("final", asked)
    assert len(strong) == 2


def test_a_single_order_asks_once(staged: Any, fair_judge: Any, reply_with: Any) -> None:
    """One call, one judgment, a full win; and no position bias is claimed from it."""
    judgments, comparison, _, metrics = staged(
        lambda _r: reply_with({}, 500),
        fair_judge,
        judge={"first_stage": None, "orders": "single", "audit": 0},
    )
    assert len(judgments) == 1
    assert (comparison["result"], comparison["score"]) == ("win", 1.0)
    assert "coalmine_judge_position_bias{" not in metrics
    assert 'coalmine_judge_verdicts_total{rollout="r1",verdict="win"} 1.0' in metrics


def test_the_route_s_criteria_reach_the_judge(staged: Any, fair_judge: Any) -> None:
    """Its sentences stand in the prompt, and the judgments name the rubric that has them."""
    judgments, _, strong, _ = staged(
        fair_judge,
        fair_judge,
        route={"criteria": ["It names the ticket's number."]},
        judge={"first_stage": None},
    )
    assert "It names the ticket's number." in strong[0].json["messages"][0]["content"]
    assert {j.rubric for j in judgments} == {"built-in+bot"}
    assert {j.rubric_hash for j in judgments} != {built_in().digest}


def test_another_rubric_is_another_cache_entry(
    serving: Any, fair_judge: Any, store: Store, rows: Any, reply_with: Any, chat_document: Any
) -> None:
    """The same pair on a route whose criteria changed is judged anew, and kept beside the old."""
    asked: list[str] = []

    def judge(request: Any) -> Any:
        asked.append(re.findall(r"weigh:\n- (\w+)", request.json["messages"][0]["content"])[0])
        return fair_judge(request)

    async def servers() -> None:
        async with (
            serving(lambda _r: reply_with(chat_document("GOOD answer"))) as up,
            serving(judge) as server,
        ):
            for criterion in ("brief", "brief", "kind"):
                rollout = rows.rollout(name=f"r-{len(asked)}-{criterion}")
                rows.pair(rollout, "plain")
                settings = Settings.model_validate(
                    {
                        "deployments": {
                            "v6": {"base_url": up.url, "model": "model-v6"},
                            "v7": {"base_url": up.url, "model": "model-v7"},
                            "judge": {"base_url": server.url, "model": "judge-1"},
                        },
                        "routes": {"bot": {"baseline": "v6", "criteria": [criterion]}},
                        "judge": {
                            "deployment": "judge",
                            "timeout": 5,
                            "health": {"enabled": False},
                        },
                    }
                )
                await asyncio.to_thread(work, settings, store, rollout)

    asyncio.run(servers())
    assert asked == ["brief", "brief", "kind", "kind"]
