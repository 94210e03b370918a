"""How much load is put on a subject: the phases, their sizes, and what a slow subject can bear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

__all__ = ["FULL", "LIMITS", "QUICK", "Limits", "Phase", "Plan", "fitted", "loads"]

RATE = 100.0
"""Requests a second at which added latency is measured."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One kind of load: its mode, connections, times in seconds and rate per second.

    The modes are those of ``loadgen.c``. ``stagger_s`` is the time over which streams begin.
    """

    mode: str
    connections: int
    warmup_s: float
    seconds: float
    rate: float = 0.0
    stagger_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The phases of one subject, and the streams that the upstream sends.

    ``stalled`` is put on a process of its own, whose memory no other phase has touched; its warm-up
    is the longest that all streams may take to begin.
    """

    closed: Phase
    paced: Phase
    stream: Phase
    stalled: Phase
    chunks: int
    interval_ms: float = 50.0


QUICK = Plan(
    Phase("closed", 64, 0.5, 1.5),
    Phase("paced", 16, 0.3, 1.5, rate=RATE),
    Phase("stream", 512, 1.2, 1.0, stagger_s=1.0),
    Phase("stalled", 512, 8.0, 0.3, stagger_s=0.3),
    chunks=20,
)
FULL = Plan(
    Phase("closed", 64, 1.0, 4.0),
    Phase("paced", 16, 0.5, 21.0, rate=RATE),
    Phase("stream", 512, 5.5, 5.0, stagger_s=5.0),
    Phase("stalled", 512, 15.0, 1.0, stagger_s=1.0),
    chunks=100,
)
"""21 s at 100 requests a second are 2,100 latencies, enough for a p99."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a subject is asked for: connections, requests a second, open streams.

    ``settle_s`` is added before each window of connections and streams, for a subject that needs
    longer until all of them are served.
    """

    connections: int
    rate: float
    streams: int
    settle_s: float = 0.0


LIMITS: Mapping[str, Limits] = {
    # About 10 ms of CPU a request and 0.65 ms a chunk: 100 requests a second or 75 streams are
    # all that a core gives.
    "litellm": Limits(connections=8, rate=10.0, streams=32, settle_s=2.0),
}
"""The subjects that can't follow the plan. Their latencies belong to the lighter load."""


def fitted(plan: Plan, limits: Limits | None) -> Plan:
    """Return ``plan`` with no more load than ``limits`` allow."""
    if limits is None:
        return plan

    def streams(phase: Phase) -> Phase:
        warmup = phase.warmup_s + limits.settle_s
        count = min(phase.connections, limits.streams)
        return replace(phase, connections=count, warmup_s=warmup)

    closed = replace(
        plan.closed,
        connections=min(plan.closed.connections, limits.connections),
        warmup_s=plan.closed.warmup_s + limits.settle_s,
    )
    paced = replace(plan.paced, rate=min(plan.paced.rate, limits.rate))
    return replace(
        plan,
        closed=closed,
        paced=paced,
        stream=streams(plan.stream),
        stalled=streams(plan.stalled),
    )


def loads(plan: Plan) -> dict[str, str]:
    """Return the load of each phase in words."""
    return {
        "closed": f"{plan.closed.connections} connections",
        "paced": f"{plan.paced.rate:g} requests/s",
        "stream": f"{plan.stream.connections} streams",
        "stalled": f"{plan.stalled.connections} stalled streams",
    }
