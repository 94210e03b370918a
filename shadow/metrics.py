"""The worker's Prometheus metrics, all labels bounded."""

from __future__ import annotations

from collections import defaultdict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.redaction.stage import RedactionMetrics
from shadow.pair import Arm
from shadow.pairs import Finished
from shadow.plan import Plan

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)


class WorkerMetrics:
    """The metrics of one worker, registered with the registry that is passed in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.redaction = RedactionMetrics(registry)
        self.pairs = Counter(
            "coalmine_pairs_total",
            "Pairs finished, by the funnel's outcome.",
            ("route", "rollout", "stream", "outcome"),
            registry=registry,
        )
        self.mirror_duration = Histogram(
            "coalmine_mirror_duration_seconds",
            "Seconds that mirrored requests took, timeouts included.",
            ("route", "rollout"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.checks = Counter(
            "coalmine_checks_total",
            "Checks run on one arm's answer, by result.",
            ("route", "variant", "check", "result"),
            registry=registry,
        )
        self.judge_calls = Counter(
            "coalmine_judge_calls_total",
            "Judgments of one order, by result.",
            ("result",),
            registry=registry,
        )
        self.judge_duration = Histogram(
            "coalmine_judge_call_duration_seconds",
            "Seconds of calls to the judge that were answered; cached ones are not counted.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.verdicts = Counter(
            "coalmine_judge_verdicts_total",
            "Comparisons of both orders, from the candidate's point of view.",
            ("rollout", "verdict"),
            registry=registry,
        )
        self.position_bias = Gauge(
            "coalmine_judge_position_bias",
            "P(first wins) - P(second wins) over the pairs that this worker judged.",
            ("rollout",),
            registry=registry,
        )
        self.spend = Counter(
            "coalmine_judge_spend_dollars_total",
            "Dollars spent on the judge.",
            registry=registry,
        )
        self.pending = Gauge(
            "coalmine_pairs_pending",
            "Pairs in the store that nobody has claimed.",
            registry=registry,
        )
        self._bias: defaultdict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))

    def mirrored(self, plan: Plan, arm: Arm) -> None:
        """Observe one mirrored request."""
        if arm.latency_s is not None:
            self.mirror_duration.labels(plan.route, plan.name).observe(arm.latency_s)

    def judgments(self, rollout: str, finished: Finished) -> None:
        """Count the judge's work on one pair, once it is written."""
        sides: dict[str, str | None] = {}
        for row in finished.judgments:
            sides[row.order] = row.verdict
            result = "cached" if row.cached else "error" if row.error else "verdict"
            self.judge_calls.labels(result).inc()
            self.spend.inc(row.cost_microusd / 1_000_000)
            if not row.cached and row.error is None:
                self.judge_duration.observe(row.latency_s)
        ab, ba = sides.get("AB"), sides.get("BA")
        if ab is None or ba is None:
            return
        self.verdicts.labels(rollout, finished.columns["comparison"]["result"]).inc()
        bias = sum({"A": 0.5, "B": -0.5}.get(side, 0.0) for side in (ab, ba))
        total, count = self._bias[rollout]
        self._bias[rollout] = (total + bias, count + 1)
        self.position_bias.labels(rollout).set((total + bias) / (count + 1))
