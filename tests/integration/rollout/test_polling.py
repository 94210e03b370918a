"""Prometheus queries of a rollout: what becomes evidence, and what is missing data."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.errors import SettingsError, StoreUnavailable
from gateway.settings import ControlSettings, load_settings
from gateway.store.evidence import load_evidence
from gateway.store.tables import LeaseRow
from rollout.feeding import FedController
from rollout.outcomes import Outcome, post_outcomes
from rollout.polling import Poller
from rollout.service import Actor
from rollout.states import Phase

OPERATOR = Actor("alice", "operator")


class FakePrometheus:
    """A server on loopback that evaluates queries by looking them up in `values`.

    A value is a number, a list of numbers (several series) or `None` (no series); `broken` is sent
    instead of any answer, with its status.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.broken: tuple[int, bytes] | None = None
        self.asked: list[str] = []
        self.times: list[str] = []
        self.tokens: set[str | None] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, body = outer.answer(self.path, self.headers.get("authorization"))
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/prom"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def answer(self, target: str, token: str | None) -> tuple[int, bytes]:
        """Return status and body."""
        parts = urlsplit(target)
        assert parts.path == "/prom/api/v1/query"
        asked = parse_qs(parts.query)
        self.asked.append(asked["query"][0])
        self.times.append(asked["time"][0])
        self.tokens.add(token)
        if self.broken is not None:
            return self.broken
        value = self.values.get(self.asked[-1])
        values = value if isinstance(value, list) else [] if value is None else [value]
        result = [
            {"metric": {"n": str(index)} if index else {}, "value": [0, str(each)]}
            for index, each in enumerate(values)
        ]
        document = {"status": "success", "data": {"resultType": "vector", "result": result}}
        return 200, json.dumps(document).encode()

    def count(self, arm: str, requests: float | None, failures: float | None) -> None:
        """Set an arm's counters."""
        self.values[f'sum(app_requests{{v="{arm}"}})'] = requests
        self.values[f'sum(app_errors{{v="{arm}"}})'] = failures

    def count_both(self, requests: float, failures: float) -> None:
        """Set the counters of both arms alike."""
        for arm in ("baseline", "candidate"):
            self.count(arm, requests, failures)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(20)


@pytest.fixture
def prometheus() -> Iterator[FakePrometheus]:
    """A running server."""
    server = FakePrometheus()
    yield server
    server.close()


COUNTERS = {
    "name": "app_errors",
    "source": {
        "prometheus": {
            "requests": 'sum(app_requests{v="$variant"})',
            "failures": 'sum(app_errors{v="$variant"})',
        }
    },
    "role": "signal",
}
THRESHOLD = {
    "name": "gpu_cache",
    "source": {"prometheus": {"query": 'cache{d="$deployment",r="$route/$rollout"}', "max": 0.9}},
    "role": "signal",
}
CACHE = 'cache{d="new",r="bot/bot-v2"}'


@pytest.fixture
def start(make_world: Callable[..., Any], prometheus: FakePrometheus) -> Callable[..., Any]:
    """Builds a world whose rollout has these metrics, in shadow."""

    def build(*metrics: dict[str, Any], **control: Any) -> Any:
        url = {"prometheus_url": prometheus.url, "prometheus_delay": 40, **control}
        world = make_world(control=url)
        document = dict(world.default_spec)
        analysis = document["analysis"]
        analysis = {**analysis, "metrics": [*analysis["metrics"], *metrics]}
        world.apply({**document, "analysis": analysis})
        world.tick()
        return world

    return build


def to_first_weight(world: Any) -> None:
    """Let the rollout serve 10%, for long enough that Prometheus knows nothing else."""
    world.pairs(300)
    assert world.tick(10).phase is Phase.PROGRESSING
    world.now += 40


@pytest.fixture
def poller() -> Iterator[Callable[..., Poller]]:
    """Builds pollers of a world's controller, and closes them after the test."""
    built: list[Poller] = []

    def build(world: Any, **more: Any) -> Poller:
        lease = world.controller.lease
        built.append(
            Poller(world.store, world.settings, lease=lease, clock=lambda: world.now, **more)
        )
        return built[-1]

    yield build
    for each in built:
        each.close()


@pytest.fixture
def serving(start: Any, poller: Any) -> tuple[Any, Poller]:
    """A world that compares counters at its first weight, and its poller."""
    world = start(COUNTERS)
    to_first_weight(world)
    return world, poller(world)


def poll_later(world: Any, reads: Poller) -> int:
    """Read again one interval later."""
    world.now += 15
    return reads.poll()


def facts(world: Any) -> list[Any]:
    """The evidence that came of queries."""
    with world.store.read() as session:
        all_ = load_evidence(session, world.record().id, after=0, limit=100_000)
    return [fact for _, fact in all_ if fact.kind == "query"]


def test_counters_become_counts_of_both_arms(
    serving: tuple[Any, Poller], prometheus: FakePrometheus
) -> None:
    """The first reading is where to count from; what comes after is a fact, once."""
    world, reads = serving
    prometheus.count("baseline", 5000, 50)
    prometheus.count("candidate", 400, 4)
    assert reads.poll() == 0
    prometheus.count("baseline", 5900, 59)
    prometheus.count("candidate", 500, 9)
    assert poll_later(world, reads) == 1
    assert poll_later(world, reads) == 0
    (fact,) = facts(world)
    assert (fact.at, fact.epoch) == (world.now - 15, world.split().epoch)
    assert fact.payload == {
        "metric": "app_errors",
        "weight_bp": 1000,
        "seconds": 15.0,
        "arms": {
            "baseline": {"requests": 900, "failures": 9},
            "candidate": {"requests": 100, "failures": 5},
        },
    }
    assert len(set(prometheus.times[-4:])) == 1


def test_counters_are_not_read_in_shadow(
    start: Any, prometheus: FakePrometheus, poller: Any
) -> None:
    """While the candidate serves nobody there is nothing to compare, and nobody is asked."""
    world = start(COUNTERS)
    prometheus.count("baseline", 1, 1)
    reads = poller(world)
    assert reads.poll() == 0
    assert prometheus.asked == []


def test_a_change_of_weight_cuts_the_interval(
    serving: tuple[Any, Poller], prometheus: FakePrometheus
) -> None:
    """What straddles a change is dropped, and so is what Prometheus hears of only later."""
    world, reads = serving
    prometheus.count_both(100, 1)
    reads.poll()
    world.service.set_weight("bot-v2", 50.0, actor=OPERATOR, reason="by hand")
    for step, requests in enumerate((200, 300, 400)):
        prometheus.count_both(requests, 1)
        assert poll_later(world, reads) == 0, step
    prometheus.count_both(470, 1)
    assert poll_later(world, reads) == 1
    (fact,) = facts(world)
    assert fact.payload["weight_bp"] == 5000
    assert fact.payload["arms"]["candidate"] == {"requests": 70, "failures": 0}
    assert fact.epoch == world.split().epoch


def test_a_weight_changed_while_asking_is_noticed(
    serving: tuple[Any, Poller], prometheus: FakePrometheus
) -> None:
    """A change between the queries and the writing drops what was read."""
    world, reads = serving
    prometheus.count_both(100, 1)
    reads.poll()
    answer = prometheus.answer

    def changing(target: str, token: str | None) -> tuple[int, bytes]:
        if world.weight() == 10:
            world.service.set_weight("bot-v2", 50.0, actor=OPERATOR, reason="by hand")
        return answer(target, token)

    prometheus.answer = changing  # type: ignore[method-assign]
    prometheus.count_both(200, 1)
    assert poll_later(world, reads) == 0
    assert facts(world) == []


def test_a_reset_and_a_restart_start_anew(
    serving: tuple[Any, Poller], prometheus: FakePrometheus, poller: Any
) -> None:
    """A counter that fell, and a poller that knows nothing, only say where to count from."""
    world, reads = serving
    prometheus.count("baseline", 1000, 10)
    prometheus.count("candidate", 1000, 10)
    reads.poll()
    prometheus.count("candidate", 30, 0)
    prometheus.count("baseline", 2000, 20)
    assert poll_later(world, reads) == 0
    again = poller(world)
    prometheus.count("candidate", 40, 0)
    assert poll_later(world, again) == 0
    prometheus.count("candidate", 45, 1)
    assert poll_later(world, again) == 1
    (fact,) = facts(world)
    assert fact.payload["arms"]["candidate"] == {"requests": 5, "failures": 1}
    assert fact.payload["arms"]["baseline"] == {"requests": 0, "failures": 0}


@pytest.mark.parametrize(
    "broken",
    [
        (500, b"<html>no</html>"),
        (400, b'{"status":"error","error":"parse error"}'),
        (
            200,
            b'{"status":"success","data":{"resultType":"vector","result":[{"value":[0,"NaN"]}]}}',
        ),
    ],
)
def test_a_failing_server_is_missing_data(
    start: Any,
    prometheus: FakePrometheus,
    broken: tuple[int, bytes],
    caplog: pytest.LogCaptureFixture,
    poller: Any,
) -> None:
    """Counters say nothing, thresholds say that there is an error; the log says it once."""
    world = start(COUNTERS, THRESHOLD)
    to_first_weight(world)
    reads = poller(world)
    prometheus.values[CACHE] = 0.5
    prometheus.count_both(100, 1)
    assert reads.poll() == 1
    prometheus.broken = broken
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert poll_later(world, reads) == 1
        assert len([each for each in caplog.records if "app_errors" in each.message]) == 1
        prometheus.broken = None
        prometheus.count_both(150, 3)
        assert poll_later(world, reads) == 2
    assert sum("again" in each.message for each in caplog.records) == 2
    errors = [fact.payload for fact in facts(world) if fact.payload.get("error")]
    assert len(errors) == 3
    assert all(each["value"] is None and not each["breached"] for each in errors)
    (counted,) = [fact.payload for fact in facts(world) if "arms" in fact.payload]
    assert counted["seconds"] == 60.0
    assert counted["arms"]["candidate"] == {"requests": 50, "failures": 2}


def test_a_server_that_is_gone_is_asked_once_a_round(
    start: Any, prometheus: FakePrometheus, poller: Any
) -> None:
    """Nothing waits long for a server that is not there, and thresholds say why."""
    other = {**THRESHOLD, "name": "other"}
    world = start(COUNTERS, THRESHOLD, other, prometheus_url="http://127.0.0.1:9")
    to_first_weight(world)
    assert poller(world).poll() == 2
    assert all("can't be reached" in fact.payload["error"] for fact in facts(world))


def test_thresholds_are_read_in_shadow_too(
    start: Any, prometheus: FakePrometheus, poller: Any
) -> None:
    """One value, within its limit or beyond; several series and none are errors."""
    world = start(THRESHOLD)
    reads = poller(world)
    for value in (0.5, 0.95, [0.1, 0.2], None):
        prometheus.values[CACHE] = value
        assert poll_later(world, reads) == 1
    payloads = [fact.payload for fact in facts(world)]
    assert [each["value"] for each in payloads] == [0.5, 0.95, None, None]
    assert [each["breached"] for each in payloads] == [False, True, False, False]
    assert [bool(each["error"]) for each in payloads] == [False, False, True, True]
    assert {each["metric"] for each in payloads} == {"gpu_cache"}


def test_only_the_leader_reads(serving: tuple[Any, Poller], prometheus: FakePrometheus) -> None:
    """Another leader's readings and ours would count the same requests twice."""
    world, reads = serving
    prometheus.count_both(100, 1)
    reads.poll()
    with world.store.write() as session:
        lease = session.get(LeaseRow, "controller")
        lease.holder, lease.token, lease.expires_at = "other", lease.token + 1, 4e9
        session.add(lease)
    prometheus.count_both(200, 1)
    assert poll_later(world, reads) == 0
    assert world.controller.lease.token is None
    asked = len(prometheus.asked)
    assert reads.poll() == 0
    assert len(prometheus.asked) == asked
    with world.store.write() as session:
        lease = session.get(LeaseRow, "controller")
        lease.expires_at = 0.0
        session.add(lease)
    assert world.controller.lease.acquire()
    for requests in (300, 400):
        prometheus.count_both(requests, 1)
        poll_later(world, reads)
    (fact,) = facts(world)
    assert fact.payload["arms"]["candidate"]["requests"] == 100


def test_a_write_that_may_have_been_committed_is_not_repeated(
    serving: tuple[Any, Poller], prometheus: FakePrometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the store goes away in a commit, what was counted is dropped rather than doubled."""
    world, reads = serving
    prometheus.count_both(100, 1)
    reads.poll()
    write = world.store.write

    def lost() -> Any:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(world.store, "write", lost)
    prometheus.count_both(200, 1)
    world.now += 15
    with pytest.raises(StoreUnavailable):
        reads.poll()
    monkeypatch.setattr(world.store, "write", write)
    for requests in (300, 310):
        prometheus.count_both(requests, 1)
        poll_later(world, reads)
    (fact,) = facts(world)
    assert fact.payload["arms"]["candidate"]["requests"] == 10


def test_the_token_is_sent_and_never_shown(
    start: Any, prometheus: FakePrometheus, caplog: pytest.LogCaptureFixture, poller: Any
) -> None:
    """A protected Prometheus gets the token of the environment; logs and facts do not."""
    world = start(THRESHOLD, prometheus_token_env="PROM_TOKEN")
    prometheus.broken = (401, b"who are you")
    with caplog.at_level(logging.DEBUG):
        poller(world, environ={"PROM_TOKEN": "s3cret"}).poll()
    assert prometheus.tokens == {"Bearer s3cret"}
    (fact,) = facts(world)
    assert "401" in fact.payload["error"]
    assert "s3cret" not in caplog.text + json.dumps(fact.payload)


def test_it_runs_beside_the_controller(start: Any, prometheus: FakePrometheus) -> None:
    """Started and stopped with the controller, both feeds work on their own."""
    world = start(THRESHOLD, prometheus_interval=0.02)
    prometheus.values[CACHE] = 0.5
    world.controller.lease.release()
    post_outcomes(world.store, [Outcome("r1", "reopened", 1)], by="app", now=world.now - 700)
    controller = world.new_controller()
    fed = FedController(world.store, world.settings, controller, clock=lambda: world.now)

    async def run() -> None:
        await fed.start()
        try:
            deadline = time.monotonic() + 20
            while len(facts(world)) < 3 or _pending(world):
                assert time.monotonic() < deadline, "nothing came in time"
                await asyncio.sleep(0.02)
        finally:
            await fed.stop()

    asyncio.run(run())
    asked = len(prometheus.asked)
    assert controller.lease.token is None
    assert not [each for each in threading.enumerate() if each.name.startswith("coalmine-")]
    assert len(prometheus.asked) == asked


def _pending(world: Any) -> bool:
    from rollout.outcomes import count_outcomes

    with world.store.read() as session:
        return any(each.state == "pending" for each in count_outcomes(session))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prometheus_url": "127.0.0.1:9090"}, "control.prometheus_url"),
        ({"prometheus_url": "http://user:pw@127.0.0.1:9090"}, "control.prometheus_url"),
        ({"prometheus_url": None, "prometheus_token_env": "X"}, "control.prometheus_token_env"),
        ({"prometheus_interval": 0}, "control.prometheus_interval"),
    ],
)
def test_settings_that_can_not_work_are_refused(
    tmp_path: Any, changes: dict[str, Any], field: str
) -> None:
    """A wrong address or a token without one is found when control starts, not at night."""
    path = tmp_path / "coalmine.yaml"
    path.write_text(json.dumps({"control": changes}))
    with pytest.raises(SettingsError) as refused:
        load_settings(path, {})
    assert refused.value.field == field
    assert "pw" not in str(refused.value)


def test_an_address_may_be_written_with_the_api(tmp_path: Any) -> None:
    """What is copied from a browser works too."""
    url = ControlSettings(prometheus_url="https://prom.example/x/api/v1/").prometheus_url
    assert url == "https://prom.example/x"


@pytest.mark.parametrize(("bad", "rolled_back"), [(40, True), (2, False)])
def test_counters_decide(
    start: Any, prometheus: FakePrometheus, poller: Any, bad: int, rolled_back: bool
) -> None:
    """Errors that only the application sees roll the candidate back, the usual ones don't."""
    world = start({**COUNTERS, "role": "guardrail"})
    to_first_weight(world)
    reads = poller(world)
    for round_ in range(4):
        prometheus.count("baseline", 900 * round_, 18 * round_)
        prometheus.count("candidate", 100 * round_, bad * round_)
        reads.poll()
        world.now += 15
    record = world.tick(1)
    assert record.evidence.unreadable == 0
    assert record.evidence.metrics["app_errors"].baseline[0] > 0
    assert (record.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}) is rolled_back


def test_a_threshold_never_rolls_back(start: Any, prometheus: FakePrometheus, poller: Any) -> None:
    """A breach holds and in the end pauses: it proves nothing about the candidate."""
    world = start({**THRESHOLD, "role": "guardrail", "consecutive_breach_limit": 2})
    reads = poller(world)
    prometheus.values[CACHE] = 0.99
    for _ in range(3):
        poll_later(world, reads)
    assert world.tick(1).phase is Phase.PAUSED
    assert world.record().evidence.unreadable == 0
