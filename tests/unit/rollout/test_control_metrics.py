"""What control shows of rollouts once it leads no more."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from rollout.metrics import ControlMetrics


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
