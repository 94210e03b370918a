"""E-values of several guardrails and segments made into one."""

from __future__ import annotations

from math import inf, log, nan

import pytest

from rollout.statistics import combine_mean, combine_segments, log_threshold


def test_mean_of_e_values() -> None:
    """The mean is of e-values, not of their logs, and weights are relative."""
    assert combine_mean([log(1), log(3)]) == pytest.approx(log(2))
    assert combine_mean([log(1), log(3)], [3, 1]) == pytest.approx(log(1.5))
    assert combine_mean([0.0]) == 0.0


def test_mean_is_never_worse_than_bonferroni() -> None:
    """One guardrail that reaches m/alpha is enough whatever the other m - 1 say."""
    assert combine_mean([log(4 / 0.05), -5000.0, -5000.0, -inf]) >= log(20) - 1e-12


def test_mean_of_extreme_values_does_not_overflow() -> None:
    """Logs of tens of thousands and of minus infinity are ordinary values."""
    assert combine_mean([90_000.0, -90_000.0]) == pytest.approx(90_000 - log(2))
    assert combine_mean([-inf, -inf]) == -inf
    assert combine_mean([inf, 0.0]) == inf


def test_a_weight_of_zero_leaves_a_value_out() -> None:
    """What weighs nothing has no influence, however large it is."""
    assert combine_mean([0.0, 800.0], [1, 0]) == 0.0


@pytest.mark.parametrize(
    ("logs", "weights", "named"),
    [
        ([], None, "logs"),
        ([nan], None, "NaN"),
        ([0.0], [1.0, 1.0], "weights must hold 1"),
        ([0.0], [0.0], "weights"),
        ([0.0, 0.0], [2.0, -1.0], "weights"),
        ([0.0], [inf], "weights"),
    ],
)
def test_means_that_do_not_exist_are_refused(
    logs: list[float], weights: list[float] | None, named: str
) -> None:
    """No value, a NaN or unusable weights never become a number."""
    with pytest.raises(ValueError, match=named):
        combine_mean(logs, weights)


def test_segments_take_half() -> None:
    """A segment's alarm counts through half the mean over segments."""
    assert combine_segments(log(2), [log(10), log(4)]) == pytest.approx(log(1 + 3.5))
    assert combine_segments(1.25, []) == 1.25


def test_declared_segments_without_evidence_count_as_one() -> None:
    """A segment not yet seen holds its capital of 1 instead of being left out."""
    assert combine_segments(0.0, [log(10)], declared=4) == pytest.approx(log(0.5 + 13 / 8))
    assert combine_segments(0.0, [], declared=3) == 0.0
    with pytest.raises(ValueError, match="declared"):
        combine_segments(0.0, [0.0, 0.0], declared=1)


def test_threshold() -> None:
    """The threshold is the log of 1/alpha, or of parts/alpha where alpha is split."""
    assert log_threshold(0.05) == pytest.approx(log(20))
    assert log_threshold(0.05, 8) == pytest.approx(log(160))
    with pytest.raises(ValueError, match="alpha"):
        log_threshold(1.0)
    with pytest.raises(ValueError, match="parts"):
        log_threshold(0.05, 0.5)
