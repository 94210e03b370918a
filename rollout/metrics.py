"""Control's metrics: where rollouts are, what is known, what was decided.

Labels are bounded: rollouts, routes and metrics are declared, segments are capped, the rest are
fixed words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import log
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rollout.assessment import assess, combined_harm
from rollout.claims import lower_bound
from rollout.evidence import OVERALL
from rollout.panel_lines import Line
from rollout.records import Record, Transition
from rollout.states import Phase
from rollout.verdicts import verdicts

__all__ = ["ControlMetrics"]

_OUTCOMES = ("pass", "fail", "inconclusive", "no_data", "error")
_LABELS = {0.0: "baseline", 0.5: "neither", 1.0: "candidate"}
_LEFT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class ControlMetrics:
    """All metrics of the controller, in the ``registry`` given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        self.phase = gauge(
            "coalmine_rollout_phase", "1 for the present phase.", ("rollout", "route", "phase")
        )
        self.step = gauge("coalmine_rollout_step", "Present step of the plan.", ("rollout",))
        self.weight = gauge(
            "coalmine_rollout_weight_ratio", "The candidate's share, 0 to 1.", ("rollout", "route")
        )
        self.e_value = gauge(
            "coalmine_evidence_e_value_log10",
            "Evidence against (harm) and for (non_inferior) the candidate; 1.3 is proof at 5%.",
            ("rollout", "metric", "segment", "side"),
        )
        self.estimate = gauge(
            "coalmine_evidence_estimate",
            "Win rate, or candidate minus baseline, with its anytime-valid bounds.",
            ("rollout", "metric", "segment", "bound"),
        )
        self.observations = gauge(
            "coalmine_evidence_observations",
            "Pairs that the metric applied to.",
            ("rollout", "metric", "segment"),
        )
        self.verdict = gauge(
            "coalmine_verdict",
            "1 for the present verdict.",
            ("rollout", "metric", "segment", "verdict"),
        )
        self.quarantined = gauge(
            "coalmine_judge_quarantined",
            "1 while the judge has failed its control pairs and what it says does not count.",
            ("rollout", "route"),
        )
        self.on_trial = gauge(
            "coalmine_judge_unconfirmed_verdicts",
            "Verdicts since the judge last passed its control pairs.",
            ("rollout",),
        )
        self.funnel = gauge(
            "coalmine_funnel", "Requests by where they ended.", ("rollout", "stream", "outcome")
        )
        self.review_items = gauge(
            "coalmine_review_items",
            "Pairs drawn for people: open, done or withdrawn.",
            ("rollout", "state"),
        )
        self.review_labels = gauge(
            "coalmine_review_labels",
            "Labels that people's verdicts came to: which arm is better, or neither.",
            ("rollout", "label"),
        )
        self.review_win_rate = gauge(
            "coalmine_review_win_rate",
            "Win rate by people, corrected with the judge's scores, with bounds over all looks.",
            ("rollout", "bound"),
        )
        self.panel_value = gauge(
            "coalmine_panel_value",
            "A figure of the reward-hacking panel: share of answers, or mean amount, of each arm.",
            ("rollout", "metric", "segment", "variant"),
        )
        self.panel_change = gauge(
            "coalmine_panel_change_in_margins",
            "How far the figure moved, in its margins: beyond 1 or -1 its samples want reading.",
            ("rollout", "metric", "segment", "bound"),
        )
        self.time_to_zero = gauge(
            "coalmine_rollback_time_to_zero_seconds",
            "From the last rollback until no gateway called the candidate any more.",
            ("rollout",),
        )
        self.left = Histogram(
            "coalmine_rollback_replica_seconds",
            "From a rollback until one gateway served its split (applied), and until it gave its "
            "last request to the candidate (last_candidate).",
            ("stage",),
            buckets=_LEFT,
            registry=registry,
        )
        self.leader = gauge("coalmine_controller_leader", "1 while this process leads.")
        self.tick = Histogram(
            "coalmine_controller_tick_seconds",
            "Time of one look at all rollouts.",
            buckets=_TICK,
            registry=registry,
        )
        self.transitions = Counter(
            "coalmine_transitions_total", "Transitions by event.", ("event",), registry=registry
        )

    def observe(
        self, record: Record, *, weight_bp: int, funnel: Mapping[str, Mapping[str, int]]
    ) -> None:
        """Show where a rollout is and what is known about it. Some milliseconds, for the bounds."""
        name = record.name
        self.place(record, weight_bp=weight_bp)
        evidence, spec = record.evidence, record.spec
        alpha = spec.analysis.error_budget.rollback
        for each in verdicts(evidence, spec):
            segment = each.segment or "all"
            labels = (name, each.metric, segment)
            self.e_value.labels(*labels, "harm").set(each.log_e_harm / log(10))
            self.e_value.labels(*labels, "non_inferior").set(each.log_e_non_inferior / log(10))
            self.observations.labels(*labels).set(each.n)
            for outcome in _OUTCOMES:
                self.verdict.labels(*labels, outcome).set(float(each.verdict == outcome))
            paired = evidence.metrics[each.metric].paired.get(each.segment or OVERALL)
            if paired is not None and paired.n:
                low, high = paired.bounds(alpha)
                self.estimate.labels(*labels, "low").set(low)
                self.estimate.labels(*labels, "point").set(paired.estimate)
                self.estimate.labels(*labels, "high").set(high)
        log_e, _ = combined_harm(evidence, assess(evidence, spec))
        self.e_value.labels(name, "guardrails", "all", "harm").set(log_e / log(10))
        if evidence.judge_health is not None:
            health = evidence.judge_health
            self.quarantined.labels(name, record.route).set(float(health.quarantined))
            self.on_trial.labels(name).set(health.unconfirmed)
        for stream, outcomes in funnel.items():
            for outcome, count in outcomes.items():
                self.funnel.labels(name, stream, outcome).set(count)

    def reviews(
        self, record: Record, *, items: Mapping[str, int], labels: Mapping[float, int]
    ) -> None:
        """Show a rollout's review queue, its labels, and what they come to."""
        for state, count in items.items():
            self.review_items.labels(record.name, state).set(count)
        for label, count in labels.items():
            self.review_labels.labels(record.name, _LABELS[label]).set(count)
        known = record.evidence.metrics.get("judge_win_rate")
        if known is None or known.labels is None or known.labels.estimate is None:
            return
        alpha = record.spec.analysis.error_budget.promote
        low, high = lower_bound(known.labels, alpha), known.labels.bounds(alpha)[1]
        for bound, value in (("low", low), ("point", known.labels.estimate), ("high", high)):
            self.review_win_rate.labels(record.name, bound).set(value)

    def panel(self, rollout: str, lines: Iterable[Line]) -> None:
        """Show the reward-hacking panel of a rollout."""
        for line in lines:
            labels = (rollout, line.metric.name, line.segment or "all")
            for variant, value in (("baseline", line.before), ("candidate", line.after)):
                if value is not None:
                    self.panel_value.labels(*labels, variant).set(value)
            for bound, value in (("low", line.low), ("point", line.change), ("high", line.high)):
                if value is not None:
                    self.panel_change.labels(*labels, bound).set(value / line.metric.margin)

    def follow(self) -> None:
        """Show no rollout any more: another process leads, and what this one knew grows old."""
        self.leader.set(0)
        for known in (
            *(self.phase, self.step, self.weight, self.funnel),
            *(self.e_value, self.estimate, self.observations, self.verdict),
            *(self.review_items, self.review_labels, self.review_win_rate),
            *(self.quarantined, self.on_trial),
            *(self.panel_value, self.panel_change),
        ):
            known.clear()

    def place(self, record: Record, *, weight_bp: int) -> None:
        """Show a rollout's phase, step and weight."""
        for phase in Phase:
            self.phase.labels(record.name, record.route, phase.value).set(
                float(record.phase is phase)
            )
        self.step.labels(record.name).set(record.step_index)
        self.weight.labels(record.name, record.route).set(weight_bp / 10_000)

    def transition(self, transition: Transition) -> None:
        """Count a transition, and show the time to zero that it reports."""
        self.transitions.labels(transition.event).inc()
        drained: Mapping[str, Any] = transition.receipt.get("drained") or {}
        if drained.get("time_to_zero") is not None:
            self.time_to_zero.labels(transition.rollout).set(drained["time_to_zero"])
        for replica in (drained.get("replicas") or {}).values():
            for stage in ("applied", "last_candidate"):
                if replica[stage] is not None:
                    self.left.labels(stage).observe(replica[stage])
