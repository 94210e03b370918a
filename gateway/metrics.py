"""The data plane's metrics: OpenTelemetry's GenAI names and buckets, and Coalmine's own.

Labels are bounded: routes, variants and deployments are declared, the rest are fixed words. No
user, key or model name of a client ever becomes a label.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["GatewayMetrics", "RouteMetrics"]

# https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN = (
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
)  # fmt: skip
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(float(4**power) for power in range(14))
_OVERHEAD = (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25)

Variant = Literal["baseline", "candidate"]


class GatewayMetrics:
    """All metrics of one gateway process, in the ``registry`` given.

    :meth:`route` gives the ones of a route with their labels already bound.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        arm = ("route", "variant")
        self.duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "Time to answer, to the last byte.",
            arm,
            buckets=_DURATION,
            registry=registry,
        )
        self.first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time until the first byte of a streamed answer.",
            arm,
            buckets=_FIRST_TOKEN,
            registry=registry,
        )
        self.per_token = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per output token after the first, of streamed answers.",
            arm,
            buckets=_PER_TOKEN,
            registry=registry,
        )
        self.tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens per request as the deployment reports them.",
            (*arm, "gen_ai_token_type"),
            buckets=_TOKENS,
            registry=registry,
        )
        self.requests = Counter(
            "coalmine_requests",
            "Requests by arm that served them, why, and class of status.",
            (*arm, "reason", "code"),
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
        self.fallbacks = Counter(
            "coalmine_fallbacks",
            "Requests of the candidate that the baseline served, by cause.",
            ("route", "cause"),
            registry=registry,
        )
        self.breaker_open = Gauge(
            "coalmine_breaker_open",
            "1 while the breaker on the candidate is open.",
            ("route",),
            registry=registry,
        )
        self.captures = Counter(
            "coalmine_captures",
            "What became of eligible requests on their way into the mirror stream.",
            ("route", "outcome"),
            registry=registry,
        )
        self.buffer_bytes = Gauge(
            "coalmine_capture_buffer_bytes", "Captures not yet written.", registry=registry
        )
        self.overhead = Histogram(
            "coalmine_gateway_overhead_seconds",
            "From a request's last byte until it is on its way to the deployment.",
            buckets=_OVERHEAD,
            registry=registry,
        )
        self.streams_open = Gauge(
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
        self._routes: dict[str, RouteMetrics] = {}

    def route(self, name: str) -> RouteMetrics:
        """Return the metrics of a declared route."""
        found = self._routes.get(name)
        if found is None:
            found = self._routes[name] = RouteMetrics(self, name)
        return found

    def watch_connections(self, deployment: str, read: Callable[[], tuple[int, int]]) -> None:
        """Read ``(idle, active)`` of a deployment's pool at each scrape."""
        self.connections.labels(deployment, "idle").set_function(lambda: read()[0])
        self.connections.labels(deployment, "active").set_function(lambda: read()[1])


class RouteMetrics:
    """A route's metrics, bound once, because looking labels up costs more than counting."""

    def __init__(self, metrics: GatewayMetrics, route: str) -> None:
        self._metrics = metrics
        self._route = route
        self._requests: dict[tuple[str, str, int], Counter] = {}
        self._arms = {
            variant: _Arm(metrics, route, variant) for variant in ("baseline", "candidate")
        }
        self.weight = metrics.weight.labels(route)
        self.revision = metrics.revision.labels(route)
        self.breaker_open = metrics.breaker_open.labels(route)
        self._captures: dict[str, Counter] = {}

    def request(self, variant: str, reason: str, status: int) -> None:
        """Count a request."""
        key = (variant, reason, status // 100)
        child = self._requests.get(key)
        if child is None:
            child = self._requests[key] = self._metrics.requests.labels(
                self._route, variant, reason, f"{key[2]}xx"
            )
        child.inc()

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
        arm = self._arms[variant]
        arm.duration.observe(total)
        if first is not None:
            arm.first_token.observe(first)
            if output_tokens is not None and output_tokens > 1:
                arm.per_token.observe((total - first) / (output_tokens - 1))
        if input_tokens is not None:
            arm.input.observe(input_tokens)
        if output_tokens is not None:
            arm.output.observe(output_tokens)

    def fallback(self, cause: str) -> None:
        """Count a fallback: connect, timeout, closed, protocol, 5xx or 429."""
        self._metrics.fallbacks.labels(self._route, cause).inc()

    def capture(self, outcome: str) -> None:
        """Count what became of an eligible request."""
        child = self._captures.get(outcome)
        if child is None:
            child = self._captures[outcome] = self._metrics.captures.labels(self._route, outcome)
        child.inc()


class _Arm:
    def __init__(self, metrics: GatewayMetrics, route: str, variant: str) -> None:
        self.duration = metrics.duration.labels(route, variant)
        self.first_token = metrics.first_token.labels(route, variant)
        self.per_token = metrics.per_token.labels(route, variant)
        self.input = metrics.tokens.labels(route, variant, "input")
        self.output = metrics.tokens.labels(route, variant, "output")
