"""The data plane's metrics: OpenTelemetry's GenAI names and buckets, and Coalmine's own.

Labels are bounded: routes, variants and deployments are declared, the rest are fixed words. No
user, key or model name of a client ever becomes a label. What is counted for each request is
counted by the event loop's thread alone; see :mod:`gateway.metering`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from gateway.metering import Counters, Histograms, Level

__all__ = ["GatewayMetrics", "RouteMetrics"]

# https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN = (
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
)  # fmt: skip
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(4**power for power in range(14))
_OVERHEAD = (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25)

_Request = tuple[str, str, int]
"""Variant, reason and status of a request."""


def _request_words(request: _Request) -> tuple[str, ...]:
    variant, reason, status = request
    return variant, reason, f"{status // 100}xx"


def _word(word: str) -> tuple[str, ...]:
    return (word,)


class GatewayMetrics:
    """All metrics of one gateway process, in the ``registry`` given.

    :meth:`route` gives the ones of a route with their labels already bound.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        arm = ("route", "variant")
        self.duration = Histograms(
            "gen_ai_server_request_duration_seconds",
            "Time to answer, to the last byte.",
            arm,
            bounds=_DURATION,
            registry=registry,
        )
        self.first_token = Histograms(
            "gen_ai_server_time_to_first_token_seconds",
            "Time until the first byte of a streamed answer.",
            arm,
            bounds=_FIRST_TOKEN,
            registry=registry,
        )
        self.per_token = Histograms(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per output token after the first, of streamed answers.",
            arm,
            bounds=_PER_TOKEN,
            registry=registry,
        )
        self.tokens = Histograms(
            "gen_ai_client_token_usage",
            "Tokens per request as the deployment reports them.",
            (*arm, "gen_ai_token_type"),
            bounds=_TOKENS,
            registry=registry,
        )
        self.estimated: Counters[tuple[str, str]] = Counters(
            "coalmine_estimated_tokens",
            "Tokens of requests whose deployment reported none, most often as the client left: "
            "a token per four bytes of request, and per event or four bytes of answer.",
            (*arm, "gen_ai_token_type"),
            words=lambda key: key,
            registry=registry,
        )
        self.requests: Counters[_Request] = Counters(
            "coalmine_requests",
            "Requests by arm that served them, why, and class of status.",
            (*arm, "reason", "code"),
            words=_request_words,
            registry=registry,
        )
        self.weight = Gauge(
            "coalmine_split_weight_ratio",
            "The candidate's share of the traffic, as served.",
            ("route",),
            registry=registry,
        )
        self.revision = Gauge(
            "coalmine_split_revision",
            "Revision of the split served.",
            ("route",),
            registry=registry,
        )
        self.fallbacks: Counters[str] = Counters(
            "coalmine_fallbacks",
            "Requests of the candidate that the baseline served, by cause.",
            ("route", "cause"),
            words=_word,
            registry=registry,
        )
        self.breaker_open = Gauge(
            "coalmine_breaker_open",
            "1 while the breaker on the candidate is open.",
            ("route",),
            registry=registry,
        )
        self.captures: Counters[str] = Counters(
            "coalmine_captures",
            "What became of eligible requests on their way into the mirror stream.",
            ("route", "outcome"),
            words=_word,
            registry=registry,
        )
        self.buffer_bytes = Gauge(
            "coalmine_capture_buffer_bytes", "Captures not yet written.", registry=registry
        )
        self.overhead = Histograms(
            "coalmine_gateway_overhead_seconds",
            "From a request's last byte until it is on its way to the deployment.",
            bounds=_OVERHEAD,
            registry=registry,
        ).bind()
        self.streams_open = Level(
            "coalmine_streams_open", "Streamed answers under way.", registry=registry
        )
        self.connections = Gauge(
            "coalmine_upstream_connections",
            "Connections to deployments, idle and active.",
            ("deployment", "state"),
            registry=registry,
        )
        self.store_up = Gauge(
            "coalmine_store_up", "1 while the store can be reached.", registry=registry
        )
        self.reloads = Counters[str](
            "coalmine_settings_reloads",
            "Times that the settings were read again, by result: ok or error.",
            ("result",),
            words=_word,
            registry=registry,
        ).bind()
        self.reloads |= {"ok": 0, "error": 0}
        self._routes: dict[str, RouteMetrics] = {}

    def route(self, name: str) -> RouteMetrics:
        """Return the metrics of a declared route."""
        found = self._routes.get(name)
        if found is None:
            found = self._routes[name] = RouteMetrics(self, name)
        return found

    def drop_route(self, name: str) -> None:
        """Show no state of a route that is served no more; what was counted stays."""
        if self._routes.pop(name, None) is not None:
            for state in (self.weight, self.revision, self.breaker_open):
                state.remove(name)

    def watch_connections(self, deployment: str, read: Callable[[], tuple[int, int]]) -> None:
        """Read ``(idle, active)`` of a deployment's pool at each scrape."""
        self.connections.labels(deployment, "idle").set_function(lambda: read()[0])
        self.connections.labels(deployment, "active").set_function(lambda: read()[1])

    def drop_connections(self, deployment: str) -> None:
        """Show no pool of a deployment that is there no more."""
        self.connections.remove(deployment, "idle")
        self.connections.remove(deployment, "active")


class RouteMetrics:
    """A route's metrics, bound once, because looking labels up costs more than counting.

    Only the event loop's thread calls its methods.
    """

    def __init__(self, metrics: GatewayMetrics, route: str) -> None:
        self._overhead = metrics.overhead
        self._baseline = _Arm(metrics, route, "baseline")
        self._candidate = _Arm(metrics, route, "candidate")
        self._requests = metrics.requests.bind(route)
        self._fallbacks = metrics.fallbacks.bind(route)
        self._captures = metrics.captures.bind(route)
        self._estimated = metrics.estimated.bind(route)
        self.weight = metrics.weight.labels(route)
        self.revision = metrics.revision.labels(route)
        self.breaker_open = metrics.breaker_open.labels(route)

    def finished(
        self,
        variant: str,
        reason: str,
        status: int,
        overhead: float | None,
        total: float | None,
        first: float | None,
        input_tokens: int | None,
        output_tokens: int | None,
    ) -> None:
        """Count a request and observe all that is known of it; what is ``None`` is not observed.

        ``overhead`` is the gateway's own time in seconds; ``total`` and ``first`` are the seconds
        to the last byte and, only of a stream, to the first.
        """
        # Written out, because each call of Tally.observe would cost as much as what it does.
        request = (variant, reason, status)
        try:
            self._requests[request] += 1
        except KeyError:
            self._requests[request] = 1
        if overhead is not None:
            tally = self._overhead
            tally.counts[bisect_left(_OVERHEAD, overhead)] += 1
            tally.sum += overhead
        arm = self._baseline if variant == "baseline" else self._candidate
        if total is not None:
            tally = arm.duration
            tally.counts[bisect_left(_DURATION, total)] += 1
            tally.sum += total
            if first is not None:
                tally = arm.first_token
                tally.counts[bisect_left(_FIRST_TOKEN, first)] += 1
                tally.sum += first
                if output_tokens is not None and output_tokens > 1:
                    pace = (total - first) / (output_tokens - 1)
                    tally = arm.per_token
                    tally.counts[bisect_left(_PER_TOKEN, pace)] += 1
                    tally.sum += pace
        if input_tokens is not None:
            tally = arm.input
            tally.counts[bisect_left(_TOKENS, input_tokens)] += 1
            tally.sum += input_tokens
        if output_tokens is not None:
            tally = arm.output
            tally.counts[bisect_left(_TOKENS, output_tokens)] += 1
            tally.sum += output_tokens

    def request(self, variant: str, reason: str, status: int) -> None:
        """Count a request of which nothing is to be observed."""
        self.finished(variant, reason, status, None, None, None, None, None)

    def answer(
        self,
        variant: str,
        *,
        total: float,
        first: float | None,
        input_tokens: int | None,
        output_tokens: int | None,
    ) -> None:
        """Observe a complete answer; ``first`` (seconds to the first byte) only of a stream."""
        arm = self._baseline if variant == "baseline" else self._candidate
        arm.duration.observe(total)
        if first is not None:
            arm.first_token.observe(first)
            if output_tokens is not None and output_tokens > 1:
                arm.per_token.observe((total - first) / (output_tokens - 1))
        if input_tokens is not None:
            arm.input.observe(input_tokens)
        if output_tokens is not None:
            arm.output.observe(output_tokens)

    def estimate(self, variant: str, input_tokens: int, output_tokens: int) -> None:
        """Count tokens that no deployment reported."""
        counts = self._estimated
        for kind, tokens in (("input", input_tokens), ("output", output_tokens)):
            counts[variant, kind] = counts.get((variant, kind), 0) + tokens

    def fallback(self, cause: str) -> None:
        """Count a fallback: connect, timeout, closed, protocol, 5xx or 429."""
        self._fallbacks[cause] = self._fallbacks.get(cause, 0) + 1

    def capture(self, outcome: str) -> None:
        """Count what became of an eligible request."""
        self._captures[outcome] = self._captures.get(outcome, 0) + 1


class _Arm:
    __slots__ = ("duration", "first_token", "input", "output", "per_token")

    def __init__(self, metrics: GatewayMetrics, route: str, variant: str) -> None:
        self.duration = metrics.duration.bind(route, variant)
        self.first_token = metrics.first_token.bind(route, variant)
        self.per_token = metrics.per_token.bind(route, variant)
        self.input = metrics.tokens.bind(route, variant, "input")
        self.output = metrics.tokens.bind(route, variant, "output")
