"""/metrics of one process and of several, over pipes and over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from gateway.errors import SettingsError
from gateway.exposition import Gathering, answer_scrapes, serve_metrics
from gateway.merging import encode, take
from gateway.settings import GatewaySettings

DEADLINE = 20.0
OPTIONS = GatewaySettings(metrics_port=0)


class Process:
    """The metrics of a process: a counter and a gauge that the rules add up."""

    def __init__(self, count: int = 0) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("things", "Things.", registry=self.registry)
        self.requests.inc(count)
        Gauge("coalmine_streams_open", "Streams.", registry=self.registry).set(1)


def scraped(gathering: Gathering) -> dict[str, float]:
    """Scrape."""
    return {sample.name: sample.value for each in gathering.collect() for sample in each.samples}


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    waiting = threading.Event()
    for _ in range(int(DEADLINE / 0.005)):
        if condition():
            return
        waiting.wait(0.005)
    pytest.fail("nothing happened in time")


@contextmanager
def serving(gathering: Gathering, process: Process) -> Iterator[None]:
    """Let a process answer, until the gathering knows that it serves; then see it leave."""
    member = gathering.add()
    with answer_scrapes(process.registry, member.far):
        until(lambda: member.serves)
        yield
    until(lambda: not member.serves)


@contextmanager
def silent(gathering: Gathering, process: Process) -> Iterator[Connection]:
    """Add a process that says once that it serves, and nothing when asked."""
    member = gathering.add()
    member.far.send_bytes(encode(take(process.registry.collect())))
    until(lambda: member.serves)
    yield member.far
    member.far.close()
    until(lambda: not member.serves)


def test_each_scrape_shows_what_all_processes_count_now() -> None:
    """Nothing is shown from an earlier scrape where all answer."""
    gathering = Gathering()
    one, two = Process(), Process()
    with serving(gathering, one), serving(gathering, two):
        for total in range(2, 12, 2):
            one.requests.inc()
            two.requests.inc()
            assert scraped(gathering)["things_total"] == total
        assert scraped(gathering)["coalmine_streams_open"] == 2
        assert scraped(gathering)["coalmine_gateway_processes"] == 2


def test_a_process_that_leaves_stays_in_the_totals_with_its_last_requests() -> None:
    """What was counted after the last scrape is told on leaving; gauges go."""
    gathering = Gathering()
    one, two = Process(), Process(5)
    with serving(gathering, one):
        with serving(gathering, two):
            assert scraped(gathering)["things_total"] == 5
            two.requests.inc(3)
        assert scraped(gathering) == {
            "things_total": 8,
            "coalmine_streams_open": 1,
            "coalmine_gateway_processes": 1,
        }
        with serving(gathering, Process(2)):
            assert scraped(gathering)["things_total"] == 10
    assert scraped(gathering) == {"things_total": 10, "coalmine_gateway_processes": 0}


def test_a_process_that_dies_stays_as_it_was_last_seen() -> None:
    """A pipe that ends without a word takes nothing away."""
    gathering = Gathering()
    with serving(gathering, Process(1)):
        with silent(gathering, Process(4)):
            pass
        assert scraped(gathering)["things_total"] == 5
        assert scraped(gathering)["coalmine_gateway_processes"] == 1


def test_a_process_that_does_not_answer_is_shown_as_last_seen() -> None:
    """A stuck process delays one scrape by the patience, and spoils none."""
    gathering = Gathering(patience=0.05)
    one = Process(1)
    with serving(gathering, one), silent(gathering, Process(4)) as pipe:
        assert scraped(gathering)["things_total"] == 5
        assert pipe.recv_bytes()
        one.requests.inc()
        for _ in range(3):
            # the one that answers may be late too, where the machine is busy
            until(lambda: scraped(gathering)["things_total"] == 6)
        assert not pipe.poll(), "one that owes an answer is not asked again"
        pipe.send_bytes(encode(take(Process(40).registry.collect())))
        until(lambda: scraped(gathering)["things_total"] == 42)
        scraped(gathering)
        assert pipe.poll(DEADLINE), "one that has answered is asked again"


def test_a_process_that_does_not_serve_yet_is_not_waited_for() -> None:
    """While a process starts, a scrape neither counts it nor asks it."""
    gathering = Gathering(patience=DEADLINE * 10)
    member = gathering.add()
    with serving(gathering, Process(1)):
        assert scraped(gathering) == {
            "things_total": 1,
            "coalmine_streams_open": 1,
            "coalmine_gateway_processes": 1,
        }
        assert not member.far.poll()
    member.far.close()


def test_a_reading_that_fails_is_replaced_by_the_last(caplog: pytest.LogCaptureFixture) -> None:
    """A metric that can't be read in one process costs its latest values, and is logged."""

    class Failing(Collector):
        broken = False

        def collect(self) -> list[Metric]:
            if self.broken:
                raise RuntimeError("dictionary changed size during iteration")
            return []

    gathering = Gathering()
    process, failing = Process(3), Failing()
    process.registry.register(failing)
    with serving(gathering, process):
        failing.broken = True
        process.requests.inc()
        assert scraped(gathering)["things_total"] == 3
        failing.broken = False
        assert scraped(gathering)["things_total"] == 4
    assert "dictionary changed size" in caplog.text


def test_the_processes_are_scraped_over_http_as_one() -> None:
    """The parent's port has the sum, also of the names that a scrape asks for."""
    registry, gathering = CollectorRegistry(), Gathering()
    registry.register(gathering)
    with ExitStack() as stack:
        for count in (1, 2):
            stack.enter_context(serving(gathering, Process(count)))
        host, port = stack.enter_context(serve_metrics(OPTIONS, registry))
        client = stack.enter_context(httpx.Client(trust_env=False))
        url = f"http://{host}:{port}/metrics"
        found = {each.name: each for each in text_string_to_metric_families(client.get(url).text)}
        assert found["things"].samples[0].value == 3
        assert found["coalmine_streams_open"].type == "gauge"
        chosen = client.get(url, params={"name[]": "coalmine_streams_open"}).text
        assert [each.name for each in text_string_to_metric_families(chosen)] == [
            "coalmine_streams_open"
        ]


def test_a_single_process_serves_its_own_registry() -> None:
    """Nothing is added, and the port is free again afterwards."""
    process = Process(7)
    with (
        serve_metrics(OPTIONS, process.registry) as (host, port),
        httpx.Client(trust_env=False) as client,
    ):
        text = client.get(f"http://{host}:{port}/metrics").text
        assert text == generate_latest(process.registry).decode()
        taken = OPTIONS.model_copy(update={"metrics_port": port})
        with (
            pytest.raises(SettingsError, match=f"can't listen on 127.0.0.1 port {port}") as error,
            serve_metrics(taken, process.registry),
        ):
            pytest.fail("two on one port")
        assert error.value.field == "gateway.metrics_port"
    with serve_metrics(taken, process.registry):
        pass
