"""Metrics of several processes as one: sums, the rules of gauges, and what the dead leave."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import Metric

from gateway.merging import GAUGES, Families, decode, encode, lasting, merge, show, take
from gateway.metrics import GatewayMetrics


class Shown:
    """A registry that shows families."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """Return them."""
        return show(self._families)


def process() -> GatewayMetrics:
    """Return the metrics of a process."""
    metrics = GatewayMetrics(CollectorRegistry())
    metrics.route("bot")
    return metrics


def values(families: Families) -> dict[tuple[str, str], float]:
    """Return the samples by name and the values of their labels."""
    return {
        (name, "/".join(value for _, value in labels)): number
        for family in families
        for name, labels, number in family.samples
    }


def test_requests_of_all_processes_are_added_up() -> None:
    """A series that one process lacks counts as the others have it."""
    one, two = process(), process()
    for _ in range(3):
        one.route("bot").request("baseline", "split", 200)
    two.route("bot").request("baseline", "split", 200)
    two.route("bot").request("candidate", "forced", 500)
    found = values(merge([take(one.registry.collect()), take(two.registry.collect())]))
    assert found["coalmine_requests_total", "bot/baseline/split/2xx"] == 4
    assert found["coalmine_requests_total", "bot/candidate/forced/5xx"] == 1


def test_merged_histograms_are_those_of_one_process_that_saw_all() -> None:
    """The text of two merged processes is that of one that served their requests together."""
    one, two, both = process(), process(), process()
    for number in range(40):
        for metrics in (both, one if number % 3 else two):
            seconds = 0.0078125 * number  # sums of these are exact in any order
            metrics.route("bot").finished(
                "baseline" if number % 2 else "candidate",
                *("split", 200, 0.0001220703125, seconds, seconds / 2, 3 * number, None),
            )
    parts = [take(one.registry.collect()), take(two.registry.collect())]
    merged = generate_latest(Shown(merge(parts))).decode()
    # only the order in which series turned up first may differ
    assert sorted(merged.splitlines()) == sorted(
        generate_latest(both.registry).decode().splitlines()
    )
    found = values(merge(parts))
    assert found["gen_ai_server_request_duration_seconds_count", "bot/baseline"] == 20
    for (name, labels), value in found.items():
        if name.endswith("_count"):
            bucket = name.removesuffix("_count") + "_bucket"
            assert found[bucket, f"{labels}/+Inf".removeprefix("/")] == value


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("coalmine_split_weight_ratio", 0.5),
        ("coalmine_split_revision", 3.0),
        ("coalmine_breaker_open", 1.0),
        ("coalmine_capture_buffer_bytes", 30.0),
        ("coalmine_streams_open", 3.0),
        ("coalmine_upstream_connections", 9.0),
        ("coalmine_store_up", 0.0),
    ],
)
def test_each_gauge_has_its_rule(name: str, expected: float) -> None:
    """What lags, is open or is down shows; what is held is added up."""
    parts = []
    for number in (1, 2):
        metrics = process()
        route = metrics.route("bot")
        route.weight.set(0.25 * number)
        route.revision.set(2 + number)
        route.breaker_open.set(number - 1)
        metrics.buffer_bytes.set(10 * number)
        metrics.streams_open.value = number
        metrics.connections.labels("base", "idle").set(3 * number)
        metrics.store_up.set(number - 1)
        parts.append(take(metrics.registry.collect()))
    [found] = [value for (each, _), value in values(merge(parts)).items() if each == name]
    assert found == expected


def test_no_gauge_is_without_a_rule() -> None:
    """Whoever adds a gauge decides what several processes' values mean."""
    gauges = {family.name for family in process().registry.collect() if family.type == "gauge"}
    assert gauges == GAUGES.keys()


def test_what_a_process_counted_outlives_it_and_what_it_held_does_not() -> None:
    """Of a dead process counters and histograms stay, gauges go."""
    dead, alive = process(), process()
    for metrics in (dead, alive):
        metrics.route("bot").finished("baseline", "split", 200, 0.001, 0.5, None, 10, 20)
        metrics.streams_open.inc()
    gone = lasting(take(dead.registry.collect()))
    found = values(merge([take(alive.registry.collect()), gone]))
    assert found["coalmine_requests_total", "bot/baseline/split/2xx"] == 2
    assert found["gen_ai_client_token_usage_sum", "bot/baseline/output"] == 40
    assert found["coalmine_streams_open", ""] == 1


def test_the_dead_are_merged_without_loss() -> None:
    """Any number of dead processes are kept as one."""
    parts = []
    for _ in range(3):
        metrics = process()
        metrics.route("bot").request("baseline", "split", 200)
        parts.append(lasting(take(metrics.registry.collect())))
    gone: Families = ()
    for part in parts:
        gone = merge([gone, part])
    assert gone == merge(parts)
    assert values(gone)["coalmine_requests_total", "bot/baseline/split/2xx"] == 3


def test_families_survive_the_pipe() -> None:
    """What is sent is what arrives."""
    metrics = process()
    metrics.route("bot").finished("candidate", "split", 200, 0.001, 0.5, 0.1, 10, 20)
    families = take(metrics.registry.collect())
    assert decode(encode(families)) == families


def test_times_of_creation_are_left_out() -> None:
    """A counter of prometheus_client is added up, but not the time at which it came to be."""
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc(2)
    Gauge("level", "A level.", registry=registry).set(5)
    families = take(registry.collect())
    assert values(merge([families, families])) == {("things_total", ""): 4.0, ("level", ""): 5.0}
