"""What happened between two writes: captures, and counts of everything that was not captured."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gateway.split import Split

__all__ = [
    "DROPPED",
    "LIVE",
    "MIRRORS",
    "REVERSE",
    "Account",
    "Batch",
    "BreakerChange",
    "Capture",
    "DroppedKey",
    "FunnelKey",
    "Scope",
    "Tally",
    "WindowKey",
]

MIRRORS = 1
"""Flag of :meth:`CaptureBuffer.settle`: the request is in no mirror's sample."""
LIVE = 2
"""Flag of :meth:`CaptureBuffer.settle`: the request is not in the live sample."""
REVERSE = 4
"""Flag of :meth:`CaptureBuffer.settle`: the candidate's answer is in no mirror's sample."""

DROPPED = frozenset({"over_size", "shed"})
"""Outcomes of requests that were drawn for a mirror and then lost, not left out on purpose."""

FunnelKey = tuple[int, str, str]
"""Rollout, stream and outcome."""
DroppedKey = tuple[int, str, str]
"""Rollout, segment (empty: none) and outcome."""
BreakerChange = tuple[int, int, float, dict[str, Any]]
"""Rollout, epoch, when, and the payload of the evidence."""


@dataclass(slots=True)
class Capture:
    """A request with its answer, on its way to the store. Bodies are the raw bytes.

    ``id`` is unique over all processes, ``request_id`` is what the client was told.
    ``pairs`` names who wants it: ``(rollout_id, stream)``. ``size`` is what it takes of the buffer
    in bytes. It never holds an authorization header, nor any other header. Without
    ``store_bodies`` the bodies are kept only until its pairs are finished.
    """

    id: str
    route: str
    request_id: str
    created_at: float
    endpoint: str
    variant: str
    reason: str
    deployment: str
    stream: bool
    request_body: bytes
    response_body: bytes
    content_encoding: bytes
    status: int
    ttft_s: float | None
    total_s: float
    input_tokens: int | None
    output_tokens: int | None
    segment: str | None
    risk: str | None
    key_hash: str | None
    split_revision: int
    epoch: int
    weight_bp: int
    size: int
    pairs: list[tuple[int, str]]
    store_bodies: bool = True


@dataclass(frozen=True, slots=True)
class WindowKey:
    """What the requests of one window have in common."""

    rollout_id: int
    split_revision: int
    weight_bp: int
    epoch: int


class Scope:
    """What the requests of a route are counted for under one split; built once, not per request.

    ``window`` is ``None`` where no rollout has live traffic; ``mirrors`` are the rollouts that
    mirror, ``reverse`` those that mirror the candidate's requests too, ``live`` the one whose
    answers are sampled.
    """

    __slots__ = ("live", "mirrors", "reverse", "slo_s", "window")

    def __init__(self, split: Split) -> None:
        self.window: WindowKey | None = None
        self.live: int | None = None
        if split.weight_bp and split.rollout_id is not None:
            self.window = WindowKey(split.rollout_id, split.revision, split.weight_bp, split.epoch)
            if split.live_sample_bp > 0:
                self.live = split.rollout_id
        self.mirrors = tuple(mirror.rollout_id for mirror in split.mirrors)
        self.reverse = tuple(mirror.rollout_id for mirror in split.reverse_mirrors)
        self.slo_s = float("inf") if split.slo_s is None else split.slo_s


@dataclass(slots=True)
class Tally:
    """Counts of one arm in one window. ``latency`` counts answers over the objective."""

    requests: int = 0
    error_rate: int = 0
    timeout_rate: int = 0
    latency: int = 0


class Account:
    """What was counted for a scope since the last batch. ``missed`` is indexed by the flags."""

    __slots__ = ("baseline", "candidate", "missed")

    def __init__(self) -> None:
        self.baseline = Tally()
        self.candidate = Tally()
        self.missed = [0, 0, 0, 0, 0, 0, 0, 0]


@dataclass(slots=True)
class Batch:
    """Everything that happened between two writes."""

    number: int = 0
    from_at: float = 0.0
    to_at: float = 0.0
    captures: list[Capture] = field(default_factory=list)
    funnel: Counter[FunnelKey] = field(default_factory=Counter)
    dropped: Counter[DroppedKey] = field(default_factory=Counter)
    """What was drawn for a mirror and lost, by segment."""
    windows: dict[WindowKey, dict[str, Tally]] = field(default_factory=dict)
    breaker: list[BreakerChange] = field(default_factory=list)
    revisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The replica's ``revisions`` as a whole, for it is small."""
    settings: dict[str, Any] | None = None
    """The replica's ``settings``, likewise."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it but a sign of life."""
        return not (self.captures or self.funnel or self.windows or self.breaker)

    @property
    def size(self) -> int:
        """Bytes of bodies held."""
        return sum(capture.size for capture in self.captures)

    def include(self, scope: Scope, account: Account) -> None:
        """Add what was counted for a scope."""
        baseline, candidate = account.baseline, account.candidate
        if scope.window is not None and (baseline.requests or candidate.requests):
            arms = self.windows.setdefault(
                scope.window, {"baseline": Tally(), "candidate": Tally()}
            )
            for arm, new in (("baseline", baseline), ("candidate", candidate)):
                total = arms[arm]
                total.requests += new.requests
                total.error_rate += new.error_rate
                total.timeout_rate += new.timeout_rate
                total.latency += new.latency
        missed = account.missed
        no_mirror = missed[MIRRORS] + missed[MIRRORS | LIVE]
        no_reverse = missed[REVERSE] + missed[REVERSE | LIVE]
        no_live = missed[LIVE] + missed[MIRRORS | LIVE] + missed[REVERSE | LIVE]
        if no_mirror:
            for rollout_id in scope.mirrors:
                self.end(rollout_id, "mirror", "not_sampled", no_mirror)
        if no_reverse:
            for rollout_id in scope.reverse:
                self.end(rollout_id, "mirror", "not_sampled", no_reverse)
        if no_live and scope.live is not None:
            self.end(scope.live, "live", "not_sampled", no_live)

    def end(self, rollout_id: int, stream: str, outcome: str, count: int = 1) -> None:
        """Count eligible requests of a stream by where they ended."""
        self.funnel[rollout_id, stream, "eligible"] += count
        self.funnel[rollout_id, stream, outcome] += count

    def shed(self) -> None:
        """Let the captures go; their requests count as shed."""
        for capture in self.captures:
            for rollout_id, stream in capture.pairs:
                self.funnel[rollout_id, stream, "pending"] -= 1
                self.funnel[rollout_id, stream, "shed"] += 1
                if stream == "mirror":
                    self.dropped[rollout_id, capture.segment or "", "shed"] += 1
        self.captures = []
