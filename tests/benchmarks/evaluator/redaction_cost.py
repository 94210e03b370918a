"""What redaction costs the gateway's writer for one capture, without and with something to replace.

The writer's thread shares its core with the event loop, so that what counts is the time that a
capture holds it: a request of 4 KB with its answer, whole or as a stream of an event a word.
"""

from __future__ import annotations

import json
import time
from statistics import median
from typing import Any

from evaluator.rows import Row

from gateway.redaction.bodies import Redactor
from gateway.settings_privacy import RedactionSettings

__all__ = ["CLEAN_GOAL", "measure"]

CLEAN_GOAL = "< 1000"
"""Microseconds for a capture of 4 KB that holds nothing to replace."""

_PROSE = "The invoice for last month shows two seats more than we ordered, please look at it. "
_PERSONAL = "I am dora.miller@mail.example, +49 151 23456789, card 4111 1111 1111 1111. "
_FRAME = {"id": "chatcmpl-8a7f", "created": 1732557600, "model": "gpt-4o-2024-08-06"}


def measure(*, quick: bool) -> list[Row]:
    """Measure microseconds a capture, and milliseconds for the largest that is hard to search."""
    count, rounds = (20, 1) if quick else (200, 5)
    redactor = Redactor(RedactionSettings(), clock=time.thread_time)
    rows = []
    for words, extra, goal in (("nothing to replace", "", CLEAN_GOAL), ("6 values", _PERSONAL, "")):
        request = _request(extra)
        for kind, answer in (("JSON", _document(extra)), ("a stream", _stream(extra))):
            times = [_microseconds(redactor, request, answer, count) for _ in range(rounds)]
            middle = median(times)
            spread = (max(times) - min(times)) / middle if rounds > 1 else None
            note = f"request {len(request)} bytes, answer {len(answer)} bytes"
            name = f"redaction of a capture, {kind}, {words}"
            rows.append(Row(name, middle, "µs", goal, rounds, spread, note))
    rows.append(_hardest(redactor, quick=quick))
    return rows


def _microseconds(redactor: Redactor, request: bytes, answer: bytes, count: int) -> float:
    began = time.thread_time()
    for _ in range(count):
        redactor.capture(request, answer, b"", limit=1_000_000)
    return (time.thread_time() - began) / count * 1e6


def _hardest(redactor: Redactor, *, quick: bool) -> Row:
    """Measure the slowest of texts that are made to be slow, as large as a capture may be."""
    size = 2**16 if quick else 2**20
    slowest = ("", 0.0)
    for part in ("1 ", "4111 ", "01 23 ", "a@", "password=", "eyJ.", "phone:="):
        text = part * (size // len(part))
        began = time.thread_time()
        redactor.text(text)
        slowest = max(slowest, (part, (time.thread_time() - began) * 1e3), key=lambda x: x[1])
    name = "redaction of the hardest text of the largest capture"
    return Row(name, slowest[1], "ms", note=f"{size} bytes of {slowest[0]!r}")


def _request(extra: str) -> bytes:
    system, user = _PROSE * 24, extra + _PROSE * 24
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return json.dumps({"model": "bot", "messages": messages}).encode()


def _document(extra: str) -> bytes:
    message = {"role": "assistant", "content": extra + _PROSE * 24}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 812, "completion_tokens": 402, "total_tokens": 1214}
    return json.dumps({**_FRAME, "choices": [choice], "usage": usage}).encode()


def _stream(extra: str) -> bytes:
    words = [f"{word} " for word in (extra + _PROSE * 24).split(" ")]
    choices: list[dict[str, Any]] = [{"index": 0, "delta": {"content": word}} for word in words]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    events = [json.dumps({**_FRAME, "choices": [choice]}) for choice in choices]
    return "".join(f"data: {event}\n\n" for event in (*events, "[DONE]")).encode()
