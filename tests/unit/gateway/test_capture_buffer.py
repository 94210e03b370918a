"""The buffer is bounded, sheds without waiting, and never forgets a count."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.batch import LIVE, MIRRORS, Batch, Capture, Scope, WindowKey
from gateway.capture import CaptureBuffer
from gateway.split import Mirror, Split

SPLIT = Split(
    route="bot",
    revision=2,
    baseline="base",
    candidate="cand",
    weight_bp=500,
    rollout="r1",
    rollout_id=1,
    live_sample_bp=10,
    mirrors=(Mirror(1, "r1", "cand", 10, 0, "m"), Mirror(2, "r2", "other", 10, 0, "n")),
)
KEY = WindowKey(rollout_id=1, split_revision=2, weight_bp=500, epoch=0)


@pytest.fixture
def capture(make_capture: Callable[..., Capture]) -> Capture:
    """A capture of 4 bytes that a mirror and its noise want."""
    return make_capture(pairs=[(1, "mirror"), (1, "noise")])


def test_bytes_are_bounded_until_written(capture: Capture) -> None:
    """Room is given back when the batch is written, not when it is taken."""
    buffer = CaptureBuffer(max_bytes=10, max_count=10, now=0)
    assert buffer.reserve(6)
    assert not buffer.reserve(5)
    assert buffer.add(replace(capture, size=6))
    batch = buffer.take(1)
    assert not buffer.reserve(5)
    buffer.free(6, len(batch.captures))
    assert buffer.reserve(10)


def test_count_is_bounded(capture: Capture) -> None:
    """Many small captures are as bounded as few large ones."""
    buffer = CaptureBuffer(max_bytes=1000, max_count=1, now=0)
    assert buffer.reserve(4)
    assert buffer.reserve(4)
    assert buffer.add(capture)
    assert not buffer.add(capture)
    assert buffer.bytes == 4
    assert not buffer.reserve(1)


def test_counts_go_into_one_batch(capture: Capture) -> None:
    """A capture counts for each of its pairs; a dismissal for its one stream; then all is fresh."""
    buffer = CaptureBuffer(max_bytes=100, max_count=10, now=5)
    buffer.add(capture)
    buffer.dismiss([(1, "mirror")], "shed")
    scope = Scope(SPLIT)
    buffer.settle(scope, "candidate", 0, error=True, slow=True)
    batch = buffer.take(6)
    assert (batch.from_at, batch.to_at) == (5, 6)
    assert dict(batch.funnel) == {
        (1, "mirror", "eligible"): 2,
        (1, "mirror", "pending"): 1,
        (1, "mirror", "shed"): 1,
        (1, "noise", "eligible"): 1,
        (1, "noise", "pending"): 1,
    }
    tally = batch.windows[KEY]["candidate"]
    assert (tally.requests, tally.error_rate, tally.timeout_rate, tally.latency) == (1, 1, 0, 1)
    assert not batch.empty
    after = buffer.take(7)
    assert after.empty
    assert after.from_at == 6


def test_requests_in_no_sample_count_for_every_stream_they_missed() -> None:
    """What is counted as one number per route ends as an outcome of each rollout's stream."""
    buffer = CaptureBuffer(max_bytes=100, max_count=10, now=0)
    scope = Scope(SPLIT)
    for _ in range(3):
        buffer.settle(scope, None, MIRRORS)
    for _ in range(4):
        buffer.settle(scope, None, LIVE)
    buffer.settle(scope, "baseline", MIRRORS | LIVE)
    buffer.settle(scope, "baseline", 0)
    batch = buffer.take(1)
    assert dict(batch.funnel) == {
        (1, "mirror", "eligible"): 4,
        (1, "mirror", "not_sampled"): 4,
        (2, "mirror", "eligible"): 4,
        (2, "mirror", "not_sampled"): 4,
        (1, "live", "eligible"): 5,
        (1, "live", "not_sampled"): 5,
    }
    assert batch.windows[KEY]["baseline"].requests == 2


def test_a_table_built_anew_counts_into_the_same_window() -> None:
    """Routes are rebuilt when any split changes; a window that goes on is still one."""
    buffer = CaptureBuffer(max_bytes=100, max_count=10, now=0)
    buffer.settle(Scope(SPLIT), "baseline", 0)
    buffer.settle(Scope(SPLIT), "baseline", 0, timeout=True)
    (arms,) = buffer.take(1).windows.values()
    assert (arms["baseline"].requests, arms["baseline"].timeout_rate) == (2, 1)


def test_no_count_is_lost_between_threads() -> None:
    """However often the writer takes, each request is in exactly one batch, whole."""
    buffer = CaptureBuffer(max_bytes=100, max_count=10, now=0)
    scope, total, done = Scope(SPLIT), 20_000, threading.Event()
    batches: list[Batch] = []

    def write() -> None:
        while not done.is_set():
            batches.append(buffer.take(1))

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(total):
        buffer.settle(scope, "candidate", LIVE, error=True)
    done.set()
    thread.join()
    batches.append(buffer.take(2))
    funnel: Counter[tuple[int, str, str]] = Counter()
    requests = errors = 0
    for batch in batches:
        funnel.update(batch.funnel)
        for arms in batch.windows.values():
            assert arms["candidate"].requests == arms["candidate"].error_rate
            requests += arms["candidate"].requests
            errors += arms["candidate"].error_rate
    assert requests == errors == total
    assert dict(funnel) == {(1, "live", "eligible"): total, (1, "live", "not_sampled"): total}


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({"max_count": 2}, [2, 2, 1]),
        ({"max_bytes": 12}, [3, 2]),
        ({"max_bytes": 1}, [1, 1, 1, 1, 1]),
    ],
)
def test_a_backlog_is_taken_in_parts(
    capture: Capture, limits: dict[str, int], sizes: list[int]
) -> None:
    """The oldest come first, none is left behind, and each counts with the batch it is in."""
    buffer = CaptureBuffer(max_bytes=100, max_count=10, now=0)
    for number in range(5):
        assert buffer.reserve(4)
        buffer.add(replace(capture, id=str(number)))
    taken: list[str] = []
    for size in sizes:
        batch = buffer.take(1, **limits)
        assert batch.funnel[1, "mirror", "pending"] == len(batch.captures) == size
        assert batch.size == 4 * size
        taken += [each.id for each in batch.captures]
        buffer.free(batch.size, size)
    assert taken == ["0", "1", "2", "3", "4"]
    assert (buffer.waiting, buffer.bytes) == (0, 0)


def test_captures_let_go_count_as_shed(capture: Capture) -> None:
    """What the store refuses was eligible all the same."""
    buffer = CaptureBuffer(max_bytes=100, max_count=10, now=0)
    buffer.add(capture)
    batch = buffer.take(1)
    batch.shed()
    assert not batch.captures
    assert {key: count for key, count in batch.funnel.items() if count} == {
        (1, "mirror", "eligible"): 1,
        (1, "mirror", "shed"): 1,
        (1, "noise", "eligible"): 1,
        (1, "noise", "shed"): 1,
    }


def test_a_failed_candidate_wakes_the_writer() -> None:
    """Harm is reported soon; ordinary counts wait for the next batch."""
    buffer = CaptureBuffer(max_bytes=100, max_count=10, now=0)
    scope = Scope(SPLIT)
    buffer.settle(scope, "baseline", 0, error=True)
    buffer.settle(scope, "candidate", 0, slow=True)
    assert not buffer.wake.is_set()
    buffer.settle(scope, "candidate", 0, error=True)
    assert buffer.wake.is_set()
    assert not buffer.hurry.is_set()


def test_breakers_that_flap_do_not_fill_the_memory() -> None:
    """While the store is down for long, the latest changes of breakers are kept."""
    buffer = CaptureBuffer(max_bytes=100, max_count=10, now=0)
    for number in range(5000):
        buffer.breaker(1, 0, number, {"state": "open"})
    changes = buffer.take(1).breaker
    assert len(changes) <= 1000
    assert changes[-1][2] == 4999


def test_revisions_keep_when_they_were_applied() -> None:
    """Applying the same revision again does not move its instant."""
    buffer = CaptureBuffer(max_bytes=100, max_count=10, now=0)
    buffer.applied({"bot": 1}, 10)
    buffer.candidate_called("bot", 11)
    buffer.applied({"bot": 1}, 12)
    assert buffer.take(13).revisions == {
        "bot": {"revision": 1, "applied_at": 10, "last_candidate_at": 11}
    }
    buffer.applied({"bot": 2}, 14)
    assert buffer.hurry.is_set()
    assert buffer.take(15).revisions == {
        "bot": {"revision": 2, "applied_at": 14, "last_candidate_at": 11}
    }
