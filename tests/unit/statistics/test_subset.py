"""Whether the pairs that were compared are a fair sample of those drawn."""

from __future__ import annotations

import json
from math import lgamma, log
from random import Random

import pytest

from rollout.statistics.subset import SubsetState


def _of(**counts: tuple[int, int]) -> SubsetState:
    state = SubsetState()
    for segment, (compared, dropped) in counts.items():
        state = state.update(segment, compared=compared, dropped=dropped)
    return state


def test_the_e_value_is_the_formula_of_its_source() -> None:
    """Krichevsky and Trofimov's mixture by segment, over the best common rate."""
    state = _of(a=(90, 10), b=(60, 40))

    def beta(x: float, y: float) -> float:
        return lgamma(x) + lgamma(y) - lgamma(x + y)

    apart = beta(10.5, 90.5) + beta(40.5, 60.5) - 2 * beta(0.5, 0.5)
    common = 50 * log(50 / 200) + 150 * log(150 / 200)
    assert state.log_e == pytest.approx(apart - common, abs=1e-12)
    assert state.log_e > log(1000)


def test_order_and_grouping_do_not_matter() -> None:
    """It is a function of counts: one at a time, all at once, and through JSON."""
    one = SubsetState()
    for _ in range(7):
        one = one.update("a", dropped=1).update("b", compared=2)
    many = _of(b=(14, 0), a=(0, 7))
    assert one == many
    assert SubsetState.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    "state", [SubsetState(), _of(a=(50, 0), b=(70, 0)), _of(a=(0, 9)), _of(a=(100, 900))]
)
def test_nothing_is_found_where_nothing_can_be(state: SubsetState) -> None:
    """Nothing seen, nothing lost, or one segment alone: no evidence of an unfair loss."""
    assert state.log_e <= 0


def test_fair_losses_are_rarely_called_unfair() -> None:
    """Looked at after every pair, at most 5% of runs at 20% drops ever reach an e-value of 20."""
    rng = Random(20261125)
    alarms = 0
    for _ in range(200):
        state = SubsetState()
        for _ in range(400):
            dropped = int(rng.random() < 0.2)
            segment = rng.choices("abc", weights=(8, 4, 1))[0]
            state = state.update(segment, compared=1 - dropped, dropped=dropped)
            if state.log_e >= log(20):
                alarms += 1
                break
    assert alarms <= 10


def test_a_segment_that_loses_more_is_found_and_named() -> None:
    """Half of a tenth of the traffic lost is proof within a few hundred pairs."""
    state = _of(common=(450, 0), rare=(25, 25))
    assert state.log_e > log(1000)
    worst = state.worst
    assert worst is not None
    assert (worst.segment, round(worst.drawn, 2), round(worst.compared, 3)) == ("rare", 0.1, 0.053)
    assert worst.departure == pytest.approx(0.474, abs=0.001)


def test_segments_beyond_the_limit_count_together() -> None:
    """State is bounded whatever names clients send."""
    state = SubsetState(limit=2)
    for segment in ("a", "b", "c", "d", None):
        state = state.update(segment, compared=1)
    assert state.counts == (("", 3, 0), ("a", 1, 0), ("b", 1, 0))
    assert state.compared == 5
    with pytest.raises(ValueError, match="impossible"):
        state.update("a", dropped=-1)
