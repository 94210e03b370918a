"""Thousands of judge calls in flight: memory and calls a second, against a server of its own.

The server is a process apart, so that its memory is not the judge's. It answers each call after a
fixed time, so that as many calls are in flight as the judge allows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import secrets
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import psutil

from shadow.answer import Answer, Choice
from shadow.judge import Judge
from shadow.judge.client import JudgeClient
from shadow.pair import Arm, Pair, Prompt

_VERDICT = {"evidence": "e", "verdict": "tie", "scores": {"A": 5, "B": 5}, "severity": "none"}
_REPLY = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "judge",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": json.dumps(_VERDICT)},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20},
    }
).encode()


@dataclass(frozen=True)
class Flight:
    """What one run took. Bytes are of resident memory, of this process alone.

    `most_in_flight` is the largest number of calls that the server had at a time, `calls` what it
    answered. `bytes_a_call` is the growth divided by the calls in flight at most.
    """

    pairs: int
    calls: int
    most_in_flight: int
    seconds: float
    calls_per_second: float
    growth_bytes: int
    bytes_a_call: float
    judged: int


class _Free:
    async def reserve(self, *, calls: int, microusd: int) -> bool:
        return True

    async def settle(self, *, calls: int, microusd: int) -> None:
        pass


async def serve(reply_after_s: float) -> None:
    """Answer calls on a free port of loopback until standard input ends; print what came."""
    busy = most = answered = 0

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal busy, most, answered
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                await reader.readexactly(length)
                busy += 1
                most = max(most, busy)
                await asyncio.sleep(reply_after_s)
                busy -= 1
                answered += 1
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
                    + str(len(_REPLY)).encode()
                    + b"\r\n\r\n"
                    + _REPLY
                )
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, limit=2**20, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the parent reads it
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    print(json.dumps({"most": most, "answered": answered}), flush=True)  # noqa: T201


@asynccontextmanager
async def _server(reply_after_s: float) -> AsyncIterator[tuple[int, dict[str, int]]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve", str(reply_after_s),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    seen: dict[str, int] = {}
    try:
        yield int(await process.stdout.readline()), seen
    finally:
        out, _ = await process.communicate(b"")  # closes its standard input
        seen.update(json.loads(out))


async def fly(
    *, pairs: int = 4000, in_flight: int = 2000, answer_chars: int = 4000,
    reply_after_s: float = 1.0,
) -> Flight:  # fmt: skip
    """Judge `pairs` pairs in both orders with at most `in_flight` calls at a time.

    Half as many pairs are in work as calls, as a worker of that concurrency would have them. Memory
    is sampled every 20 ms, from after a first pair was judged.
    """
    _allow_connections(in_flight)
    async with _server(reply_after_s) as (port, seen):
        client = JudgeClient(
            base_url=f"http://127.0.0.1:{port}/v1", model="judge", api_key=None, timeout_s=60,
            max_concurrency=in_flight,
        )  # fmt: skip
        judge = Judge(client, endpoint="x", rubric="be fair", nonce=lambda: secrets.token_hex(8))
        await judge.compare(_pair(0, answer_chars), _Free())
        memory, judged = _Memory(), 0
        queue = iter(range(1, pairs + 1))

        async def work() -> None:
            nonlocal judged
            for number in queue:
                made = await judge.compare(_pair(number, answer_chars), _Free())
                judged += made.comparison is not None

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            sampling = group.create_task(memory.sample())
            workers = [group.create_task(work()) for _ in range(max(1, in_flight // 2))]
            await asyncio.gather(*workers)
            sampling.cancel()
        seconds = time.perf_counter() - started
        await judge.close()
    calls = seen["answered"] - 2
    return Flight(
        pairs=pairs,
        calls=calls,
        most_in_flight=seen["most"],
        seconds=seconds,
        calls_per_second=calls / seconds,
        growth_bytes=memory.growth,
        bytes_a_call=memory.growth / max(1, seen["most"]),
        judged=judged,
    )


class _Memory:
    """The most resident memory beyond that at the start."""

    def __init__(self) -> None:
        self._process = psutil.Process(os.getpid())
        self._start = self._process.memory_info().rss
        self.growth = 0

    async def sample(self) -> None:
        while True:
            self.growth = max(self.growth, self._process.memory_info().rss - self._start)
            await asyncio.sleep(0.02)


def _pair(number: int, characters: int) -> Pair:
    """Return a pair of its own words, so that nothing is shared between pairs."""
    one, other = (f"{side} {number} ".ljust(characters, "x") for side in "ab")
    prompt = Prompt("chat/completions", ({"role": "user", "content": f"question {number}"},))
    return Pair(prompt, Arm(Answer((Choice(one),))), Arm(Answer((Choice(other),))))


def _allow_connections(most: int) -> None:
    """Raise the soft limit on open files to what the calls need; the server inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + 256
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def main(arguments: Sequence[str]) -> int:
    """Print one flight as JSON; with --serve be its server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--in-flight", type=int, default=2000)
    options = parser.parse_args(arguments)
    if options.serve is not None:
        asyncio.run(serve(options.serve))
    else:
        flight = asyncio.run(fly(pairs=options.pairs, in_flight=options.in_flight))
        print(json.dumps(asdict(flight), indent=2))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
