"""The pure part of the rollback benchmark: one rollback, and what many come to."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture
def rollbacks(dataplane: Callable[[str], ModuleType]) -> ModuleType:
    """The module with the report."""
    return dataplane("rollbacks")


def test_a_rollback_is_timed_by_what_users_saw(rollbacks: ModuleType) -> None:
    """Requests that fell back were the candidate's; those before the decision are its failures."""
    seen = [
        rollbacks.Seen(10.0, 10.1, "candidate", "split"),
        rollbacks.Seen(10.2, 10.3, "baseline", "fallback"),
        rollbacks.Seen(10.4, 10.45, "baseline", "fallback"),
        rollbacks.Seen(10.52, 10.6, "baseline", "fallback"),
        rollbacks.Seen(10.9, 11.0, "baseline", "split"),
    ]
    one = rollbacks.observed(seen, decided_at=10.5, last_candidate=0.03, applied=0.05)
    assert one.users == pytest.approx(0.02)
    assert one.detection == pytest.approx(0.2)
    assert (one.failures, one.last_candidate, one.applied) == (2, 0.03, 0.05)


def test_a_rollback_that_nobody_needed_is_an_error(rollbacks: ModuleType) -> None:
    """Without a failing answer there is nothing to measure."""
    seen = [rollbacks.Seen(1.0, 1.1, "candidate", "split")]
    with pytest.raises(ValueError, match="failing answer"):
        rollbacks.observed(seen, decided_at=2.0, last_candidate=0.0, applied=0.0)


@pytest.mark.parametrize(("worst", "met"), [(0.2, True), (0.3, False)])
def test_the_goal_is_on_the_worst_of_few(rollbacks: ModuleType, worst: float, *, met: bool) -> None:
    """The p99 of thirty is their worst, and it alone has a goal."""
    done = [rollbacks.Rollback(0.04, 0.04, 0.05, 0.2, 9) for _ in range(29)]
    done.append(rollbacks.Rollback(worst, worst, worst, 0.2, 9))
    document = rollbacks.rollback_report(done, {"cpus": 2})
    rows = {row["name"]: row for row in document["results"]}
    p50 = rows["decision to the last candidate request, p50"]
    p99 = rows["decision to the last candidate request, p99"]
    assert (p50["value"], p50["met"]) == (40.0, None)
    assert (p99["value"], p99["goal"], p99["met"]) == (worst * 1000, "< 250", met)
    assert rows["failing answers before the decision, p50"]["value"] == 9
