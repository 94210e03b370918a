"""The buffer is bounded, sheds without waiting, and never forgets a count."""

from __future__ import annotations

from dataclasses import replace

from gateway.capture import Capture, CaptureBuffer, WindowKey

CAPTURE = Capture(
    id="c",
    route="bot",
    request_id="r",
    created_at=0.0,
    endpoint="/chat/completions",
    variant="baseline",
    reason="split",
    deployment="base",
    stream=False,
    request_body=b"{}",
    response_body=b"{}",
    content_encoding=b"",
    status=200,
    ttft_s=None,
    total_s=0.1,
    input_tokens=None,
    output_tokens=None,
    segment=None,
    risk=None,
    key_hash=None,
    split_revision=1,
    epoch=0,
    weight_bp=0,
    size=4,
    pairs=[(1, "mirror"), (1, "noise")],
)


def test_bytes_are_bounded_until_written() -> None:
    """Room is given back when the batch is written, not when it is taken."""
    buffer = CaptureBuffer(max_bytes=10, max_count=10, now=0)
    assert buffer.reserve(6)
    assert not buffer.reserve(5)
    assert buffer.add(replace(CAPTURE, size=6))
    batch = buffer.take(1)
    assert not buffer.reserve(5)
    buffer.free(6, len(batch.captures))
    assert buffer.reserve(10)


def test_count_is_bounded() -> None:
    """Many small captures are as bounded as few large ones."""
    buffer = CaptureBuffer(max_bytes=1000, max_count=1, now=0)
    assert buffer.reserve(4)
    assert buffer.reserve(4)
    assert buffer.add(CAPTURE)
    assert not buffer.add(CAPTURE)
    assert buffer.bytes == 4
    assert not buffer.reserve(1)


def test_counts_go_into_one_batch() -> None:
    """A capture counts for each of its pairs; a dismissal for its one stream; then all is fresh."""
    buffer = CaptureBuffer(max_bytes=100, max_count=10, now=5)
    buffer.add(CAPTURE)
    buffer.dismiss(1, "mirror", "shed")
    key = WindowKey(rollout_id=1, split_revision=2, weight_bp=500, epoch=0)
    buffer.count(key, "candidate", error=True, timeout=False, slow=True)
    batch = buffer.take(6)
    assert (batch.from_at, batch.to_at) == (5, 6)
    assert dict(batch.funnel) == {
        (1, "mirror", "eligible"): 2,
        (1, "mirror", "pending"): 1,
        (1, "mirror", "shed"): 1,
        (1, "noise", "eligible"): 1,
        (1, "noise", "pending"): 1,
    }
    tally = batch.windows[key]["candidate"]
    assert (tally.requests, tally.error_rate, tally.timeout_rate, tally.latency) == (1, 1, 0, 1)
    assert not batch.empty
    assert buffer.take(7).empty


def test_a_failed_candidate_wakes_the_writer() -> None:
    """Harm is reported soon; ordinary counts wait for the next batch."""
    buffer = CaptureBuffer(max_bytes=100, max_count=10, now=0)
    key = WindowKey(rollout_id=1, split_revision=2, weight_bp=500, epoch=0)
    buffer.count(key, "baseline", error=True, timeout=False, slow=False)
    buffer.count(key, "candidate", error=False, timeout=False, slow=False)
    assert not buffer.wake.is_set()
    buffer.count(key, "candidate", error=True, timeout=False, slow=False)
    assert buffer.wake.is_set()
    assert not buffer.hurry.is_set()


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
