"""One random order: what it is worth, and that it has no bias where a fixed one has."""

from __future__ import annotations

from random import Random

import pytest

from shadow.judge.pairwise import Order, OrderPolicy, Side, compared


def test_both_orders_are_the_default() -> None:
    """Nothing is left to chance unless the settings say so."""
    rng = Random(1)
    assert {OrderPolicy().draw(rng) for _ in range(50)} == {("AB", "BA")}


def test_single_orders_are_drawn_evenly_and_audited() -> None:
    """A fifth of the pairs in both orders; the others half in either."""
    rng = Random(2)
    policy = OrderPolicy(single=True, audit=0.2)
    drawn = [policy.draw(rng) for _ in range(20_000)]
    assert drawn.count(("AB", "BA")) / 20_000 == pytest.approx(0.2, abs=0.012)
    assert drawn.count(("AB",)) / 20_000 == pytest.approx(0.4, abs=0.015)


@pytest.mark.parametrize(
    ("order", "verdict", "result", "score"),
    [
        ("AB", "A", "loss", -1.0),
        ("AB", "B", "win", 1.0),
        ("BA", "A", "win", 1.0),
        ("BA", "B", "loss", -1.0),
        ("BA", "tie", "tie", 0.0),
    ],
)
def test_a_single_verdict_is_a_win_a_tie_or_a_loss(
    order: Order, verdict: Side, result: str, score: float
) -> None:
    """One order scores in full, from the candidate's point of view."""
    made = compared({order: verdict})
    assert (made.result, made.score) == (result, score)


def test_no_verdict_is_no_comparison() -> None:
    """Nothing is made of nothing."""
    with pytest.raises(ValueError, match="without a verdict"):
        compared({})


def test_a_random_order_has_no_bias_under_position_bias() -> None:
    """A judge that names the first answer in 15 points more: the mean score of equals stays 0."""
    rng = Random(3)
    policy = OrderPolicy(single=True, audit=0.2)

    def verdict() -> Side:
        return "A" if rng.random() < 0.575 else "B"

    scores = []
    always_first = []
    for _ in range(40_000):
        scores.append(compared({order: verdict() for order in policy.draw(rng)}).score)
        always_first.append(compared({"AB": verdict()}).score)
    assert sum(scores) / len(scores) == pytest.approx(0.0, abs=0.02)  # four standard errors
    assert sum(always_first) / len(always_first) == pytest.approx(-0.15, abs=0.02)
