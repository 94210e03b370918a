"""The worker's Prometheus metrics, all labels bounded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

from gateway.redaction.stage import RedactionMetrics
from gateway.store.tables import JudgmentRow
from shadow.health.watch import Examined
from shadow.pair import Arm
from shadow.pairs import Finished
from shadow.plan import Plan
from shadow.refusal.deciding import Decided

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
        self.check_flags = Counter(
            "coalmine_check_flags_total",
            "Facts that a check reports apart, such as JSON that parses only without its fence.",
            ("route", "variant", "check", "flag"),
            registry=registry,
        )
        self.refusal_decisions = Counter(
            "coalmine_refusal_decisions_total",
            "Answers on which a model was asked whether they decline, by decider and result.",
            ("decider", "result"),
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
            "Comparisons by the judge, from the candidate's point of view.",
            ("rollout", "verdict"),
            registry=registry,
        )
        self.position_bias = Gauge(
            "coalmine_judge_position_bias",
            "P(first wins) - P(second wins) over the pairs that this worker judged.",
            ("rollout",),
            registry=registry,
        )
        self.controls = Counter(
            "coalmine_judge_controls_total",
            "Control pairs and anchors that the judge was asked, by what came of them.",
            ("rollout", "kind", "result"),
            registry=registry,
        )
        self.windows = Counter(
            "coalmine_judge_windows_total",
            "Windows that this worker examined the judge for, by result.",
            ("rollout", "result"),
            registry=registry,
        )
        self.bias = Gauge(
            "coalmine_judge_bias",
            "Rank correlation of verdict and length (length), P(first wins) - P(second wins) "
            "(position), and share of pairs that turn with the order (inconsistent), over the "
            "latest judged pairs at the last window that this worker examined; with 95% bounds.",
            ("rollout", "segment", "bias", "bound"),
            registry=registry,
        )
        self.agreement = Gauge(
            "coalmine_judge_anchor_agreement",
            "Share of anchors on which the judge still says what it said first.",
            ("rollout",),
            registry=registry,
        )
        self.drifted = Gauge(
            "coalmine_judge_drifted",
            "1 where the judge disagrees with its first verdicts on the anchors beyond chance.",
            ("rollout",),
            registry=registry,
        )
        self.stages = Counter(
            "coalmine_judge_stages_total",
            "Pairs that a stage of the judge was asked about, by why it was asked.",
            ("rollout", "stage", "asked"),
            registry=registry,
        )
        self.scores = Summary(
            "coalmine_judge_score",
            "Points of 1 to 10 that the judge gave an answer by itself; for trends only.",
            ("rollout", "variant", "stage"),
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

    def refusal_decided(self, name: str, decided: Decided) -> None:
        """Count one question on an answer, and what it cost."""
        self.refusal_decisions.labels(name, decided.result).inc()
        self.spend.inc(decided.dollars)

    def checked(self, route: str, checks: Mapping[str, Any]) -> None:
        """Count the findings of one pair, by arm, as they are kept (`CheckResult.to_json`)."""
        for name, result in checks.items():
            for variant, finding in result.items():
                self.checks.labels(route, variant, name, finding["outcome"]).inc()
                for flag in finding.get("flags", ()):
                    # A case's number is no label.
                    known = "known_case" if flag.startswith("case_") else flag
                    self.check_flags.labels(route, variant, name, known).inc()

    def examined(self, window: Examined) -> None:
        """Show what a window came to, once it is written."""
        rollout = window.plan.name
        self.windows.labels(rollout, window.examination.result).inc()
        for each in (*window.examination.asked, *window.anchors):
            result = {None: "no_verdict", True: "pass", False: "fail"}[each.passed]
            self.controls.labels(rollout, each.kind, result).inc()
        for biases in window.biases:
            segment = biases.segment or "all"
            for name in ("position", "length", "inconsistent"):
                estimate = getattr(biases, name)
                for bound, value in (
                    ("point", estimate.value),
                    ("low", estimate.low),
                    ("high", estimate.high),
                ):
                    if value is not None:
                        self.bias.labels(rollout, segment, name, bound).set(value)
        agreed, held = window.agreed
        if held:
            self.agreement.labels(rollout).set(agreed / held)
            self.drifted.labels(rollout).set(float(window.drifted))

    def judgments(self, rollout: str, finished: Finished) -> None:
        """Count the judge's work on one pair, once it is written."""
        stages: dict[str, dict[str, JudgmentRow]] = {}
        for row in finished.judgments:
            stages.setdefault(row.stage or "final", {})[row.order] = row
            result = "cached" if row.cached else "error" if row.error else "verdict"
            self.judge_calls.labels(result).inc()
            self.spend.inc(row.cost_microusd / 1_000_000)
            if not row.cached and row.error is None:
                self.judge_duration.observe(row.latency_s)
            self._score(rollout, row)
        if finished.columns["comparison"]["decided_by"] == "judge":
            self.verdicts.labels(rollout, finished.columns["comparison"]["result"]).inc()
        for stage, rows in stages.items():
            asked = next(iter(rows.values())).asked
            self.stages.labels(rollout, stage, asked or "always").inc()
            verdicts = [row.verdict for row in rows.values() if row.verdict is not None]
            if len(verdicts) == 2:
                self._position(rollout, verdicts)

    def _score(self, rollout: str, row: JudgmentRow) -> None:
        if row.scores is None:
            return
        first, second = ("baseline", "candidate")[:: 1 if row.order == "AB" else -1]
        stage = row.stage or "final"
        self.scores.labels(rollout, first, stage).observe(row.scores["A"])
        self.scores.labels(rollout, second, stage).observe(row.scores["B"])

    def _position(self, rollout: str, verdicts: Sequence[str]) -> None:
        """Count a pair judged in both orders; one in a single order says nothing about place."""
        bias = sum({"A": 0.5, "B": -0.5}.get(side, 0.0) for side in verdicts)
        total, count = self._bias[rollout]
        self._bias[rollout] = (total + bias, count + 1)
        self.position_bias.labels(rollout).set((total + bias) / (count + 1))
