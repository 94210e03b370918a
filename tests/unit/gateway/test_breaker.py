"""The breaker only narrows: it opens on failures, probes, and closes on a success."""

from __future__ import annotations

import pytest

from gateway.breaker import Breaker


def test_opens_at_k_failures_of_the_last_n() -> None:
    """Failures that have left the window do not count any more."""
    breaker = Breaker(failures=3, window=4, cooldown=10)
    for failed in (True, True, False, False, False, True, True):
        assert breaker.record(failed=failed, now=0) is None
    assert breaker.record(failed=True, now=1) == "open"
    assert (breaker.failures, breaker.of) == (3, 4)
    assert not breaker.admits(2)


@pytest.mark.parametrize("window", [1, 3, 8])
def test_failures_are_those_of_the_window(window: int) -> None:
    """The count kept is the count of the last requests, while closed and while open."""
    results = [(number * number) % 7 < 2 for number in range(60)]
    breaker = Breaker(failures=window, window=window, cooldown=1e9)
    for number, failed in enumerate(results, 1):
        breaker.record(failed=failed, now=0)
        last = results[max(0, number - window) : number]
        assert (breaker.failures, breaker.of) == (sum(last), len(last))


def test_one_probe_per_cooldown() -> None:
    """An open breaker lets one request through after the cool-down, not all that wait."""
    breaker = Breaker(failures=1, window=1, cooldown=10)
    breaker.record(failed=True, now=0)
    assert [breaker.admits(now) for now in (5, 10, 10.1, 15)] == [False, True, False, False]
    assert breaker.record(failed=True, now=16) is None
    assert not breaker.admits(25)
    assert breaker.admits(26)
    assert breaker.record(failed=False, now=27) == "closed"
    assert breaker.admits(27)
    assert breaker.failures == 0


def test_a_lost_probe_is_replaced() -> None:
    """A probe whose client left does not keep the breaker open for ever."""
    breaker = Breaker(failures=1, window=1, cooldown=10)
    breaker.record(failed=True, now=0)
    assert breaker.admits(10)
    assert not breaker.admits(19)
    assert breaker.admits(20)


def test_stragglers_do_not_close_it() -> None:
    """A success of a request sent before it opened proves nothing about now."""
    breaker = Breaker(failures=1, window=5, cooldown=10)
    assert breaker.record(failed=True, now=0) == "open"
    assert breaker.record(failed=False, now=1) is None
    assert breaker.open
