"""A real Prometheus: it reads our queries as they are meant, and we read its answers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rollout.prometheus import Prometheus
from rollout.queries import fill, read_number

pytestmark = pytest.mark.needs_prometheus

START_S = 60.0


class _Application(BaseHTTPRequestHandler):
    """Exports one counter for each arm."""

    def do_GET(self) -> None:
        lines = ('app_requests_total{v="candidate"} 41', 'app_requests_total{v="baseline"} 300')
        body = "\n".join(("# TYPE app_requests_total counter", *lines, "")).encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A running Prometheus that scrapes a small application."""
    program = shutil.which("prometheus")
    if program is None:
        message = "prometheus is not installed (Debian: apt-get install prometheus)"
        if os.environ.get("COALMINE_REQUIRE_ALL") == "1":
            pytest.fail(message)
        pytest.skip(message)
    folder: Path = tmp_path_factory.mktemp("prometheus")
    application = ThreadingHTTPServer(("127.0.0.1", 0), _Application)
    thread = threading.Thread(target=application.serve_forever, args=(0.01,))
    thread.start()
    job = {
        "job_name": "app",
        "static_configs": [{"targets": [f"127.0.0.1:{application.server_port}"]}],
    }
    config = {"global": {"scrape_interval": "200ms"}, "scrape_configs": [job]}
    (folder / "prometheus.yml").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = subprocess.Popen(
        [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = Prometheus(f"http://127.0.0.1:{port}", timeout=10)
    try:
        deadline = time.monotonic() + START_S
        while len(_ask(client, "app_requests_total").series) < 2:
            assert running.poll() is None, "prometheus has ended"
            assert time.monotonic() < deadline, "nothing was scraped in time"
            time.sleep(0.1)
        yield client
    finally:
        client.close()
        running.terminate()
        running.wait(30)
        application.shutdown()
        application.server_close()
        thread.join(20)


def _ask(client: Prometheus, query: str) -> Any:
    client.begin()
    return client.ask(query, time.time())


def test_counters_of_an_arm_are_found(server: Prometheus) -> None:
    """A spec's query gives each arm's own number."""
    for arm, requests in (("candidate", 41.0), ("baseline", 300.0)):
        query = fill('sum(app_requests_total{v="$variant"})', {"variant": arm})
        assert read_number(_ask(server, query)) == (requests, None)
    assert len(_ask(server, "app_requests_total").series) == 2
    assert _ask(server, 'app_requests_total{v="nobody"}').series == {}


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("value", ["v7", "a\"b'c`d", "back\\slash", "new\nline", "naïve 🐤", "{}"])
def test_any_name_is_one_literal(server: Prometheus, quote: str, value: str) -> None:
    """Whatever a name contains, Prometheus reads it as that name, in either kind of quotes."""
    texts = (f"{quote}{text}{quote}" for text in ("x", "$route", "", ""))
    template = f"label_replace(vector(1), {', '.join(texts)})"
    answer = _ask(server, fill(template, {"route": value}))
    assert answer.error is None
    assert [json.loads(labels) for labels in answer.series] == [{"x": value}]


@pytest.mark.parametrize("query", ["sum(", "1/0", "app_requests_total[1m]", '"text"'])
def test_what_is_no_number_is_an_error(server: Prometheus, query: str) -> None:
    """A query that is wrong, infinite, a range or a text says so, and is no reading."""
    assert _ask(server, query).error
