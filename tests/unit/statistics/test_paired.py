"""Evidence from pairs against values worked out by hand."""

from __future__ import annotations

import json
import random
from math import exp, log, sqrt

import pytest

from rollout.statistics import PairedState

FAILURES = ((0.3, 0.15), (0.5, 0.4), (0.8, 0.35))
"""Fixed stakes on failures, with the capital on each."""

AMOUNTS = ((0.2, 1 / 6), (0.4, 1 / 6), (0.7, 1 / 6))
"""The same on amounts."""


def design(effect: float, moment: float) -> float:
    """Design bet as in the paper's notation."""
    return min(0.9, (-moment + sqrt(moment**2 + 4 * effect**2)) / (2 * effect))


def test_two_pairs_by_hand() -> None:
    """A win and a loss leave exactly the capital that the formulas give."""
    state = PairedState.start(kind="binary", margin=0.01).update(1).update(-1)
    harm = sum(weight * (1 + bet) * (1 - bet) for bet, weight in FAILURES)
    proof = 0.0
    for factor, weight, proof_weight in ((0.5, 0.03, 0.1), (1, 0.03, 0.8), (2, 0.04, 0.1)):
        first, second = design(factor * 0.01, 0.25), design(factor * 0.01, 1.25 / 2)
        harm += weight * (1 + first) * (1 - second)
        proof += proof_weight * (1 + first * (0.01 - 1)) * (1 + second * (0.01 + 1))
    assert state.log_e_harm == pytest.approx(log(harm), rel=1e-12)
    assert state.log_e_non_inferior == pytest.approx(log(proof), rel=1e-12)


def test_design_bet_is_the_growth_optimal_stake() -> None:
    """The first design bet solves m·λ² + v·λ = m at the prior second moment of a quarter."""
    stake = design(0.1, 0.25)
    assert 0.1 * stake**2 + 0.25 * stake == pytest.approx(0.1)
    state = PairedState.start(kind="mean", margin=0.1).update(1.0)
    assert state.harm_bets[1] == pytest.approx(log(1 + stake))


def test_no_evidence_is_an_e_value_of_one() -> None:
    """A fresh state claims nothing and bounds nothing."""
    state = PairedState.start(kind="score", margin=0.05)
    assert (state.log_e_harm, state.log_e_non_inferior, state.n, state.mean) == (0.0, 0.0, 0, 0.0)
    assert state.bounds(0.05) == (0.0, 1.0)
    assert PairedState.start(kind="binary", margin=0.01).bounds(0.05) == (-1.0, 1.0)


def test_a_broken_candidate_is_harm_within_a_few_pairs() -> None:
    """Eight failures in a row against a sound baseline reach 1/0.05, six do not."""
    state = PairedState.start(kind="binary", margin=0.01).update_many([1] * 6)
    assert exp(state.log_e_harm) < 20
    assert exp(state.update_many([1] * 2).log_e_harm) > 20


def test_a_judge_that_prefers_the_candidate_is_no_harm() -> None:
    """For scores a positive value speaks for the candidate, for binary metrics against it."""
    wins = [1.0] * 100
    score = PairedState.start(kind="score", margin=0.05).update_many(wins)
    binary = PairedState.start(kind="binary", margin=0.05).update_many(wins)
    assert score.log_e_harm < 0 < binary.log_e_harm
    assert binary.log_e_non_inferior < 0 < score.log_e_non_inferior
    assert (score.mean, score.estimate, binary.estimate) == (1.0, 1.0, 1.0)


def test_margin_of_a_score_is_on_the_win_rate_scale() -> None:
    """A win rate of exactly 0.5 - margin gains nothing; one well above is proven."""
    at_margin = PairedState.start(kind="score", margin=0.05).update_many([1, -1] * 9 + [-1, -1])
    assert at_margin.estimate == pytest.approx(0.45)
    assert at_margin.update_many(([1, -1] * 9 + [-1, -1]) * 99).log_e_non_inferior < log(20)
    equal = PairedState.start(kind="score", margin=0.05).update_many([1, 0, -1] * 400)
    assert equal.log_e_non_inferior > log(20)


def test_bounds_are_on_the_win_rate_scale_for_scores() -> None:
    """The sequence of a score contains its win rate and narrows to a few points."""
    state = PairedState.start(kind="score", margin=0.05).update_many([1, 0, 0, -0.5] * 500)
    low, high = state.bounds(0.05)
    assert state.estimate == pytest.approx(0.5625)
    assert low < state.estimate < high
    assert high - low < 0.08


def test_a_design_bet_never_stakes_more_than_nine_tenths() -> None:
    """After a flawless past one failure costs at most nine tenths of the capital."""
    before = PairedState.start(kind="binary", margin=0.01).update_many([0] * 5000)
    after = before.update(1)
    assert exp(after.non_inferior_bets[1] - before.non_inferior_bets[1]) == pytest.approx(
        1 - 0.9 * 0.99
    )


def test_flawless_pairs_prove_a_margin_of_one_point() -> None:
    """Without a single difference, 400 pairs prove a margin of 0.01 and 200 do not."""
    state = PairedState.start(kind="binary", margin=0.01).update_many([0] * 200)
    assert state.log_e_non_inferior < log(20)
    assert state.update_many([0] * 200).log_e_non_inferior > log(20)
    assert state.log_e_harm == 0.0


def test_values_between_lattice_points_keep_the_mean_and_lose_capital_only() -> None:
    """A value of 1/3 counts as less capital than exact bets would give, by less than 1e-3."""
    state = PairedState.start(kind="mean", margin=0.1).update_many([1 / 3] * 3)
    assert state.mean == pytest.approx(1 / 3)
    assert sum(count for _, count in state.counts) == pytest.approx(3)
    assert sum(value * count for value, count in state.counts) == pytest.approx(1)
    fixed = sum(weight * (1 + bet / 3) ** 3 for bet, weight in AMOUNTS)
    designs = sum(0.25 * exp(capital) for capital in state.harm_bets[1:])
    exact = log(fixed + designs)
    assert exact - 1e-3 < state.log_e_harm <= exact


def test_a_million_pairs_neither_overflow_nor_lose_the_bounds() -> None:
    """Capital of e^100000 and of e^-100000 is a plain number, and bounds stay narrow."""
    state = PairedState.start(kind="binary", margin=0.01)
    document = state.to_json() | {"n": 10**6, "total": 5e5, "squares": 5e5}
    document |= {"counts": [[0.0, 5e5], [1.0, 5e5]], "harm_bets": [2e5, 2e5, 2e5]}
    document |= {"non_inferior_bets": [-9e5, -9e5, -9e5]}
    large = PairedState.from_json(document).update(1)
    assert large.log_e_harm > 1e5
    assert large.log_e_non_inferior < -1e5
    low, high = large.bounds(0.05)
    assert low < 0.5 < high
    assert high - low < 0.01


def test_looked_at_after_every_pair_false_alarms_stay_below_alpha() -> None:
    """Of 300 A/A streams of 400 pairs, fewer than alpha reach 1/alpha at any look."""
    rng = random.Random(7)
    alarms = 0
    for _ in range(300):
        state = PairedState.start(kind="score", margin=0.05)
        for difference in rng.choices((-1, -0.5, 0, 0.5, 1), (3, 1, 2, 1, 3), k=400):
            state = state.update(difference)
            if state.log_e_harm >= log(10):
                alarms += 1
                break
    assert alarms <= 300 * 0.1


def test_json_is_plain() -> None:
    """A state survives the text form of JSON with equality."""
    state = PairedState.start(kind="mean", margin=0.1).update_many([0.1, -0.7, 1 / 3])
    assert PairedState.from_json(json.loads(json.dumps(state.to_json()))) == state


@pytest.mark.parametrize(
    ("kind", "margin", "named"),
    [
        ("binary", 0.0, "margin"),
        ("binary", 1.0, "margin"),
        ("score", 0.5, "margin"),
        ("mean", float("nan"), "margin"),
        ("ternary", 0.1, "kind"),
    ],
)
def test_arguments_outside_their_domain_are_named(kind: str, margin: float, named: str) -> None:
    """A margin or kind that cannot be bet on is refused with the argument's name."""
    with pytest.raises(ValueError, match=named):
        PairedState.start(kind=kind, margin=margin)  # type: ignore[arg-type]


@pytest.mark.parametrize("difference", [1.5, -1.0001, float("nan"), float("inf")])
def test_a_difference_outside_its_domain_is_refused(difference: float) -> None:
    """Capital could turn negative beyond [-1, 1], so such a difference is refused."""
    with pytest.raises(ValueError, match="difference"):
        PairedState.start(kind="binary", margin=0.01).update(difference)


def test_alpha_outside_its_domain_is_refused() -> None:
    """An error probability of 0 or 1 is refused by name."""
    with pytest.raises(ValueError, match="alpha"):
        PairedState.start(kind="binary", margin=0.01).bounds(0.0)
