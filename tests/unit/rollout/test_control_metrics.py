"""What control shows of rollouts once it leads no more."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from rollout.metrics import ControlMetrics
from rollout.records import Transition


def test_a_former_leader_shows_no_rollout() -> None:
    """A paused rollout that another process has resumed is not shown as paused for ever."""
    registry = CollectorRegistry()
    metrics = ControlMetrics(registry)
    metrics.leader.set(1)
    metrics.phase.labels("v7", "support-bot", "paused").set(1)
    metrics.verdict.labels("v7", "latency", "all", "inconclusive").set(1)
    metrics.transitions.labels("pause").inc()
    metrics.follow()
    assert registry.get_sample_value("coalmine_controller_leader") == 0
    samples = {sample.name for family in registry.collect() for sample in family.samples}
    assert not samples & {"coalmine_rollout_phase", "coalmine_verdict"}
    counted = registry.get_sample_value("coalmine_transitions_total", {"event": "pause"})
    assert counted == 1


def test_a_completed_rollback_is_shown_for_each_gateway() -> None:
    """The gauge holds the last rollback's time to zero, the histogram every gateway's own part."""
    registry = CollectorRegistry()
    left = {
        "g1": {"applied": 0.02, "last_candidate": 0.013},
        "g2": {"applied": 0.3, "last_candidate": 0.0},
    }
    drained = {"time_to_zero": 0.013, "applied": 0.3, "replicas": left}
    ControlMetrics(registry).transition(
        Transition(
            *(1, "v7", "bot", 5, 1.0, "controller", "drained", "rolling_back", "rolled_back"),
            *(1, 0, 0, "", {"drained": drained}),
        )
    )
    zero = registry.get_sample_value("coalmine_rollback_time_to_zero_seconds", {"rollout": "v7"})
    assert zero == 0.013
    for stage, within in (("applied", 1), ("last_candidate", 2)):
        labels = {"stage": stage}
        name = "coalmine_rollback_replica_seconds"
        assert registry.get_sample_value(f"{name}_count", labels) == 2
        assert registry.get_sample_value(f"{name}_bucket", {**labels, "le": "0.025"}) == within
