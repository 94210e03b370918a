"""The judge's budget and cache in the store, on both databases."""

from __future__ import annotations

import threading

from gateway.store import Store
from gateway.store.tables import JudgeBudgetRow
from shadow.budget import Limits, reserve, settle
from shadow.judge.cache import JudgeCache, Kept, keep_verdicts
from shadow.judge.parse import Verdict

VERDICT = Verdict.model_validate(
    {"evidence": "e", "verdict": "A", "scores": {"A": 2, "B": 1}, "severity": "none"}
)


def spent(store: Store) -> tuple[int, int]:
    """Read calls and micro-dollars of rollout 1."""
    with store.read() as session:
        row = session.get(JudgeBudgetRow, (1, "2026-01-01"))
        return (row.calls, row.microusd) if row else (0, 0)


def take(store: Store, limits: Limits, *, calls: int = 2, microusd: int = 100) -> bool:
    """Reserve for rollout 1 on one day."""
    return reserve(store, 1, "2026-01-01", limits, calls=calls, microusd=microusd)


def test_dollars_and_calls_are_reserved_up_to_the_limit(store: Store) -> None:
    """The call that would go over is not made, and changes nothing."""
    dollars = Limits(microusd=250)
    assert [take(store, dollars) for _ in range(3)] == [True, True, False]
    assert spent(store) == (4, 200)
    settle(store, 1, "2026-01-01", calls=0, microusd=-60)
    assert take(store, dollars)
    assert spent(store) == (6, 240)
    assert not take(store, Limits(calls=7))
    assert take(store, Limits(calls=8))
    assert take(store, Limits())


def test_a_budget_of_zero_allows_nothing(store: Store) -> None:
    """Also where the judge is free of charge."""
    assert not take(store, Limits(microusd=0), microusd=0)
    assert not take(store, Limits(calls=0))


def test_days_and_rollouts_have_budgets_of_their_own(store: Store) -> None:
    """One rollout's spending does not stop another's, nor tomorrow's."""
    limits = Limits(calls=2)
    assert take(store, limits)
    assert not take(store, limits)
    assert reserve(store, 2, "2026-01-01", limits, calls=2, microusd=0)
    assert reserve(store, 1, "2026-01-02", limits, calls=2, microusd=0)


def test_a_race_for_the_last_call_has_one_winner(store: Store) -> None:
    """Workers that reserve at the same time never overspend together."""
    barrier = threading.Barrier(8)
    won: list[bool] = []

    def work() -> None:
        barrier.wait(20)
        won.append(take(store, Limits(calls=6)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert won.count(True) == 3
    assert spent(store)[0] == 6


def test_the_cache_keeps_the_first_verdict(store: Store) -> None:
    """A verdict comes back as it was; a second one under the same key changes nothing."""
    cache = JudgeCache(store)
    assert cache.get("k") is None
    other = VERDICT.model_copy(update={"verdict": "B"})
    for kept in (Kept("k", VERDICT, "j", "f"), Kept("k", other, "x", None)):
        with store.write() as session:
            keep_verdicts(store, session, [kept], now=1.0)
    found = cache.get("k")
    assert found
    assert (found["model"], found["fingerprint"]) == ("j", "f")
    assert Verdict.model_validate(found["verdict"]) == VERDICT
