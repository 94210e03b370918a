"""The supervisor keeps parts alive and stops them in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from rollout.supervisor import Part, Supervisor, backoff

_SERVER = """
import http.server, signal, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *a): pass
def stop(*a):
    open(sys.argv[2], "w").write("drained"); sys.exit(0)
signal.signal(signal.SIGTERM, stop)
http.server.HTTPServer.allow_reuse_address = True
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), H)
server.serve_forever()
"""


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_killed_part_is_started_again_and_all_drain_at_the_end(tmp_path: Path) -> None:
    """SIGKILL to a part brings a new process; stop() lets it end by itself."""
    port, drained = _free_port(), tmp_path / "drained"
    part = Part(
        "server",
        [sys.executable, "-c", _SERVER, str(port), str(drained)],
        f"http://127.0.0.1:{port}/",
    )

    async def scenario() -> tuple[int, int, int]:
        restarted = asyncio.Event()
        supervisor = Supervisor([part], on_restart=lambda name, status: restarted.set())
        await supervisor.start(ready_within=20)
        first = supervisor.pid("server")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await asyncio.wait_for(restarted.wait(), 20)
        await supervisor.ready("server", within=20)
        second = supervisor.pid("server")
        assert second is not None
        await supervisor.stop()
        return first, second, supervisor.restarts["server"]

    first, second, restarts = asyncio.run(scenario())
    assert first != second
    assert restarts == 1
    assert drained.read_text() == "drained"
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


def test_a_part_that_never_gets_ready_is_named(tmp_path: Path) -> None:
    """Starting fails with the part's name rather than waiting for ever."""
    part = Part("sleeper", [sys.executable, "-c", "input()"], "http://127.0.0.1:1/")

    async def scenario() -> None:
        supervisor = Supervisor([part], drain_timeout=5)
        try:
            await supervisor.start(ready_within=0.3)
        finally:
            await supervisor.stop()

    with pytest.raises(TimeoutError, match="sleeper was not ready"):
        asyncio.run(scenario())


def test_the_pause_before_a_restart_grows_to_ten_seconds() -> None:
    """A part that can't start does not spin, and one that can is not kept waiting."""
    assert [backoff(n) for n in (0, 1, 2)] == [0.1, 0.2, 0.4]
    assert backoff(50) == 10.0
