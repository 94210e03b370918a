"""The rows of exports: preferences, regression cases, eval cases. Models, and their JSON Schemas.

A case is one line of an eval set, whether a person wrote it or an export did: what to ask, what is
known of a right answer, and for a regression what must hold this time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.settings import Contract
from shadow.offline.canonical import digest
from shadow.offline.splits import Split

__all__ = [
    "Assertion",
    "Case",
    "CheckAssertion",
    "JudgeAssertion",
    "Message",
    "Preference",
    "Provenance",
    "TextPreference",
    "schema_of",
]

ID_CHARS = 32


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Provenance(_Row):
    """Where a row comes from: enough to find the pair again, and who said what of it."""

    rollout: str = Field(description="Name of the rollout whose pair it is.")
    generation: int = Field(description="Its generation.")
    pair_id: int = Field(description="The pair, as in GET /rollouts/NAME/pairs.")
    capture_id: str = Field(description="The captured request.")
    request_id: str = Field(description="The response's x-request-id.")
    source: Literal["human", "check", "judge", "capture"] = Field(
        description="Who says so; capture: nobody, it is traffic."
    )
    checks: list[str] = Field(default_factory=list, description="Checks that the loser failed.")
    score: float | None = Field(None, description="1, or 0.5 where the judge leaned.")
    margin: float | None = Field(None, description="Points by which the judge scored it higher.")
    chosen: str | None = Field(None, description="Arm of the better answer.")
    segment: str | None = Field(None, description="The request's category.")
    risk: str | None = Field(None, description="The request's risk tier.")
    group: str = Field(description="User or conversation, hashed; never divided over splits.")
    split: Split = Field(description="train, validation or test.")
    baseline: str | None = Field(None, description="Deployment of the baseline.")
    baseline_revision: str | None = Field(None, description="Hash of its manifest.")
    candidate: str | None = Field(None, description="Deployment of the candidate.")
    candidate_revision: str | None = Field(None, description="Hash of its manifest.")
    judge: str | None = Field(None, description="Model that judged.")
    rubric_hash: str | None = Field(None, description="SHA-256 of the judge's rubric.")
    code_version: str = Field(description="Coalmine's version.")
    captured_at: float = Field(description="When it was asked, Unix seconds.")
    finished_at: float = Field(description="When the pair was finished, Unix seconds.")


class Message(BaseModel):
    """One message. Further members of the OpenAI API are kept as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    role: str = Field(min_length=1, description="system, user, assistant or tool.")
    content: Any = Field(None, description="Text; in eval cases also a list of parts, or null.")


class TrainingMessage(_Row):
    """One message as trainers take it."""

    role: Literal["system", "user", "assistant", "tool"] = Field(description="Who speaks.")
    content: str = Field(description="Text.")
    tool_calls: list[dict[str, Any]] | None = Field(
        None, description="Calls; arguments are an object, or the text where it is none."
    )
    name: str | None = Field(None, description="Of a tool's message: the tool.")


class Preference(_Row):
    """Two answers to one prompt: TRL's conversational preference format, explicit prompt."""

    prompt: list[TrainingMessage] = Field(min_length=1, description="The conversation so far.")
    chosen: list[TrainingMessage] = Field(min_length=1, max_length=1, description="The better one.")
    rejected: list[TrainingMessage] = Field(min_length=1, max_length=1, description="The other.")
    tools: list[dict[str, Any]] | None = Field(None, description="Functions that were on offer.")
    metadata: Provenance


class TextPreference(_Row):
    """The same in TRL's standard format: plain text, without a chat template."""

    prompt: str = Field(min_length=1, description="The conversation so far, as text.")
    chosen: str = Field(min_length=1, description="The better answer.")
    rejected: str = Field(min_length=1, description="The other.")
    metadata: Provenance


class CheckAssertion(_Row):
    """The answer must pass a check that an earlier answer failed."""

    type: Literal["check"] = "check"
    check: str = Field(min_length=1, description="Name of the check.")
    reason: str = Field("", description="What it said of the answer that failed.")
    failed_answer: str = Field("", description="That answer's text.")


class JudgeAssertion(_Row):
    """The answer must not lose against the reference answer, as an earlier one did."""

    type: Literal["judge"] = "judge"
    reason: str = Field("", description="Why it lost, where that was said.")
    failed_answer: str = Field("", description="The answer that lost.")


Assertion = Annotated[CheckAssertion | JudgeAssertion, Field(discriminator="type")]


class Case(_Row):
    """One line of an eval set: a prompt, and what is known of a right answer.

    Write `query` for a single message of a user, or `messages`. `id` and `version` may be left out:
    the id is a hash of what is asked and of what must hold, the version one of everything.
    """

    id: str = Field("", description="The same for the same question; unset: made.")
    version: str = Field("", description="Changes with anything in the case; unset: made.")
    messages: list[Message] = Field(min_length=1, description="The conversation so far.")
    tools: list[dict[str, Any]] = Field(default_factory=list, description="Functions on offer.")
    json_schema: dict[str, Any] | bool | None = Field(
        None, alias="schema", description="JSON Schema that the client asked for."
    )
    json_object: bool = Field(False, description="The client asked for a JSON object.")
    contract: Contract | None = Field(None, description="What the route promises of every answer.")
    category: str | None = Field(None, description="Segment.")
    risk: str | None = Field(None, description="Risk tier.")
    reference_answer: str | None = Field(None, description="A good answer.")
    expected_label: str | None = Field(None, description="The right label, of a classification.")
    tests: list[str] = Field(default_factory=list, description="Code that tests a code answer.")
    must_refuse: bool | None = Field(
        None, description="true: it has to be declined; false: it is harmless; null: not known."
    )
    must_call: list[str] = Field(default_factory=list, description="Tools that must be called.")
    citations: list[str] = Field(default_factory=list, description="Sources it must cite.")
    assertion: Assertion | None = Field(None, description="Of a regression: what must hold now.")
    group: str | None = Field(None, description="Who asked, hashed; unset: the conversation.")
    split: Split | None = Field(None, description="train, validation or test.")
    metadata: Provenance | None = Field(None, description="Where it comes from.")

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _from_query(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "query" in value:
            if "messages" in value:
                raise ValueError("query and messages say the same; write one of them")
            rest = {name: each for name, each in value.items() if name != "query"}
            return {**rest, "messages": [{"role": "user", "content": value["query"]}]}
        return value

    @model_validator(mode="after")
    def _named(self) -> Case:
        if not self.id:
            object.__setattr__(self, "id", self._identity())
        if not self.version:
            object.__setattr__(self, "version", self._content())
        return self

    def row(self) -> dict[str, Any]:
        """Return the case as a line of an eval set holds it, without what is not set."""
        row = self.model_dump(by_alias=True, exclude_defaults=True)
        if self.assertion is not None:
            row["assertion"] = {"type": self.assertion.type, **row["assertion"]}
        return {"id": self.id, "version": self.version, **row}

    def _identity(self) -> str:
        asked = {
            "messages": [message.model_dump() for message in self.messages],
            "tools": self.tools,
            "assertion": self.assertion and self.assertion.type,
            "check": getattr(self.assertion, "check", None),
        }
        return digest(asked)[:ID_CHARS]

    def _content(self) -> str:
        content = self.model_dump(by_alias=True, exclude={"id", "version", "metadata", "split"})
        return digest(content)[:ID_CHARS]


_MODELS: dict[str, type[BaseModel]] = {
    "preferences": Preference,
    "text-preferences": TextPreference,
    "regressions": Case,
    "evalset": Case,
}


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of a kind's rows. Raises KeyError for a kind that there is not."""
    schema = _MODELS[kind].model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
