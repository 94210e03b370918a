"""All tables: instants (``*_at``) in Unix seconds, durations (``*_s``) in seconds.

Who writes what: gateways write ``replica``, ``intake``, ``funnel`` and window evidence; workers
make ``capture`` and ``pair`` of the intake, finish pairs, and write ``judgment`` and pair evidence,
``judge_window``, ``judge_health`` and ``judge_anchor``;
the controller alone writes ``rollout``, ``split`` and ``transition``; operations of people write
``reload``; the admin API writes ``outcome``, and the leading control joins them; deletions of users
are kept in ``deletion``, and the leading control removes what retention says. Workers draw
``review_item`` with the pair that they finish; the admin API writes ``review`` and
``review_lease``, and the leading control settles items. An export, asked for through the admin API,
writes ``dataset`` and ``dataset_item``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    false,
    true,
)
from sqlmodel import Field, SQLModel

__all__ = [
    "LIVE_FIRST",
    "AuditRow",
    "CaptureRow",
    "DatasetItemRow",
    "DatasetRow",
    "DeletionRow",
    "EvidenceHeadRow",
    "EvidenceRow",
    "FunnelRow",
    "IntakeRow",
    "JudgeAnchorRow",
    "JudgeBudgetRow",
    "JudgeCacheRow",
    "JudgeHealthRow",
    "JudgeWindowRow",
    "JudgmentRow",
    "LeaseRow",
    "OutcomeRow",
    "PairRow",
    "ReloadRow",
    "ReplicaRow",
    "ReviewItemRow",
    "ReviewLeaseRow",
    "ReviewPoolRow",
    "ReviewRow",
    "RolloutRow",
    "SplitRow",
    "TokenRow",
    "TransitionRow",
]

# Plain JSON, not JSONB, which would turn floats into decimals: receipts are recomputed bit for bit.
_JSON = JSON(none_as_null=True)
_BIG = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers only INTEGER keys itself


def _json(**arguments: Any) -> Any:
    return Column(_JSON, **arguments)


class SplitRow(SQLModel, table=True):
    """A route's split: the document that gateways follow."""

    __tablename__: ClassVar[Any] = "split"
    route: str = Field(primary_key=True)
    revision: int
    document: dict[str, Any] = Field(sa_column=_json(nullable=False))
    updated_at: float


class ReplicaRow(SQLModel, table=True):
    """A running process, and for a gateway the split revisions that it serves.

    ``revisions`` is ``{route: {"revision", "applied_at", "last_candidate_at"}}``. ``last_batch``
    numbers the last batch that this replica wrote: a batch written twice counts once. ``settings``
    is what a gateway says of its own (:meth:`gateway.reload.Report.to_document`).
    """

    __tablename__: ClassVar[Any] = "replica"
    id: str = Field(primary_key=True)
    role: str = Field(index=True)
    host: str
    pid: int
    started_at: float
    heartbeat_at: float
    stopped_at: float | None = None
    last_batch: int = 0
    revisions: dict[str, Any] = Field(default_factory=dict, sa_column=_json(nullable=False))
    settings: dict[str, Any] | None = Field(default=None, sa_column=_json())


class OutcomeRow(SQLModel, table=True):
    """What came of one request later, as an application posted it; one answer by name.

    ``failure`` is 0 or 1; ``value`` is kept and not used. ``request_at`` (Unix seconds),
    ``variant``, ``reason`` and ``rollout`` are what the application said of the request, for those
    that are not captured. ``state`` is ``pending``, ``joined`` (it became evidence), ``ignored`` or
    ``unmatched``; ``detail`` says why. While it is pending, ``check_at`` is when to look again.
    """

    __tablename__: ClassVar[Any] = "outcome"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("request_id", "name", name="uq_outcome"),
        Index("ix_outcome_due", "state", "check_at"),
    )
    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True))
    request_id: str
    name: str
    failure: int
    value: float | None = None
    request_at: float | None = None
    variant: str | None = None
    reason: str | None = None
    rollout: str | None = None
    posted_by: str
    created_at: float = Field(index=True)
    state: str = "pending"
    detail: str | None = None
    check_at: float = 0.0
    settled_at: float | None = None
    rollout_id: int | None = Field(default=None, index=True)
    capture_id: str | None = None
    weight_bp: int | None = None


class ReloadRow(SQLModel, table=True):
    """Somebody asked the gateways to read their settings again; the highest ``number`` counts."""

    __tablename__: ClassVar[Any] = "reload"
    number: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True))
    requested_at: float
    requested_by: str


class IntakeRow(SQLModel, table=True):
    """Captures of one gateway as it packed them, until a worker makes rows of them.

    ``pairs`` says how many pairs they are: ``[[rollout_id, stream, count], …]``. ``data`` is read
    by :mod:`gateway.intake` alone.
    """

    __tablename__: ClassVar[Any] = "intake"
    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True))
    pairs: list[Any] = Field(sa_column=_json(nullable=False))
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class CaptureRow(SQLModel, table=True):
    """One production request with the answer that a user got, both redacted.

    Without ``store_bodies`` they are emptied in the transaction that finishes the last of its
    pairs; ``bodies_removed_at`` says when, for whatever reason.
    """

    __tablename__: ClassVar[Any] = "capture"
    __table_args__: ClassVar[Any] = (
        Index("ix_capture_bodies", "bodies_removed_at", "store_bodies", "created_at"),
    )
    id: str = Field(primary_key=True)
    route: str
    request_id: str = Field(index=True)
    created_at: float = Field(index=True)
    endpoint: str
    variant: str
    reason: str
    deployment: str
    stream: bool
    request_body: str = Field(sa_column=Column(Text, nullable=False))
    response_body: str = Field(sa_column=Column(Text, nullable=False))
    status: int
    ttft_s: float | None = None
    total_s: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    segment: str | None = None
    risk: str | None = None
    key_hash: str | None = Field(default=None, index=True)
    split_revision: int
    epoch: int
    weight_bp: int
    truncated: bool = False
    store_bodies: bool = Field(default=True, sa_column_kwargs={"server_default": true()})
    bodies_removed_at: float | None = None


LIVE_FIRST = -1.0
"""``lease_until`` of a new live pair: it is claimed before mirrored pairs, however many wait.

Users are on the candidate, and checking their answers costs no call.
"""


class PairRow(SQLModel, table=True):
    """One capture to be mirrored, checked and judged for one rollout.

    ``stream`` is ``mirror`` (to the candidate), ``noise`` (to the baseline again) or ``live`` (no
    mirroring: the captured answer itself is checked; claimed first, see :data:`LIVE_FIRST`).
    ``state`` is ``pending``, ``claimed`` or ``done``; ``outcome`` is the funnel's word once done.
    """

    __tablename__: ClassVar[Any] = "pair"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("rollout_id", "capture_id", "stream", name="uq_pair_capture"),
        Index("ix_pair_claim", "state", "rollout_id", "lease_until", "id"),
        Index("ix_pair_rollout", "rollout_id", "id"),
    )
    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True))
    rollout_id: int
    capture_id: str = Field(foreign_key="capture.id", ondelete="CASCADE", index=True)
    stream: str
    state: str = "pending"
    outcome: str | None = None
    attempts: int = 0
    claimed_by: str | None = None
    lease_until: float = 0.0
    created_at: float
    finished_at: float | None = None
    segment: str | None = None
    candidate_response: str | None = Field(default=None, sa_column=Column(Text))
    candidate_status: int | None = None
    candidate_error: str | None = None
    candidate_ttft_s: float | None = None
    candidate_total_s: float | None = None
    checks: dict[str, Any] | None = Field(default=None, sa_column=_json())
    comparison: dict[str, Any] | None = Field(default=None, sa_column=_json())


class ReviewItemRow(SQLModel, table=True):
    """A pair that was drawn for people to look at, without knowing which arm is which.

    ``source`` is ``random`` or ``disagreement``; ``probability`` in (0, 1] is the one with which
    this pair could have been drawn, from either. ``left_arm`` is ``baseline`` or ``candidate``.
    ``score`` in [0, 1] is the judge's, for the candidate, None where there is none. ``wanted`` is
    the number of reviewers that settle it. ``state`` is ``open``, ``done`` (``label`` in
    {0, ½, 1} is the candidate's and became evidence; None when all skipped) or ``withdrawn``.
    ``settle_at`` is when an open item that has all its labels is done: until then they can be
    corrected.
    ``position`` in [0, 1) is where it stands in the queue: random, so that order tells nothing.
    """

    __tablename__: ClassVar[Any] = "review_item"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("pair_id", name="uq_review_item_pair"),
        Index("ix_review_item_queue", "state", "rollout_id", "position"),
        Index("ix_review_item_week", "route", "created_at"),
        Index("ix_review_item_due", "state", "settle_at"),
    )
    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True))
    rollout_id: int = Field(index=True)
    pair_id: int = Field(
        sa_column=Column(_BIG, ForeignKey("pair.id", ondelete="CASCADE"), nullable=False)
    )
    route: str
    segment: str | None = None
    source: str
    probability: float
    left_arm: str
    expert_only: bool = False
    wanted: int = 1
    score: float | None = None
    position: float = 0.0
    state: str = "open"
    label: float | None = None
    created_at: float
    settle_at: float | None = None
    settled_at: float | None = None


class ReviewRow(SQLModel, table=True):
    """What one person said about one item. A correction supersedes it, and it stays.

    ``verdict`` is ``left``, ``right``, ``tie``, ``both_bad`` or ``skip``; ``label`` is the same
    from the candidate's point of view: 0, ½ or 1, None for a skip. ``via`` is ``api`` or
    ``label_studio``; ``seconds`` is how long the person had the item before them.
    """

    __tablename__: ClassVar[Any] = "review"
    __table_args__: ClassVar[Any] = (
        Index(
            "uq_review_current",
            "item_id",
            "reviewer",
            unique=True,
            sqlite_where=Column("superseded", Boolean) == false(),
            postgresql_where=Column("superseded", Boolean) == false(),
        ),
        Index("ix_review_rollout", "rollout_id", "id"),
    )
    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True))
    item_id: int = Field(
        sa_column=Column(
            _BIG, ForeignKey("review_item.id", ondelete="CASCADE"), index=True, nullable=False
        )
    )
    rollout_id: int
    pair_id: int = Field(sa_column=Column(_BIG, nullable=False))
    reviewer: str
    role: str
    expert: bool = False
    verdict: str
    label: float | None = None
    categories: list[Any] = Field(default_factory=list, sa_column=_json(nullable=False))
    note: str = Field(default="", sa_column=Column(Text, nullable=False))
    via: str = "api"
    seconds: float | None = None
    created_at: float
    superseded: bool = False


class ReviewLeaseRow(SQLModel, table=True):
    """Who has an item before them, and until when nobody else is given their place."""

    __tablename__: ClassVar[Any] = "review_lease"
    item_id: int = Field(
        sa_column=Column(_BIG, ForeignKey("review_item.id", ondelete="CASCADE"), primary_key=True)
    )
    reviewer: str = Field(primary_key=True)
    since: float
    until: float


class ReviewPoolRow(SQLModel, table=True):
    """Pairs of a route that could be drawn, and how many of them judges disagreed on.

    What the probabilities of the next draws are made from. Its lock makes draws of one route follow
    each other. Both counts are halved now and then, so that they follow the present.
    """

    __tablename__: ClassVar[Any] = "review_pool"
    route: str = Field(primary_key=True)
    pairs: int = 0
    disagreed: int = 0


class JudgmentRow(SQLModel, table=True):
    """One call of the judge: one order of one pair, with its verdict or its error.

    ``order`` is ``AB`` when the baseline stood first and ``BA`` when the candidate did. ``stage``
    (first, final) was ``asked`` for a reason, with a ``probability`` below 1 where it was drawn.
    """

    __tablename__: ClassVar[Any] = "judgment"
    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True))
    pair_id: int = Field(
        sa_column=Column(_BIG, index=True, nullable=False),
    )
    rollout_id: int = Field(index=True)
    order: str
    verdict: str | None = None
    scores: dict[str, Any] | None = Field(default=None, sa_column=_json())
    evidence: str | None = Field(default=None, sa_column=Column(Text))
    severity: str | None = None
    model: str
    fingerprint: str | None = None
    error: str | None = None
    transcript: str | None = Field(default=None, sa_column=Column(Text))
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0
    latency_s: float = 0.0
    cached: bool = False
    created_at: float
    stage: str | None = None
    asked: str | None = None
    probability: float | None = None
    rubric: str | None = None
    rubric_hash: str | None = None
    cache_key: str | None = Field(default=None, index=True)


class JudgeCacheRow(SQLModel, table=True):
    """A verdict kept by the hash of everything that determined it."""

    __tablename__: ClassVar[Any] = "judge_cache"
    key: str = Field(primary_key=True)
    payload: dict[str, Any] = Field(sa_column=_json(nullable=False))
    created_at: float


class JudgeBudgetRow(SQLModel, table=True):
    """What a rollout has spent, or reserved, on the judge on one day (UTC, ``YYYY-MM-DD``)."""

    __tablename__: ClassVar[Any] = "judge_budget"
    rollout_id: int = Field(primary_key=True)
    day: str = Field(primary_key=True)
    calls: int = 0
    microusd: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))


class JudgeWindowRow(SQLModel, table=True):
    """One window of a rollout's judging, at whose end the judge is examined by one worker.

    A worker owns it until ``lease_until``; the attempt fences a former owner. ``after_judgment`` is
    the last judgment before it. ``result`` is ``pass``, ``fail`` or ``not_run`` once
    ``finished_at`` is set, ``reason`` says why. ``identity`` is the hash of judge and rubric,
    ``levels`` how far each kind of control has gone towards failing (natural logs).
    """

    __tablename__: ClassVar[Any] = "judge_window"
    rollout_id: int = Field(primary_key=True)
    window: int = Field(primary_key=True)
    claimed_by: str
    attempt: int = 1
    lease_until: float
    opened_at: float
    after_judgment: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    judged: int = 0
    finished_at: float | None = None
    result: str | None = None
    reason: str = Field(default="", sa_column=Column(Text, nullable=False))
    model: str | None = None
    fingerprint: str | None = None
    rubric: str | None = None
    identity: str | None = None
    levels: dict[str, Any] = Field(default_factory=dict, sa_column=_json(nullable=False))


class JudgeHealthRow(SQLModel, table=True):
    """One control pair, or one anchor, as the judge decided it in both orders.

    ``verdict`` is the comparison's word for the second answer (the candidate's place), or the
    status where there is none; ``passed`` is null then. ``rubric`` is the rubric's hash.
    """

    __tablename__: ClassVar[Any] = "judge_health"
    __table_args__: ClassVar[Any] = (
        Index("ix_judge_health_window", "rollout_id", "window"),
        Index("ix_judge_health_kind", "kind", "rollout_id", "id"),
    )
    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True))
    rollout_id: int
    window: int
    kind: str
    control: str
    verdict: str
    passed: bool | None = None
    model: str
    fingerprint: str | None = None
    rubric: str
    at: float


class JudgeAnchorRow(SQLModel, table=True):
    """The first verdict of a judge with a rubric on an anchor: what later ones are held against.

    ``identity`` is the hash of judge, rubric and anchor set; ``score`` runs from -1 to 1.
    """

    __tablename__: ClassVar[Any] = "judge_anchor"
    identity: str = Field(primary_key=True)
    anchor: str = Field(primary_key=True)
    verdict: str
    score: float
    model: str
    fingerprint: str | None = None
    created_at: float


class FunnelRow(SQLModel, table=True):
    """How many requests ended where, per rollout and stream. Moves with what it counts."""

    __tablename__: ClassVar[Any] = "funnel"
    rollout_id: int = Field(primary_key=True)
    stream: str = Field(primary_key=True)
    outcome: str = Field(primary_key=True)
    count: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))


class EvidenceHeadRow(SQLModel, table=True):
    """The last sequence number given out; its lock makes numbers follow commits."""

    __tablename__: ClassVar[Any] = "evidence_head"
    rollout_id: int = Field(primary_key=True)
    seq: int = 0


class EvidenceRow(SQLModel, table=True):
    """One fact about a rollout. Never changed; consumed in the order of ``seq``."""

    __tablename__: ClassVar[Any] = "evidence"
    rollout_id: int = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    kind: str
    at: float
    segment: str | None = None
    epoch: int = 0
    payload: dict[str, Any] = Field(sa_column=_json(nullable=False))


class RolloutRow(SQLModel, table=True):
    """One generation of a rollout: its spec, where it stands, and its sufficient statistics.

    ``revision`` is compared and set by every change; ``leader_token`` is the fencing token of the
    controller that wrote last, and never goes back.
    """

    __tablename__: ClassVar[Any] = "rollout"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("name", "generation", name="uq_rollout_generation"),
    )
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(index=True)
    generation: int
    route: str = Field(index=True)
    spec: dict[str, Any] = Field(sa_column=_json(nullable=False))
    spec_hash: str
    candidate_revision: str
    phase: str = Field(index=True)
    step: int = 0
    paused: dict[str, Any] | None = Field(default=None, sa_column=_json())
    revision: int = 0
    state: dict[str, Any] = Field(default_factory=dict, sa_column=_json(nullable=False))
    last_seq: int = 0
    step_started_at: float | None = None
    created_at: float
    updated_at: float
    finished_at: float | None = None
    leader_token: int = 0


class TransitionRow(SQLModel, table=True):
    """One transition with its receipt: what was known, who or what decided, and why."""

    __tablename__: ClassVar[Any] = "transition"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("rollout_id", "number", name="uq_transition_number"),
    )
    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True))
    rollout_id: int
    number: int
    at: float
    actor: str
    event: str
    from_phase: str
    to_phase: str
    step: int
    weight_before_bp: int
    weight_after_bp: int
    reason: str = Field(sa_column=Column(Text, nullable=False))
    receipt: dict[str, Any] = Field(sa_column=_json(nullable=False))


class DeletionRow(SQLModel, table=True):
    """A user whose captures were deleted, as a pseudonym: what comes in late is dropped too.

    It stands for requests up to ``requested_at``.
    """

    __tablename__: ClassVar[Any] = "deletion"
    key_hash: str = Field(primary_key=True)
    requested_at: float = Field(index=True)


class LeaseRow(SQLModel, table=True):
    """Who leads. ``token`` grows with every change of holder and fences the former one."""

    __tablename__: ClassVar[Any] = "lease"
    name: str = Field(primary_key=True)
    holder: str
    token: int
    expires_at: float


class TokenRow(SQLModel, table=True):
    """A token of the admin API, as a hash. ``expert`` may review expert-only routes."""

    __tablename__: ClassVar[Any] = "token"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    role: str
    expert: bool = Field(
        default=False, sa_column=Column(Boolean, nullable=False, server_default=false())
    )
    hash: str = Field(unique=True)
    created_at: float
    last_used_at: float | None = None
    revoked_at: float | None = None


class AuditRow(SQLModel, table=True):
    """What somebody did through the admin API or the CLI."""

    __tablename__: ClassVar[Any] = "audit"
    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True))
    at: float = Field(index=True)
    actor: str
    role: str
    action: str
    target: str
    detail: dict[str, Any] = Field(default_factory=dict, sa_column=_json(nullable=False))


class DatasetRow(SQLModel, table=True):
    """An export: rows to train on or to evaluate with. Never changed once ``state`` is ``ready``.

    ``kind`` is ``preferences``, ``regressions`` or ``evalset``. ``hash`` is the SHA-256 of its
    lines, ``version`` its number under its name; both are unset while it is ``building``.
    """

    __tablename__: ClassVar[Any] = "dataset"
    __table_args__: ClassVar[Any] = (UniqueConstraint("name", "version", name="uq_dataset"),)
    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True))
    name: str
    version: int | None = None
    kind: str
    state: str = "building"
    hash: str | None = Field(default=None, index=True)
    items: int = 0
    rollout_id: int = Field(index=True)
    manifest: dict[str, Any] = Field(default_factory=dict, sa_column=_json(nullable=False))
    created_at: float
    created_by: str


class DatasetItemRow(SQLModel, table=True):
    """One row of an export, in ``body`` as its line of JSON. Goes when its pair goes.

    ``key`` is the same for the same row in every export, ``hash`` changes with anything in it.
    """

    __tablename__: ClassVar[Any] = "dataset_item"
    __table_args__: ClassVar[Any] = (Index("ix_dataset_item_key", "dataset_id", "key"),)
    dataset_id: int = Field(
        sa_column=Column(_BIG, ForeignKey("dataset.id", ondelete="CASCADE"), primary_key=True)
    )
    number: int = Field(primary_key=True)
    key: str
    hash: str
    split: str
    segment: str | None = None
    source: str
    pair_id: int = Field(
        sa_column=Column(
            _BIG, ForeignKey("pair.id", ondelete="CASCADE"), index=True, nullable=False
        )
    )
    capture_id: str = Field(foreign_key="capture.id", ondelete="CASCADE", index=True)
    body: str = Field(sa_column=Column(Text, nullable=False))
