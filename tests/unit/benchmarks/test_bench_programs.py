"""The benchmark's upstream and load generator: compiled, and run against each other."""

from __future__ import annotations

import http.client
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CHUNKS = 5


@pytest.fixture(scope="module")
def programs(
    dataplane: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with both programs."""
    if shutil.which("cc") is None and not os.environ.get("COALMINE_REQUIRE_ALL"):
        pytest.skip("no C compiler (cc)")
    folder = tmp_path_factory.mktemp("programs")
    dataplane("load").build(folder)
    return folder


@pytest.fixture
def core() -> int:
    """A core that this process may use."""
    return min(os.sched_getaffinity(0))


@pytest.fixture
def port(dataplane: Callable[[str], ModuleType], programs: Path, core: int) -> Iterator[int]:
    """The port of a running upstream."""
    upstream = dataplane("load").upstream
    with upstream(programs, core=core, chunks=CHUNKS, interval_ms=2.0, lifetime_s=60) as found:
        yield found


def ask(port: int, **document: Any) -> tuple[http.client.HTTPResponse, bytes]:
    """Post a chat completion."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(document))
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_the_upstream_answers_a_chat_completion(port: int) -> None:
    """About 1 KB of JSON that a client's library accepts; the candidate's text is another."""
    response, body = ask(port, model="served")
    assert response.status == 200
    assert 900 < len(body) < 1200
    served = json.loads(body)
    assert served["object"] == "chat.completion"
    tuned = json.loads(ask(port, model="tuned")[1])
    assert served["choices"][0]["message"] != tuned["choices"][0]["message"]


def test_the_upstream_streams_events(port: int) -> None:
    """As many chunks as were asked for, then the end."""
    response, body = ask(port, model="served", stream=True)
    assert response.getheader("content-type") == "text/event-stream"
    events = body.decode().removesuffix("\n\n").split("\n\n")
    assert len(events) == CHUNKS + 1
    assert json.loads(events[0].removeprefix("data: "))["object"] == "chat.completion.chunk"
    assert events[-1] == "data: [DONE]"


def test_the_upstream_floods_where_a_request_says_so(port: int) -> None:
    """A few MiB, whole to the last byte, and the connection's next request is answered."""
    _, body = ask(port, model="served", stream=True, user="[[flood]]")
    assert len(body) > 3_000_000
    assert body.endswith(b"data: [DONE]\n\n")
    assert body.count(b"data: {") == body.count(b"\n\n") - 1


@pytest.mark.parametrize(
    ("mode", "connections", "rate"),
    [("closed", 4, 0.0), ("paced", 4, 200.0), ("stream", 8, 0.0)],
)
def test_the_generator_measures_in_each_mode(
    dataplane: Callable[[str], ModuleType],
    programs: Path,
    port: int,
    core: int,
    tmp_path: Path,
    mode: str,
    connections: int,
    rate: float,
) -> None:
    """Requests are answered without an error and their latencies counted."""
    load, plans = dataplane("load"), dataplane("plans")
    request = tmp_path / "request.http"
    request.write_bytes(load.request_bytes(mode=mode, headers={"authorization": "Bearer key"}))
    phase = plans.Phase(mode, connections, 0.1, 0.3, rate=rate, stagger_s=0.05)
    window = load.load(programs, phase, port=port, request=request, core=core, subject=os.getpid())
    assert window.seen["errors"] == 0
    assert window.seen["requests"] > 0
    assert window.quantile("latency", "p50") <= window.quantile("latency", "p99")
    assert window.resident_mib > 1
    events = window.seen["events"]
    assert events > connections if mode == "stream" else events == 0


def test_stalled_streams_begin_and_are_not_read_to_their_end(
    dataplane: Callable[[str], ModuleType], programs: Path, port: int, core: int, tmp_path: Path
) -> None:
    """All stand after their first event; none has ended, so none was counted as answered."""
    load, plans = dataplane("load"), dataplane("plans")
    request = tmp_path / "request.http"
    request.write_bytes(load.request_bytes(mode="stalled", headers={}))
    phase = plans.Phase("stalled", 16, 20.0, 0.1)
    window = load.load(programs, phase, port=port, request=request, core=core, subject=None)
    assert window.seen["requests"] == 16
    assert window.seen["errors"] == 0
    assert window.seen["latency"]["count"] == 0


def test_a_subject_that_does_not_answer_is_an_error(
    dataplane: Callable[[str], ModuleType], programs: Path, core: int, tmp_path: Path
) -> None:
    """No figure comes of a window in which nothing was answered."""
    load, plans = dataplane("load"), dataplane("plans")
    request = tmp_path / "request.http"
    request.write_bytes(load.request_bytes(mode="closed", headers={}))
    phase = plans.Phase("closed", 1, 0.1, 0.1)
    with dataplane("isolation").ports() as (silent, dead):
        with pytest.raises(RuntimeError, match="closed: 0 errors, 0 answers"):
            load.load(programs, phase, port=silent, request=request, core=core, subject=None)
        with pytest.raises(RuntimeError, match="load generator failed"):
            load.load(programs, phase, port=dead, request=request, core=core, subject=None)
