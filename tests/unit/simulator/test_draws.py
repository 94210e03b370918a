"""Randomness that follows from the request."""

from __future__ import annotations

from gateway.simulator.draws import Draws, canonical


def test_transport_does_not_change_the_answer() -> None:
    """Streaming, usage options, user, metadata and key order leave the request the same."""
    plain = {"model": "a", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}
    dressed = {
        "temperature": 0,
        "messages": [{"content": "hi", "role": "user"}],
        "model": "b",
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": "u",
        "metadata": {"k": "v"},
    }
    assert canonical(plain) == canonical(dressed)
    assert canonical(plain) != canonical({**plain, "temperature": 1})


def test_seed_model_request_ordinal_and_name_draw_apart() -> None:
    """Each part of a draw's identity gives another number, and the same identity the same one."""
    base = Draws(1, "m", b"r").uniform("x")
    assert base == Draws(1, "m", b"r").uniform("x")
    others = {
        Draws(2, "m", b"r").uniform("x"),
        Draws(1, "n", b"r").uniform("x"),
        Draws(1, "m", b"s").uniform("x"),
        Draws(1, "m", b"r", 1).uniform("x"),
        Draws(1, "m", b"r").uniform("y"),
    }
    assert len(others | {base}) == 6


def test_events_happen_at_their_rate() -> None:
    """A rate of 0.06 happens in about 6% of requests, 0 never and 1 always."""
    draws = [Draws(3, "m", b"%d" % number) for number in range(5000)]
    share = sum(draw.happens("json_break", 0.06) for draw in draws) / len(draws)
    assert 0.05 < share < 0.07
    assert not any(draw.happens("never", 0.0) for draw in draws)
    assert all(draw.happens("always", 1.0) for draw in draws)
