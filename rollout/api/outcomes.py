"""Business outcomes: what applications know of a request later, such as a thumb or a ticket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    RootModel,
    model_validator,
)
from pydantic_core import CoreSchema

from gateway.errors import Conflict
from rollout.api.context import Context, Reviewer, Viewer, problems
from rollout.api.rollouts import Generation
from rollout.ledger import find
from rollout.outcomes import Outcome, count_outcomes, post_outcomes

__all__ = ["MAX_OUTCOMES", "OutcomePost", "OutcomeSummary", "OutcomesReceived", "router"]

router = APIRouter(prefix="/outcomes", tags=["outcomes"])

MAX_OUTCOMES = 1000
"""Most outcomes in one request."""

_NAMING = ("title", "description")


class OutcomePost(BaseModel):
    """What came of one request.

    Post it for every request of which it is known, failures and successes alike: a rate is
    compared, not a number. variant, reason and rollout make it count where the request was not
    captured; copy them from the response, for every request or for none.
    """

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(
        min_length=1,
        max_length=128,
        pattern=r"^[\x20-\x7e]+$",
        description="The response's x-request-id.",
    )
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
        description="What is said of it, as a spec's source.outcome names it; once a request.",
    )
    failure: bool = Field(strict=True, description="Whether it is a failure by that name.")
    at: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="When the request was made, in Unix seconds; unset: now. Used with rollout.",
    )
    value: float | None = Field(
        None, allow_inf_nan=False, description="A figure to keep with it; not used."
    )
    variant: Literal["baseline", "candidate"] | None = Field(
        None, description="The response's x-coalmine-variant; together with rollout."
    )
    reason: Literal["split", "forced", "fallback", "breaker", "ineligible", "default"] | None = (
        Field(
            None,
            description="The response's x-coalmine-reason; unset: split. Others than split and "
            "fallback (which is the candidate's) were not assigned by chance and are ignored.",
        )
    )
    rollout: str | None = Field(
        None,
        max_length=63,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="The response's x-coalmine-rollout; together with variant.",
    )

    @model_validator(mode="after")
    def _together(self) -> OutcomePost:
        if (self.variant is None) != (self.rollout is None):
            raise ValueError("variant and rollout go together; send both headers, or neither")
        return self

    def outcome(self) -> Outcome:
        """Return it as the store keeps it."""
        return Outcome(
            request_id=self.request_id,
            name=self.name,
            failure=int(self.failure),
            value=self.value,
            request_at=self.at,
            variant=self.variant,
            reason=self.reason,
            rollout=self.rollout,
        )


class OutcomePosts(RootModel[list[OutcomePost]]):
    """One outcome, or a list of them."""

    root: list[OutcomePost] = Field(min_length=1, max_length=MAX_OUTCOMES)

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, Mapping) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe both forms."""
        listed = handler.resolve_ref_schema(handler(schema))
        several = {key: value for key, value in listed.items() if key not in _NAMING}
        described: dict[str, Any] = {key: listed[key] for key in _NAMING if key in listed}
        listed.clear()
        listed.update({**described, "anyOf": [several["items"], several]})
        return listed


class RefusedOutcome(BaseModel):
    """An outcome that contradicts evidence, which does not change any more."""

    request_id: str
    name: str


class OutcomesReceived(BaseModel):
    """What became of the outcomes. They are joined with their requests within seconds."""

    received: int
    new: int
    known: int = Field(description="Posted before, with the same answer; they count once.")
    replaced: int = Field(description="Posted before, with another answer, and not evidence yet.")
    refused: list[RefusedOutcome] = Field(
        description="Posted before, with another answer, and evidence already: that stays."
    )


class OutcomeCountInfo(BaseModel):
    """Outcomes of one kind."""

    name: str
    variant: str | None = Field(description="The arm; null: not known yet.")
    state: Literal["pending", "joined", "ignored", "unmatched"] = Field(
        description="joined: it is evidence. unmatched: no request of that id was captured."
    )
    detail: str | None = Field(description="Why it is ignored or unmatched, in a word.")
    count: int
    failures: int = Field(description="How many of them are failures.")


class OutcomeSummary(BaseModel):
    """How many outcomes there are."""

    outcomes: list[OutcomeCountInfo]


@router.post("", status_code=202, responses=problems(400, 409, 413))
def post_outcome(api: Context, reviewer: Reviewer, body: OutcomePosts) -> OutcomesReceived:
    """Post what came of requests: one outcome, or a list of up to 1,000.

    An outcome is known by request and name. The same one twice counts once; another answer
    replaces the first until that is evidence. After that it is refused: with 409 where it was
    posted alone, under refused in a list, whose other outcomes count.
    """
    outcomes = [each.outcome() for each in body.root]
    received = post_outcomes(api.store, outcomes, by=reviewer.name, now=api.clock())
    if received.refused and len(outcomes) == 1:
        raise Conflict(
            f"{received.refused[0].name!r} of this request is evidence already, with the other "
            "answer; evidence does not change",
            field="failure",
        )
    return OutcomesReceived(
        received=len(outcomes),
        new=received.new,
        known=received.known,
        replaced=received.replaced,
        refused=[
            RefusedOutcome(request_id=each.request_id, name=each.name) for each in received.refused
        ],
    )


@router.get("/summary", responses=problems(404))
def summarise_outcomes(
    api: Context,
    _: Viewer,
    *,
    rollout: Annotated[str | None, Query(description="Only this rollout's.")] = None,
    generation: Generation = None,
) -> OutcomeSummary:
    """Count outcomes by name, variant, state and why: all, or those of one rollout."""
    with api.store.read() as session:
        if rollout is None:
            counts = count_outcomes(session)
        else:
            record = find(session, rollout, generation=generation)
            counts = count_outcomes(session, rollout_id=record.id, rollout=record.name)
    found = [OutcomeCountInfo.model_validate(each, from_attributes=True) for each in counts]
    return OutcomeSummary(outcomes=found)
