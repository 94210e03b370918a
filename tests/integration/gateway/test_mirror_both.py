"""Mirroring in both directions: what chance gave to the candidate becomes evidence, too."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from sqlmodel import select

from gateway.split import Mirror
from gateway.store.tables import CaptureRow, PairRow

LIVE = {"candidate": "cand", "salt": "s", "rollout": "r1", "rollout_id": 1, "weight_bp": 5000}


def mirror(rollout_id: int = 1, share: float = 10_000, *, both: bool = True) -> Mirror:
    """Build a mirror."""
    return Mirror(rollout_id, f"r{rollout_id}", "cand", share, 10_000, f"m{rollout_id}", both)


async def ask(w: Any, count: int) -> Counter[str]:
    """Send requests and return who answered how many."""
    arms: Counter[str] = Counter()
    for number in range(count):
        answer = await w.chat(user=f"user-{number}")
        arms[answer.headers["x-coalmine-variant"]] += 1
    assert len(arms) == 2, arms
    return arms


def test_both_arms_requests_are_captured_for_pairs(world: Any, store_url: str) -> None:
    """Each answer is captured as its own arm's; only the baseline's are asked again as noise."""

    async def scenario() -> None:
        async with world(url=store_url) as w:
            await w.split(**LIVE, mirrors=(mirror(), mirror(2)))
            arms = await ask(w, 20)
            assert await w.funnel(1, "mirror", 20) == {"eligible": 20, "pending": 20}
            captures = {row.id: row for row in await w.rows(select(CaptureRow))}
            assert Counter(row.variant for row in captures.values()) == arms
            assert {(row.variant, row.deployment) for row in captures.values()} == {
                ("baseline", "base"),
                ("candidate", "cand"),
            }
            pairs = Counter(
                (row.rollout_id, row.stream, captures[row.capture_id].variant)
                for row in await w.rows(select(PairRow))
            )
            # Another rollout's mirror has nothing to compare this candidate's answers with.
            assert pairs == {
                (1, "mirror", "baseline"): arms["baseline"],
                (1, "noise", "baseline"): arms["baseline"],
                (1, "mirror", "candidate"): arms["candidate"],
                (2, "mirror", "baseline"): arms["baseline"],
                (2, "noise", "baseline"): arms["baseline"],
            }

    asyncio.run(scenario())


def test_forward_leaves_the_candidates_requests_alone(world: Any) -> None:
    """Without the second direction only what the baseline served is eligible for a pair."""

    async def scenario() -> None:
        async with world() as w:
            await w.split(**LIVE, mirrors=(mirror(both=False),))
            arms = await ask(w, 20)
            expected = arms["baseline"]
            found = await w.funnel(1, "mirror", expected)
            assert found == {"eligible": expected, "pending": expected}
            captures = await w.rows(select(CaptureRow))
            assert {row.variant for row in captures} == {"baseline"}

    asyncio.run(scenario())


def test_a_part_of_each_direction_adds_up(world: Any) -> None:
    """Sampled in part, beside live checks, every eligible request still ends exactly once."""

    async def scenario() -> None:
        async with world() as w:
            await w.split(**LIVE, live_sample_bp=3000, mirrors=(mirror(share=4000),))
            await ask(w, 60)
            for stream in ("mirror", "live"):
                found = await w.funnel(1, stream, 60)
                assert found["eligible"] == 60 == found["not_sampled"] + found["pending"]
                assert found["pending"] > 0
            assert (
                w.metric("coalmine_captures_total", outcome="pending")
                + w.metric("coalmine_captures_total", outcome="not_sampled")
                == 60
            )

    asyncio.run(scenario())


def test_a_forced_candidate_is_no_pair(world: Any) -> None:
    """Whoever chose the candidate is no random user: the answer is in no sample."""
    clients = [{"name": "tester", "key_env": "TESTER", "may_force_variant": True}]

    async def scenario() -> None:
        document = {"clients": clients}
        async with world(document=document, environ={"TESTER": "k"}) as w:
            await w.split(**{**LIVE, "weight_bp": 1}, mirrors=(mirror(),))
            forced = {"authorization": "Bearer k", "x-coalmine-force-variant": "candidate"}
            answer = await w.chat(headers=forced)
            assert answer.headers["x-coalmine-variant"] == "candidate"
            await w.chat(headers={**forced, "x-coalmine-force-variant": "baseline"})
            assert await w.funnel(1, "mirror", 1) == {"eligible": 1, "pending": 1}
            (capture,) = await w.rows(select(CaptureRow))
            assert capture.variant == "baseline"

    asyncio.run(scenario())


def test_a_candidate_that_failed_is_mirrored_forward(world: Any) -> None:
    """What the baseline answered in its place asks the candidate again, as a pair of its own."""

    async def scenario() -> None:
        async with world() as w:
            await w.split(**{**LIVE, "weight_bp": 10_000}, mirrors=(mirror(),))
            w.candidate.handler = lambda r: r.answer(b"{}", status="500 Oops")
            assert (await w.chat()).headers["x-coalmine-reason"] == "fallback"
            assert await w.funnel(1, "mirror", 1) == {"eligible": 1, "pending": 1}
            (capture,) = await w.rows(select(CaptureRow))
            assert (capture.variant, capture.deployment) == ("baseline", "base")

    asyncio.run(scenario())
