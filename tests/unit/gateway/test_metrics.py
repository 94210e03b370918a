"""The data plane's metrics: what is exposed is what prometheus_client itself would expose."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import DuplicateTimeseries

from gateway.metering import Histograms
from gateway.metrics import GatewayMetrics

ARM = ("route", "variant")
HISTOGRAMS: dict[str, tuple[str, tuple[str, ...], list[float]]] = {
    "gen_ai_server_request_duration_seconds": (
        "Time to answer, to the last byte.",
        ARM,
        [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92],
    ),
    "gen_ai_server_time_to_first_token_seconds": (
        "Time until the first byte of a streamed answer.",
        ARM,
        [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
    ),
    "gen_ai_server_time_per_output_token_seconds": (
        "Time per output token after the first, of streamed answers.",
        ARM,
        [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5],
    ),
    "gen_ai_client_token_usage": (
        "Tokens per request as the deployment reports them.",
        (*ARM, "gen_ai_token_type"),
        [4.0**power for power in range(14)],
    ),
    "coalmine_gateway_overhead_seconds": (
        "From a request's last byte until it is on its way to the deployment.",
        (),
        [0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25],
    ),
}
COUNTERS = {
    "coalmine_estimated_tokens": (
        (
            "Tokens of requests whose deployment reported none, most often as the client left: "
            "a token per four bytes of request, and per event or four bytes of answer."
        ),
        ("route", "variant", "gen_ai_token_type"),
    ),
    "coalmine_requests": (
        "Requests by arm that served them, why, and class of status.",
        (*ARM, "reason", "code"),
    ),
    "coalmine_fallbacks": (
        "Requests of the candidate that the baseline served, by cause.",
        ("route", "cause"),
    ),
    "coalmine_captures": (
        "What became of eligible requests on their way into the mirror stream.",
        ("route", "outcome"),
    ),
    "coalmine_settings_reloads": (
        "Times that the settings were read again, by result: ok or error.",
        ("result",),
    ),
}
GAUGES = {
    "coalmine_split_weight_ratio": ("The candidate's share of the traffic, as served.", ("route",)),
    "coalmine_split_revision": ("Revision of the split served.", ("route",)),
    "coalmine_breaker_open": ("1 while the breaker on the candidate is open.", ("route",)),
    "coalmine_capture_buffer_bytes": ("Captures not yet written.", ()),
    "coalmine_streams_open": ("Streamed answers under way.", ()),
    "coalmine_upstream_connections": (
        "Connections to deployments, idle and active.",
        ("deployment", "state"),
    ),
    "coalmine_store_up": ("1 while the store can be reached.", ()),
}


def reference(registry: CollectorRegistry) -> dict[str, Any]:
    """Declare the same metrics as objects of prometheus_client, with what a route binds."""
    found: dict[str, Any] = {}
    for name, (text, labels, bounds) in HISTOGRAMS.items():
        found[name] = Histogram(name, text, labels, buckets=bounds, registry=registry)
    for name, (text, labels) in COUNTERS.items():
        found[name] = Counter(name, text, labels, registry=registry)
    for name, (text, labels) in GAUGES.items():
        found[name] = Gauge(name, text, labels, registry=registry)
    for variant in ("baseline", "candidate"):
        for name in list(HISTOGRAMS)[:3]:
            found[name].labels("bot", variant)
        for kind in ("input", "output"):
            found["gen_ai_client_token_usage"].labels("bot", variant, kind)
    for name in ("split_weight_ratio", "split_revision", "breaker_open"):
        found[f"coalmine_{name}"].labels("bot")
    for result in ("ok", "error"):
        found["coalmine_settings_reloads"].labels(result)
    return found


def exposed(registry: CollectorRegistry) -> dict[str, Any]:
    """Return the families that a scrape shows, without the times at which series came to be."""
    return {
        family.name: (
            family.type,
            family.documentation,
            [(sample.name, sample.labels, sample.value) for sample in family.samples],
        )
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        if not family.name.endswith("_created")
    }


@pytest.fixture
def metrics() -> GatewayMetrics:
    """The metrics of a gateway with one route."""
    metrics = GatewayMetrics(CollectorRegistry())
    metrics.route("bot")
    return metrics


def test_a_gateway_without_traffic_exposes_what_prometheus_client_would(
    metrics: GatewayMetrics,
) -> None:
    """Names, types, help, labels, buckets and the zeros of what is bound are as declared."""
    registry = CollectorRegistry()
    reference(registry)
    assert exposed(metrics.registry) == exposed(registry)


def test_the_same_observations_give_the_same_exposition(metrics: GatewayMetrics) -> None:
    """Values on, between and above the bounds land in the buckets that prometheus_client takes."""
    registry = CollectorRegistry()
    expected = reference(registry)
    duration, first_token, per_token, tokens, overhead = (expected[name] for name in HISTOGRAMS)
    route = metrics.route("bot")
    seen: list[tuple[str, str, int, float, float, float | None, int | None, int | None]] = [
        ("baseline", "split", 200, 0.00002, 0.01, None, 0, 1),
        ("baseline", "split", 204, 0.000021, 1.28, 0.001, 1, 4096),
        ("candidate", "split", 404, 0.25, 81.93, 10.5, 67108864, 67108865),
        ("candidate", "forced", 200, 0.3, 0.5, 0.25, None, 2),
        ("baseline", "fallback", 502, 0.0, 0.0, 0.0, 5, None),
    ]
    for variant, reason, status, own, total, first, asked, answered in seen:
        route.finished(variant, reason, status, own, total, first, asked, answered)
        expected["coalmine_requests"].labels("bot", variant, reason, f"{status // 100}xx").inc()
        overhead.observe(own)
        duration.labels("bot", variant).observe(total)
        if first is not None:
            first_token.labels("bot", variant).observe(first)
            if answered is not None and answered > 1:
                per_token.labels("bot", variant).observe((total - first) / (answered - 1))
        if asked is not None:
            tokens.labels("bot", variant, "input").observe(asked)
        if answered is not None:
            tokens.labels("bot", variant, "output").observe(answered)
    for cause in ("connect", "5xx", "connect"):
        route.fallback(cause)
        expected["coalmine_fallbacks"].labels("bot", cause).inc()
    for outcome in ("pending", "shed", "pending"):
        route.capture(outcome)
        expected["coalmine_captures"].labels("bot", outcome).inc()
    for gauge in (metrics.streams_open, expected["coalmine_streams_open"]):
        gauge.inc()
        gauge.inc()
        gauge.dec()
    for revision in (route.revision, expected["coalmine_split_revision"].labels("bot")):
        revision.set(7)
    assert exposed(metrics.registry) == exposed(registry)


def test_one_call_tells_as_much_as_several(metrics: GatewayMetrics) -> None:
    """``finished`` is ``request``, ``answer`` and the overhead in one."""
    other = GatewayMetrics(CollectorRegistry())
    route = other.route("bot")
    for variant, status, first, answered in (
        ("baseline", 200, 0.3, 12),
        ("candidate", 200, None, 1),
        ("candidate", 200, 0.1, None),
    ):
        metrics.route("bot").finished(variant, "split", status, 0.0002, 1.5, first, 40, answered)
        other.overhead.observe(0.0002)
        route.request(variant, "split", status)
        route.answer(variant, total=1.5, first=first, input_tokens=40, output_tokens=answered)
    assert exposed(metrics.registry) == exposed(other.registry)


def test_what_is_not_known_is_not_observed(metrics: GatewayMetrics) -> None:
    """A request without an answer counts, and leaves no trace in any histogram."""
    before = exposed(metrics.registry)
    metrics.route("bot").finished("baseline", "default", 499, None, None, None, None, None)
    after = exposed(metrics.registry)
    labels = {"route": "bot", "variant": "baseline", "reason": "default", "code": "4xx"}
    assert after.pop("coalmine_requests")[2] == [("coalmine_requests_total", labels, 1.0)]
    assert before.pop("coalmine_requests")[2] == []
    assert after == before


def test_the_sum_of_all_statuses_of_a_class_is_one_series(metrics: GatewayMetrics) -> None:
    """200 and 201 are both 2xx, in one series."""
    for status in (200, 201, 200, 500):
        metrics.route("bot").request("baseline", "split", status)
    samples = exposed(metrics.registry)["coalmine_requests"][2]
    assert [(labels["code"], value) for _, labels, value in samples] == [("2xx", 3.0), ("5xx", 1.0)]


def test_connections_are_read_at_each_scrape(metrics: GatewayMetrics) -> None:
    """The pools are asked when somebody looks, idle and active."""
    pool = [3, 1]
    metrics.watch_connections("base", lambda: (pool[0], pool[1]))
    pool[1] = 4
    samples = exposed(metrics.registry)["coalmine_upstream_connections"][2]
    assert [(labels["state"], value) for _, labels, value in samples] == [
        ("idle", 3.0),
        ("active", 4.0),
    ]


def test_a_name_can_be_taken_once(metrics: GatewayMetrics) -> None:
    """A second metric of a name is an error at the start, not a broken scrape."""
    for name in ("coalmine_requests_total", "gen_ai_client_token_usage", "coalmine_streams_open"):
        with pytest.raises(DuplicateTimeseries):
            Gauge(name, "Another.", registry=metrics.registry)


def test_a_scrape_amid_writing_sees_whole_histograms() -> None:
    """However a scrape falls between writes, the count is what the buckets add up to."""
    registry = CollectorRegistry()
    tally = Histograms("h", "A histogram.", bounds=(0.1, 1.0), registry=registry).bind()
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            for value in (0.05, 0.5, 5.0):
                tally.observe(value)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            [family] = registry.collect()
            values = {(each.name, each.labels.get("le")): each.value for each in family.samples}
            low, middle = values["h_bucket", "0.1"], values["h_bucket", "1.0"]
            assert low <= middle <= values["h_bucket", "+Inf"] == values["h_count", None]
    finally:
        done.set()
        writer.join()
