"""Keeps a handful of processes alive: what ``coalmine up`` and ``coalmine demo`` run on.

A part that ends is started again, after a pause that grows while it keeps ending early. At
shutdown every part gets SIGTERM, time to drain, and only then SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

__all__ = ["Part", "Supervisor", "backoff"]

_log = logging.getLogger(__name__)

_STEADY_S = 10.0
"""A part that lived this long has started well; the next pause is the shortest again."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process to keep alive: its name in logs, its arguments, and when it is ready.

    ``ready_url`` answers 200 once the part serves. ``environ`` is added to this process's own.
    """

    name: str
    arguments: Sequence[str]
    ready_url: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)


def backoff(early_ends: int) -> float:
    """Return the pause in seconds before a part is started again: 0.1, 0.2, … up to 10."""
    return min(10.0, 0.1 * float(2 ** min(early_ends, 10)))


class Supervisor:
    """Starts parts, restarts those that end, and stops them all.

    ``on_restart(name, status)`` is told of each part that ended by itself.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        drain_timeout: float = 35.0,
        on_restart: Callable[[str, int], None] | None = None,
    ) -> None:
        self.parts = {part.name: part for part in parts}
        self.restarts = dict.fromkeys(self.parts, 0)
        self._drain_timeout = drain_timeout
        self._on_restart = on_restart
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    def pid(self, name: str) -> int | None:
        """Return the process id of a part, or ``None`` while it is down."""
        process = self._processes.get(name)
        return process.pid if process is not None and process.returncode is None else None

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a part, if it is up."""
        process = self._processes.get(name)
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def start(self, *, ready_within: float = 30.0) -> None:
        """Start every part and return when all are ready.

        Raises :class:`TimeoutError` that names the part which is not ready in time; the parts
        started so far keep running until :meth:`stop`.
        """
        self._tasks = [
            asyncio.create_task(self._keep(part), name=f"part {part.name}")
            for part in self.parts.values()
        ]
        await asyncio.gather(*(self.ready(name, within=ready_within) for name in self.parts))

    async def ready(self, name: str, *, within: float) -> None:
        """Return when the part answers at its ``ready_url``. Raises :class:`TimeoutError`."""
        url = self.parts[name].ready_url
        if url is None:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(url)).status_code == httpx.codes.OK:
                        return
                if loop.time() > deadline:
                    raise TimeoutError(f"{name} was not ready within {within:g} s; see its log")
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Stop all parts: SIGTERM, the drain timeout, SIGKILL. Returns when all have ended."""
        self._stopping.set()
        for process in self._processes.values():
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._drain_timeout)
            for process in self._processes.values():
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
            if late:
                await asyncio.wait(late)

    async def _keep(self, part: Part) -> None:
        loop = asyncio.get_running_loop()
        early_ends = 0
        while not self._stopping.is_set():
            started = loop.time()
            process = await asyncio.create_subprocess_exec(
                *part.arguments,
                env={**os.environ, **part.environ},
                preexec_fn=_die_with_parent,
            )
            self._processes[part.name] = process
            if self._stopping.is_set():
                process.terminate()
            status = await process.wait()
            if self._stopping.is_set():
                return
            early_ends = 0 if loop.time() - started > _STEADY_S else early_ends + 1
            self.restarts[part.name] += 1
            _log.warning("%s ended with status %d; starting it again", part.name, status)
            if self._on_restart is not None:
                self._on_restart(part.name, status)
            pause = backoff(early_ends - 1) if early_ends else 0.1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)


def _die_with_parent() -> None:
    # On Linux a part drains and ends when its supervisor is killed; elsewhere it lives on.
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM)
