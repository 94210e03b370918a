"""The growth of capital, in floats, beside the same formula in sixty digits."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.capital import CASH, _growth

weights = st.floats(1e-3, 8.0)
grown = st.one_of(st.just(0.0), st.floats(-60.0, 60.0))


def exact(streams: list[tuple[float, float, float]]) -> float:
    """Return log((c + Σ w·e^(l + g)) / (c + Σ w·e^l)), where c is cash."""
    with localcontext() as context:
        context.prec = 60
        cash = Decimal(CASH) * sum(Decimal(weight) for weight, _, _ in streams)
        held = [Decimal(weight) * Decimal(leaning).exp() for weight, leaning, _ in streams]
        moved = [part * Decimal(g).exp() for part, (_, _, g) in zip(held, streams, strict=True)]
        return float(((cash + sum(moved)) / (cash + sum(held))).ln())


@given(st.lists(st.tuples(weights, st.floats(-200.0, 200.0), grown), min_size=1, max_size=12))
def test_growth_is_that_of_the_formula(streams: list[tuple[float, float, float]]) -> None:
    """Whatever the e-values are, and in any order of the streams to the last bit."""
    assert _growth(streams) == pytest.approx(exact(streams), rel=1e-9, abs=1e-12)
    assert _growth(streams[::-1]) == _growth(streams)


@given(st.lists(st.tuples(weights, *[st.floats(-5000.0, 5000.0)] * 2), min_size=1, max_size=6))
def test_no_evidence_is_too_strong(streams: list[tuple[float, float, float]]) -> None:
    """A window of ten thousand failures moves an e-value further than a float can hold."""
    found = _growth(streams)  # the least floats have a digit or two
    assert found <= max(0.0, *(g for _, _, g in streams)) + 1
    assert found >= min(0.0, *(g for _, _, g in streams)) - 1
