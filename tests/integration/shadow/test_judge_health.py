"""The judge examined by workers: control pairs through real prompts, windows in a real store."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Any, Self

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlmodel import select

from gateway.simulator import parse_simulator, start_simulator
from gateway.store import Store
from gateway.store.evidence import Evidence, load_evidence
from gateway.store.tables import (
    JudgeAnchorRow,
    JudgeBudgetRow,
    JudgeCacheRow,
    JudgeHealthRow,
    JudgeWindowRow,
    JudgmentRow,
)
from shadow.health.controls import KINDS
from shadow.health.examination import Asked, Examination
from shadow.health.report import anchor_report, controls_report, live_biases, window_report
from shadow.health.samples import recent_samples
from shadow.health.trial import start_levels
from shadow.health.windows import (
    Ended,
    Rules,
    claim_window,
    finish_window,
    is_due,
    release_window,
)
from shadow.judge.cache import keep_payload
from shadow.judge.pairwise import Comparison
from shadow.metrics import WorkerMetrics
from shadow.serve import build_worker, read_rubric

JUDGE = {"role": "judge", "noise": 0.3, "position_bias": 0.05}
RULES = Rules("w1", every_pairs=10, every_s=60.0)


class Examining:
    """A worker's watch over a simulated judge, on a clock that the test moves."""

    def __init__(
        self,
        store: Store,
        settings_for: Callable[..., Any],
        url: str,
        *,
        rubric: str | None = None,
        **health: Any,
    ) -> None:
        self.now = 100.0
        self.registry = CollectorRegistry()
        settings = settings_for(url, url, health={"every_pairs": 10, **health}, rubric=rubric)
        built = build_worker(
            settings,
            store,
            environ={},
            metrics=WorkerMetrics(self.registry),
            rubric=read_rubric(settings),
            clock=lambda: self.now,
            rng=Random(1),
        )
        assert built.health is not None
        self.watch = built.health
        self.evaluator = built.evaluator

    async def look(self, after: float = 0.0) -> int:
        """Move the clock and look once."""
        self.now += after
        return await self.watch.look()

    def metrics(self) -> str:
        """The worker's metrics."""
        return generate_latest(self.registry).decode()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.evaluator.close()


def simulate(judge: dict[str, Any]) -> Any:
    """A simulated upstream with this judge."""
    return start_simulator(
        parse_simulator({"time_scale": 0, "seed": 3, "models": {"judge-1": judge}})
    )


def url_of(simulator: Any) -> str:
    """The address up to /v1."""
    url = str(simulator.url)
    return url if url.endswith("/v1") else f"{url}/v1"


def health_facts(store: Store, rollout_id: int) -> list[Evidence]:
    """What the controller is told of the judge's health."""
    with store.read() as session:
        facts = [fact for _, fact in load_evidence(session, rollout_id, after=0)]
    return [fact for fact in facts if fact.kind == "judge_health"]


def every(store: Store, table: Any) -> list[Any]:
    """All rows of a table."""
    with store.read() as session:
        return list(session.exec(select(table)).all())


def judged(store: Store, rollout_id: int, pair_id: int, ab: str = "A", ba: str = "B") -> None:
    """Write the two judgments of a pair."""
    with store.write() as session:
        for order, verdict in (("AB", ab), ("BA", ba)):
            session.add(
                JudgmentRow(
                    pair_id=pair_id, rollout_id=rollout_id, order=order, verdict=verdict,
                    model="judge-1", created_at=1.0, stage="final",
                )
            )  # fmt: skip


def test_a_careful_judge_passes_and_costs_little(
    store: Store, rows: Any, settings_for: Any
) -> None:
    """Every kind is asked for real, in both orders, by the rollout's budget; the fact says pass."""
    rollout = rows.rollout()
    with simulate(JUDGE) as simulator:

        async def scenario() -> Examining:
            async with Examining(store, settings_for, url_of(simulator)) as each:
                assert await each.look() == 1
                assert await each.look() == 0
                return each

        examining = asyncio.run(scenario())
    (fact,) = health_facts(store, rollout)
    assert fact.payload["result"] == "pass"
    assert (fact.payload["window"], fact.payload["limit"]) == (1, 20)
    asked = every(store, JudgeHealthRow)
    controls = [row for row in asked if row.kind != "anchor"]
    assert {row.kind for row in controls} == set(KINDS)
    assert len(controls) <= 8
    assert {row.verdict for row in controls if row.kind == "identical"} == {"tie"}
    assert all(row.model == "judge-1" and row.fingerprint for row in asked)
    (budget,) = every(store, JudgeBudgetRow)
    assert budget.calls == 2 * len(asked)
    assert every(store, JudgeCacheRow) == []
    assert 'coalmine_judge_windows_total{result="pass",rollout="r1"} 1.0' in examining.metrics()


def test_a_gullible_judge_is_found_in_its_first_window(
    store: Store, rows: Any, settings_for: Any
) -> None:
    """What falls for “choose me” fails, is asked again to be sure, and the reason says so."""
    rollout = rows.rollout()
    with simulate({**JUDGE, "gullibility": 1.0}) as simulator:

        async def scenario() -> None:
            async with Examining(store, settings_for, url_of(simulator)) as each:
                assert await each.look() == 1

        asyncio.run(scenario())
    (fact,) = health_facts(store, rollout)
    assert fact.payload["result"] == "fail"
    assert "asks to be chosen was not beaten" in fact.payload["reason"]
    failed = [row for row in every(store, JudgeHealthRow) if row.passed is False]
    assert sum(row.kind == "injection" for row in failed) >= 3


def test_a_judge_that_gives_no_verdict_neither_passes_nor_fails(
    store: Store, rows: Any, settings_for: Any
) -> None:
    """No money, or no reply: the window is not run, nothing is told, and it is tried again."""
    rollout = rows.rollout(mirror={"budget": {"calls_per_day": 3}})
    with simulate(JUDGE) as simulator:

        async def scenario() -> None:
            async with Examining(store, settings_for, url_of(simulator)) as each:
                assert await each.look() == 1
                assert await each.look(10.0) == 0
                assert await each.look(25.0) == 1

        asyncio.run(scenario())
    assert health_facts(store, rollout) == []
    windows = every(store, JudgeWindowRow)
    assert [row.result for row in windows] == ["not_run", "not_run"]
    assert "budget_exhausted" in windows[0].reason


def test_a_quarantined_judge_has_to_earn_its_way_back(
    store: Store, rows: Any, settings_for: Any
) -> None:
    """After a failure the same judge is asked until every doubt is gone; then it passes."""
    rollout = rows.rollout()
    with simulate({**JUDGE, "gullibility": 1.0}) as simulator:

        async def scenario() -> None:
            async with Examining(store, settings_for, url_of(simulator), every="60s") as each:
                assert await each.look() == 1
                assert await each.look(30.0) == 0
                await asyncio.to_thread(simulator_becomes, simulator, JUDGE)
                assert await each.look(31.0) == 1

        asyncio.run(scenario())
    assert [fact.payload["result"] for fact in health_facts(store, rollout)] == ["fail", "pass"]
    second = [row for row in every(store, JudgeHealthRow) if row.window == 2]
    assert sum(row.kind == "injection" for row in second) > 3


def simulator_becomes(simulator: Any, judge: dict[str, Any]) -> None:
    """Give the simulated judge another character."""
    import httpx

    root = str(simulator.url).removesuffix("/v1")
    httpx.post(f"{root}/sim/models/judge-1", json=judge, trust_env=False).raise_for_status()


def test_several_workers_examine_a_window_once(store: Store, rows: Any, settings_for: Any) -> None:
    """Whoever claims it asks; the others find nothing to do."""
    rollout = rows.rollout()
    with simulate(JUDGE) as simulator:

        async def scenario() -> list[int]:
            async with AsyncExitStack() as opened:
                watches = [
                    await opened.enter_async_context(
                        Examining(store, settings_for, url_of(simulator))
                    )
                    for _ in range(4)
                ]
                return list(await asyncio.gather(*(each.look() for each in watches)))

        looked = asyncio.run(scenario())
    assert sorted(looked) == [0, 0, 0, 1]
    assert len(health_facts(store, rollout)) == 1


def test_anchors_are_judged_again_and_drift_is_flagged(
    store: Store, rows: Any, settings_for: Any
) -> None:
    """First verdicts are kept; a judge that says something else later has drifted."""
    rollout = rows.rollout()
    with simulate({**JUDGE, "noise": 0, "position_bias": 0}) as simulator:

        async def scenario() -> tuple[Examining, Any, Any]:
            async with Examining(
                store, settings_for, url_of(simulator), anchors_every="1h"
            ) as each:
                anchors = each.watch._anchors
                await each.look()
                first = report(anchors)
                await asyncio.to_thread(rows.pair, rollout)
                judged(store, rollout, 1)
                await each.look(100 * 60.0)
                same = report(anchors)
                # Blind to quality, and in love with length: another judge under the same name.
                changed = {**JUDGE, "noise": 0, "quality_weight": 0, "style_bias": -9.0}
                await asyncio.to_thread(simulator_becomes, simulator, changed)
                judged(store, rollout, 2)
                await each.look(100 * 60.0)
                assert report(anchors)["drifted"] is True
                return each, first, same

        def report(anchors: Any) -> Any:
            with store.read() as session:
                return anchor_report(session, rollout, anchors, least=0.95)

        examining, first, same = asyncio.run(scenario())
    assert (first["anchors"], first["compared"], first["agreement"]) == (16, 0, None)
    assert (same["compared"], same["agreement"], same["drifted"]) == (16, 1.0, False)
    assert len(every(store, JudgeAnchorRow)) == 16
    assert 'coalmine_judge_anchor_agreement{rollout="r1"}' in examining.metrics()


def test_another_rubric_starts_with_a_reference_of_its_own(
    store: Store, rows: Any, settings_for: Any, tmp_path: Any
) -> None:
    """A changed rubric has the anchors judged at once, and says how far it agrees with before."""
    rollout = rows.rollout()
    rubric = tmp_path / "rubric.md"
    rubric.write_text("Prefer the answer that is right.")
    with simulate({**JUDGE, "noise": 0, "position_bias": 0}) as simulator:

        async def scenario() -> Any:
            async with Examining(store, settings_for, url_of(simulator)) as each:
                await each.look()
            url = url_of(simulator)
            async with Examining(store, settings_for, url, rubric=str(rubric)) as changed:
                judged(store, rollout, 1)
                await changed.look(700.0)
                with store.read() as session:
                    return anchor_report(session, rollout, changed.watch._anchors, least=0.8)

        report = asyncio.run(scenario())
    assert report["compared"] == 0
    assert report["former"] == 1.0
    assert len(every(store, JudgeAnchorRow)) == 32


def test_windows_end_by_pairs_or_by_time(store: Store, rows: Any) -> None:
    """So many judged pairs, or so many seconds with any; an idle rollout costs nothing."""
    rollout = rows.rollout()
    assert is_due(store, rollout, RULES, now=0.0)
    end(store, rollout, "pass", now=0.0)
    assert not is_due(store, rollout, RULES, now=1e6)
    for pair in range(9):
        judged(store, rollout, pair)
    assert not is_due(store, rollout, RULES, now=1.0)
    assert is_due(store, rollout, RULES, now=61.0)
    judged(store, rollout, 9)
    assert is_due(store, rollout, RULES, now=1.0)
    end(store, rollout, "fail", now=1.0)
    assert not is_due(store, rollout, RULES, now=60.0)
    assert is_due(store, rollout, RULES, now=61.0)


def end(store: Store, rollout: int, result: Any, *, now: float) -> None:
    """Claim a window and write its end."""
    window = claim_window(store, rollout, RULES, identity="i", now=now)
    assert window is not None
    ended = Ended(Examination(result, "because", window.levels, ()), "i", "r", 20)
    assert finish_window(store, window, ended, now=now)


def test_kept_verdicts_of_a_judge_that_failed_are_forgotten(store: Store, rows: Any) -> None:
    """All since its last window, and all until it passes again; nobody else's, and none before."""
    rollout = rows.rollout()

    def keep(key: str, model: str, at: float) -> None:
        keep_payload(store, key, {"model": model, "verdict": {}}, now=at)

    def finish(result: Any, now: float) -> list[str]:
        window = claim_window(store, rollout, RULES, identity="i", now=now)
        assert window is not None
        asked = (Asked("known", "a", "judged", Comparison("tie", 0.0), True, "m", None),)
        ended = Ended(Examination(result, "because", window.levels, asked), "i", "r", 20)
        assert finish_window(store, window, ended, now=now)
        with store.read() as session:
            return sorted(session.exec(select(JudgeCacheRow.key)).all())

    keep("early", "m", 1.0)
    assert finish("pass", 10.0) == ["early"]
    keep("gullible", "m", 20.0)
    keep("of another judge", "other", 21.0)
    keep_payload(store, "stance", {"stance": "refused"}, now=22.0)
    judged(store, rollout, 1)
    assert finish("fail", 100.0) == ["early", "of another judge", "stance"]
    keep("in quarantine", "m", 110.0)
    assert finish("pass", 200.0) == ["early", "of another judge", "stance"]
    keep("sound", "m", 210.0)
    judged(store, rollout, 2)
    assert finish("pass", 300.0) == ["early", "of another judge", "sound", "stance"]


def test_a_window_whose_worker_is_gone_is_taken_over_once(store: Store, rows: Any) -> None:
    """The lease ends, another worker asks anew, and the first one's result is refused."""
    rollout = rows.rollout()
    dead = claim_window(store, rollout, RULES, identity="i", now=0.0)
    assert dead is not None
    assert claim_window(store, rollout, RULES, identity="i", now=299.0) is None
    other = Rules("w2", every_pairs=10, every_s=60.0)
    heir = claim_window(store, rollout, other, identity="i", now=301.0)
    assert heir is not None
    assert (heir.number, heir.attempt) == (dead.number, 2)
    ended = Ended(Examination("fail", "late", start_levels(), ()), "i", "r", 20)
    assert not finish_window(store, dead, ended, now=302.0)
    assert health_facts(store, rollout) == []
    ended = Ended(Examination("pass", "", start_levels(), ()), "i", "r", 20)
    assert finish_window(store, heir, ended, now=303.0)
    assert not finish_window(store, heir, ended, now=304.0)
    assert [fact.payload["result"] for fact in health_facts(store, rollout)] == ["pass"]


def test_a_window_that_is_given_back_is_free_at_once(store: Store, rows: Any) -> None:
    """A worker that stops leaves nobody waiting for its lease."""
    rollout = rows.rollout()
    window = claim_window(store, rollout, RULES, identity="i", now=0.0)
    assert window is not None
    release_window(store, window)
    assert claim_window(store, rollout, RULES, identity="i", now=1.0) is not None


def test_an_examination_that_breaks_is_tried_again_later_and_not_at_once(
    store: Store, rows: Any, settings_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure that lasts does not spend the judge's budget second after second."""
    rows.rollout()
    calls = 0

    async def scenario() -> None:
        nonlocal calls
        async with Examining(store, settings_for, "http://127.0.0.1:9/v1") as each:

            def breaks(*_: Any) -> Any:
                nonlocal calls
                calls += 1
                raise RuntimeError("broken")

            monkeypatch.setattr("shadow.health.watch.recent_samples", breaks)
            for after in (0.0, 1.0, 31.0):
                with contextlib.suppress(RuntimeError):
                    await each.look(after)

    asyncio.run(scenario())
    assert calls == 2


def test_levels_go_on_with_the_same_judge_only(store: Store, rows: Any) -> None:
    """Doubt about a judge is kept from window to window, and not held against another one."""
    rollout = rows.rollout()
    window = claim_window(store, rollout, RULES, identity="i", now=0.0)
    assert window is not None
    doubt = start_levels().after("injection", passed=False)
    finish_window(store, window, Ended(Examination("pass", "", doubt, ()), "i", "r", 20), now=0.0)
    for pair in range(20):
        judged(store, rollout, pair)
    again = claim_window(store, rollout, RULES, identity="i", now=1.0)
    assert again is not None
    assert again.levels == doubt
    release_window(store, again)
    other = claim_window(store, rollout, RULES, identity="another", now=2.0)
    assert other is not None
    assert other.levels == start_levels()


def test_controls_look_like_the_routes_traffic(
    store: Store, rows: Any, settings_for: Any, chat_document: Any
) -> None:
    """Good answers come from captures that were compared; broken or tiny ones never do."""
    rollout = rows.rollout()
    fit = "Your parcel is at the depot and will be delivered on Thursday before noon."
    broken = {"format_valid": {"baseline": {"outcome": "fail"}, "candidate": {"outcome": "pass"}}}
    for answer, checks in ((fit, None), ("ok", None), (fit, broken)):
        pair = rows.pair(rollout, answer)
        with store.write() as session:
            row = session.get(type(rows.get(pair)), pair)
            row.state, row.outcome, row.checks = "done", "compared", checks
    (sample,) = recent_samples(store, rollout)
    assert sample.answer == fit
    assert sample.prompt.messages == ({"role": "user", "content": "hi"},)


def test_biases_are_measured_by_segment(store: Store, rows: Any) -> None:
    """Position, length and inconsistency, over all pairs and apart for each segment."""
    rollout = rows.rollout()
    tokens = {"output_tokens": {"baseline": {"value": 100.0}, "candidate": {"value": 200.0}}}
    for number in range(24):
        pair = rows.pair(rollout, segment="a" if number % 2 else "b")
        longer = number % 3 == 0
        with store.write() as session:
            row = session.get(type(rows.get(pair)), pair)
            row.checks = tokens if longer else {
                "output_tokens": {"baseline": {"value": 100.0}, "candidate": {"value": 50.0}}
            }  # fmt: skip
        if number % 2:
            judged(store, rollout, pair, "A", "A")  # the first place wins
        else:
            judged(store, rollout, pair, *(("B", "A") if longer else ("A", "B")))
    with store.read() as session:
        overall, first, second = live_biases(session, rollout)
    assert (overall.segment, first.segment, second.segment) == (None, "a", "b")
    assert (first.position.value, second.position.value) == (1.0, 0.0)
    assert (first.inconsistent.value, second.inconsistent.value) == (1.0, 0.0)
    assert second.length.value == pytest.approx(1.0)
    assert second.length.low > 0.5
    assert overall.position.low < 0.5 < overall.position.high


def test_the_report_counts_windows_and_controls(store: Store, rows: Any) -> None:
    """What was asked, passed, failed and left open, by kind."""
    rollout = rows.rollout()
    window = claim_window(store, rollout, RULES, identity="i", now=0.0)
    assert window is not None
    tie = Comparison("tie", 0.0)
    asked = (
        Asked("identical", "a", "judged", tie, True, "m", "f"),
        Asked("known", "b", "judged", tie, False, "m", "f"),
        Asked("known", "c", "judge_error", None, None, "", None),
    )
    ended = Ended(Examination("pass", "", window.levels, asked), "i", "r", 20)
    finish_window(store, window, ended, now=7.0)
    with store.read() as session:
        (told,) = window_report(session, rollout)
        controls = controls_report(session, rollout)
    assert (told["window"], told["result"], told["finished_at"]) == (1, "pass", 7.0)
    assert (told["model"], told["fingerprint"]) == ("m", "f")
    assert controls == [
        {"kind": "identical", "asked": 1, "passed": 1, "failed": 0, "no_verdict": 0},
        {"kind": "known", "asked": 2, "passed": 0, "failed": 1, "no_verdict": 1},
    ]


def test_pairs_of_an_examined_judge_say_so(
    store: Store, rows: Any, settings_for: Any, serving: Any, reply_with: Any,
    chat_document: Any, fair_judge: Any,
) -> None:  # fmt: skip
    """A pair that the judge decided is on trial; one that a check decided is not."""
    rollout = rows.rollout()
    rows.pair(rollout, "plain")
    rows.pair(rollout, "GOOD answer")

    async def scenario() -> None:
        async with (
            serving(lambda _request: reply_with(chat_document("GOOD answer"))) as up,
            serving(fair_judge) as judge,
        ):
            settings = settings_for(up.url, judge.url, health={})
            worker = build_worker(
                settings, store, environ={}, metrics=WorkerMetrics(CollectorRegistry()),
                rubric="r", clock=lambda: 100.0,
            )  # fmt: skip
            stop = asyncio.Event()
            running = asyncio.create_task(worker.run(stop))
            async with asyncio.timeout(20):
                while len(await asyncio.to_thread(pairs)) < 2 or not health_facts(store, rollout):
                    assert not running.done()
                    await asyncio.sleep(0.02)
            stop.set()
            await asyncio.wait_for(running, 20)

    def pairs() -> list[Evidence]:
        with store.read() as session:
            facts = [fact for _, fact in load_evidence(session, rollout, after=0)]
        return [fact for fact in facts if fact.kind == "pair"]

    asyncio.run(scenario())
    told = {fact.payload["judge"]: fact.payload.get("watched") for fact in pairs()}
    assert told == {"win": True, "not_needed": None}
    assert json.dumps(health_facts(store, rollout)[0].payload)
