"""Documents of the review API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from rollout.api.models import LabelReport
from rollout.labelling import ReviewCategory, ReviewVerdict

__all__ = [
    "AgreementReport",
    "HandedItem",
    "LabelList",
    "NextItem",
    "ReviewItem",
    "ReviewPost",
    "ReviewPosted",
    "ReviewRecord",
    "ReviewState",
    "ReviewStatus",
    "ReviewTurn",
    "ReviewsOfMine",
]

ReviewState = Literal["open", "done", "withdrawn"]


class ReviewTurn(BaseModel):
    """One message of the conversation."""

    role: str
    text: str


class ReviewItem(BaseModel):
    """Two answers to one request. Nothing in it tells which model gave which."""

    id: int
    segment: str | None
    conversation: list[ReviewTurn]
    tools: list[str] = Field(description="Names of the tools that were offered.")
    left: str
    right: str


class HandedItem(ReviewItem):
    """An item that is yours for a while."""

    lease_ends_at: float = Field(description="Unix seconds; then it may go to somebody else.")


class NextItem(BaseModel):
    """The next item, if there is one for you."""

    item: HandedItem | None
    open: int = Field(description="Items that wait for somebody, whoever may review them.")
    reason: str = Field(description="Why there is no item; empty where there is one.")
    verdicts: list[str]
    categories: list[str]


class ReviewPost(BaseModel):
    """What you say about an item."""

    model_config = ConfigDict(extra="forbid")

    verdict: ReviewVerdict = Field(description="Which answer is better.")
    categories: list[ReviewCategory] = Field(
        default_factory=list, max_length=5, description="What it was about."
    )
    note: Annotated[str, Field(max_length=4000)] = Field("", description="In your own words.")


class ReviewPosted(BaseModel):
    """What became of it."""

    id: int
    state: ReviewState = Field(description="done: its label is evidence.")
    settles_at: float | None = Field(
        description="When it becomes evidence (Unix seconds), and until when you can correct it; "
        "null: more people are wanted."
    )
    known: bool = Field(description="You had said the same before.")
    corrected: bool = Field(description="It replaces what you said before, which is kept.")
    counted: bool = Field(
        description="False: the item was settled already. It is kept, and counts for agreement; "
        "evidence does not change."
    )


class MyReview(BaseModel):
    """One of your own verdicts."""

    id: int = Field(description="The item's.")
    verdict: ReviewVerdict
    categories: list[str]
    note: str
    at: float = Field(description="Unix seconds.")


class ReviewsOfMine(BaseModel):
    """Your own verdicts on a rollout, latest first."""

    reviews: list[MyReview]


class ReviewRecord(BaseModel):
    """One verdict with everything that is known of it."""

    item: int
    pair: int
    segment: str | None
    source: Literal["random", "disagreement"]
    probability: float = Field(description="With which the pair could be drawn.")
    left_arm: Literal["baseline", "candidate"]
    reviewer: str
    role: str
    expert: bool
    verdict: ReviewVerdict
    label: float | None = Field(description="1: the candidate is better; null: skipped.")
    categories: list[str]
    note: str
    via: Literal["api", "label_studio"]
    seconds: float | None = Field(description="How long the reviewer had the item.")
    at: float = Field(description="Unix seconds.")
    superseded: bool = Field(description="A correction took its place.")


class LabelList(BaseModel):
    """What was said about a rollout's items, latest first; corrected verdicts too."""

    name: str
    generation: int
    reviews: list[ReviewRecord]
    next_cursor: str | None = Field(description="Give it as cursor for the next page; null: end.")


class ReviewItemCounts(BaseModel):
    """Items by state."""

    open: int
    done: int
    withdrawn: int = Field(description="Nobody was asked before the rollout was over.")


class ReviewSources(BaseModel):
    """Items by what drew them."""

    random: int
    disagreement: int


class ReviewQuota(BaseModel):
    """How many pairs of the route are drawn."""

    weekly: int
    used: int = Field(description="Drawn within the last seven days, for any rollout of the route.")
    considered: float = Field(description="Share of pairs that can be drawn now.")


class ReviewStatus(BaseModel):
    """Where a rollout's reviews stand, and what they say."""

    name: str
    generation: int
    items: ReviewItemCounts
    sources: ReviewSources
    open_for_experts: int
    labels: int = Field(description="Settled items with a label; each is evidence once.")
    reviews: int = Field(description="Verdicts that hold, skips included.")
    reviewers: int
    quota: ReviewQuota
    evidence: LabelReport | None = Field(
        description="What the controller has made of the labels; null: judge_win_rate is no metric."
    )


class JudgeAgreement(BaseModel):
    """Agreement of judge and people; items weigh by how they were drawn."""

    segment: str | None = Field(description="Null: over all segments.")
    items: int
    observed: float | None = Field(description="Share on which both say the same.")
    cohen_kappa: float | None
    gwet_ac1: float | None
    confusion: dict[str, dict[str, int]] = Field(
        description="Items by the judge's and then the people's label: 0, 0.5, 1 (the candidate)."
    )


class PeopleAgreement(BaseModel):
    """Agreement among people on items that several have seen."""

    items: int
    krippendorff_alpha: float | None


class ScoreAgreement(BaseModel):
    """Whether the judge's scores rank pairs as people do."""

    items: int
    spearman: float | None


class HarmReport(BaseModel):
    """Harms that people marked (category safety, against the candidate or both)."""

    harms: int
    labels: int = Field(description="Of items drawn at random.")
    flagged_share: float = Field(description="Of all pairs, where the judge prefers the baseline.")
    upper: float = Field(description="95% upper bound on the share of pairs (Clopper-Pearson).")


class AgreementReport(BaseModel):
    """How far the judge can be trusted, and people agree."""

    name: str
    generation: int
    judge_and_people: list[JudgeAgreement] = Field(description="Over all first, then by segment.")
    people: PeopleAgreement
    scores: ScoreAgreement
    harms: HarmReport
