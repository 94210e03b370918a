# ruff: noqa: INP001 - a script's neighbour, not a package
"""The dashboard of the data plane: what users get, from which arm, and how fast."""

from __future__ import annotations

from blocks import (
    ARMS,
    BAD,
    BASELINE,
    CANDIDATE,
    GOOD,
    QUIET,
    WARN,
    Json,
    dashboard,
    query,
    series,
    stat,
    timeseries,
    variable,
)

R = 'route=~"$route"'
W = "[$__rate_interval]"
QUANTILES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))

CODES = {"/2xx/": GOOD, "/4xx/": WARN, "/5xx/": BAD}
REASONS = {
    "/^baseline split/": BASELINE,
    "/^candidate split/": CANDIDATE,
    "/^baseline default/": "light-blue",
    "/^baseline ineligible/": "super-light-blue",
    "/fallback$/": BAD,
    "/breaker$/": "dark-red",
    "/^candidate forced/": "light-orange",
}
# Within an arm's colour the quantile is told by the line.
QUANTILE_LINES = [
    series("/p50$/", custom__lineWidth=1),
    series("/p95$/", custom__lineWidth=2),
    series("/p99$/", custom__lineWidth=1, custom__lineStyle={"fill": "dash", "dash": [6, 6]}),
]


def quantiles(metric: str, where: str = R, by: str = "variant") -> list[Json]:
    """Return the queries for the three quantiles of a histogram, by arm."""
    grouping = f"le, {by}" if by else "le"
    legend = f"{{{{{by}}}}} " if by else ""
    return [
        query(
            f"histogram_quantile({q}, sum by ({grouping}) (rate({metric}_bucket{{{where}}}{W})))",
            legend + name,
        )
        for q, name in QUANTILES
    ]


def build() -> Json:
    """Return the dashboard."""
    return dashboard(
        "coalmine-gateway",
        "Coalmine / Gateway",
        "The data plane: requests, errors and latency of both arms, and the gateway's own health.",
        variables=[
            variable("route", "Route", "label_values(coalmine_split_revision, route)", many=True)
        ],
        rows=[
            ("Now", _now()),
            ("Traffic", _traffic()),
            ("Latency by arm", _latency()),
            ("Candidate kept from harming users", _safety()),
            ("Capture", _capture()),
            ("Replicas", _replicas()),
        ],
    )


def _now() -> list[Json]:
    return [
        stat(
            "Requests",
            query(f"sum(rate(coalmine_requests_total{{{R}}}{W}))"),
            shows="Requests a second that gateways answered.",
            act="0 while clients send: is the gateway up, and do clients ask for a declared route?",
            unit="reqps",
            width=3,
            start=BASELINE,
        ),
        stat(
            "Errors that users saw",
            query(f"max(coalmine:request_errors:ratio_rate5m{{{R}}})"),
            shows="The largest share of 5xx answers of an arm of a route, over five minutes.",
            act="red: see Errors by arm. The baseline's errors are its upstream's; the "
            "candidate's are served by the baseline and seldom reach a user.",
            unit="percentunit",
            limits=[(0.005, WARN), (0.02, BAD)],
            decimals=2,
        ),
        stat(
            "First token, p95",
            query(f"max(coalmine:time_to_first_token_seconds:p95_rate5m{{{R}}})"),
            shows="Time to the first token of the slower arm, over five minutes.",
            act="compare the arms below; a slower candidate shows there, a slower gateway in Own "
            "overhead.",
            unit="s",
            start=QUIET,
        ),
        stat(
            "Own overhead, p95",
            query(
                "histogram_quantile(0.95, sum by (le) "
                f"(rate(coalmine_gateway_overhead_seconds_bucket{W})))"
            ),
            shows="Time from a request's last byte until it is on its way upstream.",
            act="above 10 ms: the processes are short of CPU; raise gateway.workers or add a "
            "replica.",
            unit="s",
            limits=[(0.002, WARN), (0.01, BAD)],
        ),
        stat(
            "Served by fallback",
            query(f"max(coalmine:fallbacks:ratio_rate5m{{{R}}})"),
            shows="Share of the candidate's requests that the baseline had to answer, over five "
            "minutes.",
            act="red: the candidate's upstream fails; its failures are charged to it, so expect a "
            "rollback.",
            unit="percentunit",
            limits=[(0.01, WARN), (0.1, BAD)],
            decimals=2,
            noValue="no candidate",
        ),
        stat(
            "Open streams",
            query("sum(coalmine_streams_open)"),
            shows="Answers that are being streamed at this moment.",
            act="growing without end: an upstream hangs in mid-answer; see its latency, lower "
            "gateway.idle_timeout.",
            width=3,
            start=BASELINE,
        ),
        stat(
            "Store",
            query("min(coalmine_store_up)"),
            shows="Whether every gateway reaches the store.",
            act="down: requests are served on with the last split, but no capture is kept and no "
            "rollback arrives. Repair the store first.",
            unit="none",
            width=2,
            limits=[(1, GOOD)],
            start=BAD,
            graph=False,
            mappings=[
                {
                    "type": "value",
                    "options": {
                        "0": {"text": "down", "color": BAD, "index": 0},
                        "1": {"text": "up", "color": GOOD, "index": 1},
                    },
                }
            ],
        ),
    ]


def _traffic() -> list[Json]:
    return [
        timeseries(
            "Requests by arm and reason",
            query(
                f"sum by (variant, reason) (rate(coalmine_requests_total{{{R}}}{W}))",
                "{{variant}} {{reason}}",
            ),
            shows="Who answered, and why: by the split, by force, as fallback, with the breaker "
            "open, as not eligible, or by default where no rollout is active.",
            act="much fallback or breaker: the candidate's upstream fails. Much ineligible: the "
            "spec's risk tiers or headers keep traffic out, and evidence comes slowly.",
            unit="reqps",
            stacked=True,
            colours=REASONS,
        ),
        timeseries(
            "Answers by code",
            query(
                f"sum by (variant, code) (rate(coalmine_requests_total{{{R}}}{W}))",
                "{{code}} {{variant}}",
            ),
            shows="Status classes of the answers that users got.",
            act="4xx: clients send what the upstream refuses, see the gateway's log for the code. "
            "5xx: see Errors by arm.",
            unit="reqps",
            stacked=True,
            colours=CODES,
        ),
        timeseries(
            "Errors by arm",
            query(
                f'(sum by (variant) (rate(coalmine_requests_total{{{R},code="5xx"}}{W})) '
                f"or 0 * sum by (variant) (rate(coalmine_requests_total{{{R}}}{W}))) "
                f"/ sum by (variant) (rate(coalmine_requests_total{{{R}}}{W}))",
                "{{variant}}",
            ),
            shows="Share of 5xx answers of each arm; the line is where the alert fires.",
            act="baseline: its upstream is ill, no rollout helps. Candidate only, after its first "
            "byte: `coalmine rollout weight NAME 0`.",
            unit="percentunit",
            lines=[(0.02, BAD)],
            colours=ARMS,
            min=0,
        ),
        timeseries(
            "Tokens",
            query(
                "sum by (variant, gen_ai_token_type) "
                f"(rate(gen_ai_client_token_usage_sum{{{R}}}{W}))",
                "{{variant}} {{gen_ai_token_type}}",
            ),
            shows="Tokens a second, read and written, by arm.",
            act="a jump without more requests: prompts or answers grew; compare Output tokens per "
            "answer.",
            unit="short",
            width=12,
            colours=ARMS,
            overrides=[
                series("/input$/", custom__lineStyle={"fill": "dash", "dash": [6, 6]}),
            ],
        ),
        timeseries(
            "Output tokens per answer",
            query(
                "sum by (variant) "
                f'(rate(gen_ai_client_token_usage_sum{{{R},gen_ai_token_type="output"}}{W})) '
                "/ sum by (variant) "
                f'(rate(gen_ai_client_token_usage_count{{{R},gen_ai_token_type="output"}}{W}))',
                "{{variant}}",
            ),
            shows="Mean length of an answer, by arm.",
            act="candidate a quarter longer without a higher win rate: verbosity that costs money "
            "and flatters judges; read pairs side by side.",
            unit="short",
            width=12,
            decimals=0,
            colours=ARMS,
        ),
    ]


def _latency() -> list[Json]:
    return [
        timeseries(
            title,
            *quantiles(metric),
            shows=shows,
            act=act,
            unit="s",
            height=10,
            colours=ARMS,
            overrides=QUANTILE_LINES,
        )
        for title, metric, shows, act in (
            (
                "Time to first token",
                "gen_ai_server_time_to_first_token_seconds",
                "From the request to the first token, as users see it.",
                (
                    "candidate above baseline: queueing or a cold cache at its upstream; give "
                    "it the baseline's capacity before judging its latency."
                ),
            ),
            (
                "Time to the whole answer",
                "gen_ai_server_request_duration_seconds",
                "From the request to the last byte.",
                (
                    "candidate above baseline with the same time per token: its answers are "
                    "longer, see Output tokens per answer."
                ),
            ),
            (
                "Time per output token",
                "gen_ai_server_time_per_output_token_seconds",
                "Pace of a stream after its first token.",
                (
                    "both arms slower at once: they share hardware, or mirroring loads it; lower "
                    "mirror.max_concurrency."
                ),
            ),
        )
    ]


def _safety() -> list[Json]:
    return [
        timeseries(
            "Fallbacks by cause",
            query(
                f"sum by (cause) (rate(coalmine_fallbacks_total{{{R}}}{W}))",
                "{{cause}}",
            ),
            shows="Requests that the candidate failed before its first byte and the baseline "
            "answered.",
            act="connect: is its server up? timeout: is it overloaded? 5xx or 429: read its log. "
            "Each is charged to the candidate.",
            unit="reqps",
            stacked=True,
        ),
        timeseries(
            "Breaker open",
            query(f"sum by (route) (coalmine_breaker_open{{{R}}})", "{{route}}"),
            shows="Gateway processes that have stopped sending the candidate anything.",
            act="open: the candidate failed several times in a row. Users are served by the "
            "baseline; repair the upstream, the breaker probes it by itself.",
            unit="none",
            decimals=0,
            steps=True,
            min=0,
        ),
        timeseries(
            "Own overhead",
            *quantiles("coalmine_gateway_overhead_seconds", where="", by=""),
            shows="Time from a request's last byte until it is on its way upstream: what the "
            "gateway itself adds.",
            act="rising with traffic: more gateway.workers or replicas. Rising without: look for a "
            "noisy neighbour; neither store, judge nor candidate is on this path.",
            unit="s",
            colours={"/^p/": "purple"},
            overrides=QUANTILE_LINES,
        ),
    ]


def _capture() -> list[Json]:
    return [
        timeseries(
            "Captures by outcome",
            query(
                f"sum by (outcome) (rate(coalmine_captures_total{{{R}}}{W}))",
                "{{outcome}}",
            ),
            shows="What became of eligible requests on their way into the store.",
            act="captured at zero with a rollout active: no evidence; check mirror.percentage. "
            "Much over_size: raise gateway.max_capture_bytes.",
            unit="reqps",
            stacked=True,
            colours={"/^captured$/": GOOD, "/^shed$/": BAD, "/^not_sampled$/": QUIET},
        ),
        timeseries(
            "Capture buffer",
            query("max by (instance) (coalmine_capture_buffer_bytes)", "{{instance}}"),
            shows="Memory of captures that are not yet written to the store, per replica.",
            act="growing: the store is slow or down. At gateway.capture_buffer_bytes captures are "
            "shed; requests are never delayed.",
            unit="bytes",
            min=0,
        ),
        timeseries(
            "Captures shed",
            query(
                f'sum by (route) (rate(coalmine_captures_total{{{R},outcome="shed"}}{W}))',
                "{{route}}",
            ),
            shows="Captures dropped because the buffer was full.",
            act="any: evidence is being lost, users are not affected. Repair the store, or lower "
            "mirror.percentage.",
            unit="reqps",
            min=0,
            colours={"/.*/": BAD},
        ),
    ]


def _replicas() -> list[Json]:
    return [
        timeseries(
            "Split revision per replica",
            query(
                f"max by (route, instance) (coalmine_split_revision{{{R}}})",
                "{{route}} {{instance}}",
            ),
            shows="The revision of the split that each gateway process serves. Lines of a route "
            "lie on each other.",
            act="one line below the others: that replica does not follow the store. Restart it, "
            "or take it out of service, before raising a weight.",
            unit="none",
            decimals=0,
            steps=True,
            calcs=("lastNotNull",),
        ),
        timeseries(
            "Streams per replica",
            query("sum by (instance) (coalmine_streams_open)", "{{instance}}"),
            shows="Open streams of each gateway process.",
            act="very uneven: the load balancer does not spread connections; a replica that "
            "drains goes down to zero.",
            unit="short",
            decimals=0,
        ),
        timeseries(
            "Connections to upstreams",
            query(
                "sum by (deployment, state) (coalmine_upstream_connections)",
                "{{deployment}} {{state}}",
            ),
            shows="Connections kept to each deployment, in use and idle.",
            act="in use near gateway.pool_size: raise it. Growing with flat traffic: the upstream "
            "answers ever more slowly.",
            unit="short",
            decimals=0,
        ),
    ]
