"""What the worker reads of a spec, of metrics texts, and of prices."""

from __future__ import annotations

import asyncio

import pytest

from shadow.budget import Limits, day_of
from shadow.plan import read_plan
from shadow.pressure import Limiter, waiting_requests
from shadow.prices import Prices


def test_the_specs_words_are_read() -> None:
    """Durations, the budget in dollars and calls, the latency objective, the judge's need."""
    plan = read_plan(
        rollout_id=1,
        name="n",
        route="r",
        phase="shadowing",
        spec={
            "candidate": {"deployment": "v7"},
            "mirror": {
                "max_concurrency": 4,
                "timeout": "1m30s",
                "budget": {"usd_per_day": 2.5, "calls_per_day": 10},
            },
            "analysis": {
                "metrics": [{"name": "judge_win_rate"}, {"name": "latency", "slo": "250ms"}]
            },
        },
    )
    assert (plan.max_concurrency, plan.timeout_s, plan.slo_s) == (4, 90.0, 0.25)
    assert plan.limits == Limits(calls=10, microusd=2_500_000)
    assert plan.wants_judge
    assert plan.wanted


def test_defaults_and_the_end_of_a_rollout() -> None:
    """A bare spec asks the judge; one with metrics and no win rate does not."""
    spec = {"candidate": {"deployment": "v7"}}
    plan = read_plan(rollout_id=1, name="n", route="r", phase="rolled_back", spec=spec)
    assert (plan.timeout_s, plan.limits, plan.wants_judge) == (60.0, Limits(), True)
    assert not plan.wanted
    only = {**spec, "analysis": {"metrics": [{"name": "format_valid"}]}}
    plan = read_plan(rollout_id=1, name="n", route="r", phase="shadowing", spec=only)
    assert not plan.wants_judge
    with pytest.raises(ValueError, match="no candidate"):
        read_plan(rollout_id=1, name="n", route="r", phase="shadowing", spec={})


def test_prices_are_rounded_up() -> None:
    """A fraction of a micro-dollar is not free."""
    assert Prices(0.15, 0.6).microusd(1000, 100) == 210
    assert Prices(0.15, 0.6).microusd(1, 0) == 1
    assert Prices().microusd(1000, 1000) == 0
    assert day_of(0.0) == "1970-01-01"


def test_the_engines_queue_is_summed_over_its_models() -> None:
    """Only the waiting requests count, and an engine that does not tell is no empty engine."""
    text = (
        "# HELP vllm:num_requests_waiting x\n"
        'vllm:num_requests_running{model_name="a"} 9.0\n'
        'vllm:num_requests_waiting{model_name="a"} 3.0\n'
        'vllm:num_requests_waiting{model_name="b"} 2.0\n'
    )
    assert waiting_requests(text) == 5
    assert waiting_requests("other 1\n") is None


def test_a_growing_queue_narrows_the_mirror_and_calm_widens_it() -> None:
    """One place is always left, and recovery is gradual."""

    async def scenario() -> None:
        limiter = Limiter()
        limiter.observe(5)
        assert limiter.share == 1.0
        limiter.observe(6)
        assert limiter.share == 0.5
        for _ in range(20):
            limiter.narrow()
        async with limiter.slot(4):
            assert limiter.share == 1 / 64
        for _ in range(100):
            async with limiter.slot(4):
                pass
        assert limiter.share == 1.0

    asyncio.run(scenario())


def test_the_ceiling_holds() -> None:
    """Never more in flight than allowed; a place that is left is taken by the next."""

    async def scenario() -> None:
        limiter = Limiter()
        running = peak = 0

        async def work() -> None:
            nonlocal running, peak
            async with limiter.slot(3):
                running += 1
                peak = max(peak, running)
                await asyncio.sleep(0)
                running -= 1

        await asyncio.wait_for(asyncio.gather(*(work() for _ in range(20))), 20)
        assert peak == 3

    asyncio.run(scenario())
