"""A busy worker does not blame the candidate."""

from __future__ import annotations

from shadow.lag import LoopLag


def test_what_was_timed_while_the_loop_was_late_is_disturbed() -> None:
    """Lateness inside the interval counts, lateness before it does not."""
    lag = LoopLag(clock=lambda: 0.0)
    for tick in range(10):
        lag.add(10.0 + tick / 10, 0.05)
    assert lag.disturbed(10.0, 11.0)
    assert not lag.disturbed(10.95, 12.0)


def test_a_little_lateness_is_no_disturbance() -> None:
    """Up to 0.1 s, or a fifth of what was timed, is within the noise."""
    lag = LoopLag(clock=lambda: 0.0)
    lag.add(1.0, 0.09)
    assert not lag.disturbed(0.9, 1.1)
    lag.add(1.05, 0.2)
    assert lag.disturbed(0.9, 1.1)
    assert not lag.disturbed(0.0, 3.0)


def test_an_early_wake_up_is_nothing() -> None:
    """Negative lateness, as clocks may show, never makes up for real lateness."""
    lag = LoopLag(clock=lambda: 0.0)
    lag.add(1.0, 0.5)
    lag.add(1.1, -5.0)
    assert lag.disturbed(0.9, 1.2)
