"""An upstream without latency, candidate and judge in one: `python upstream.py PORT`.

``POST`` with the model ``judge`` brings a verdict, with ``held`` nothing at all, with any other the
same answer of about 1,000 tokens. ``GET /held`` says how many requests are held. One connection
answers one request after the other, as clients of a pool ask.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

__all__ = ["ANSWER_WORDS", "answer_text", "completion", "main"]

ANSWER_WORDS = 910
"""About 1,000 tokens of English by the ruler of the `output_tokens` check."""

_WORDS = """
the parcel was sent with the carrier and will arrive by the end of the week so that you can track it
online under the number that we have mailed to you today
"""
_VERDICT = {
    "evidence": "Both answer the question; the first one is a little clearer.",
    "verdict": "tie",
    "scores": {"A": 7, "B": 7},
    "severity": "none",
}


def answer_text(seed: int = 0) -> str:
    """Return an answer of :data:`ANSWER_WORDS` words in sentences, another one for each seed."""
    words = _WORDS.split()
    chosen = [words[(n * 7 + n // 11 + seed) % len(words)] for n in range(ANSWER_WORDS)]
    sentences = (" ".join(chosen[n : n + 14]).capitalize() for n in range(0, ANSWER_WORDS, 14))
    return ". ".join(sentences) + "."


def completion(text: str, model: str = "served") -> bytes:
    """Return the body of a chat completion."""
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_800_000_000,
            "model": model,
            "system_fingerprint": "fp_1",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 60, "completion_tokens": 1000, "total_tokens": 1060},
        }
    ).encode()


def _response(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


_MISSING = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


class _Connection(asyncio.Protocol):
    held = 0
    answer = _response(completion(answer_text(seed=3), "tuned"))
    verdict = _response(completion(json.dumps(_VERDICT), "judge"))

    def __init__(self) -> None:
        self._data = b""
        self._holds = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._holds:
            _Connection.held -= 1

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator:
            return
        if head.startswith(b"GET"):
            self._data = b""
            is_count = head.startswith(b"GET /held")
            self._transport.write(
                _response(str(_Connection.held).encode()) if is_count else _MISSING
            )
            return
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        if len(body) < length:
            return
        self._data = b""
        if b'"model":"held"' in body or b'"model": "held"' in body:
            self._holds = True
            _Connection.held += 1
        elif b'"model":"judge"' in body or b'"model": "judge"' in body:
            self._transport.write(self.verdict)
        else:
            self._transport.write(self.answer)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    import uvloop

    uvloop.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
