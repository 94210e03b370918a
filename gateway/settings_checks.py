"""What a route promises of its answers: its contract, and the failures that must not come back."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from gateway.settings_local import LocalModelSettings
from gateway.settings_values import Section

__all__ = [
    "Contract",
    "Escalation",
    "KnownFailure",
    "KnownFailures",
    "Must",
    "RefusalSettings",
    "must_refuse_source",
]

Phrase = Annotated[str, Field(min_length=1, max_length=2000)]

MUST_REFUSE = r"always|never|(segment|risk):\S{1,100}|(body:)?metadata\.[\w.-]+|body:[\w.-]+"
"""Where it stands whether a request must be refused: the form of `routes.NAME.must_refuse`."""


class Escalation(Section):
    """How an answer of a route hands the conversation over to a person."""

    tool: str | None = Field(None, min_length=1, description="Tool whose call hands over.")
    phrases: tuple[Annotated[str, Field(min_length=3)], ...] = Field(
        (), description="Sentences that hand over; upper and lower case and spaces do not matter."
    )

    @model_validator(mode="after")
    def _something(self) -> Escalation:
        if self.tool is None and not self.phrases:
            raise ValueError("says nothing; name a tool, or phrases, or leave it out")
        return self


class Contract(Section):
    """What every answer of a route must satisfy."""

    json_schema: dict[str, Any] | None = Field(
        None, description="JSON Schema of the whole answer; a path to a file, or the schema."
    )
    json_object: bool = Field(False, description="The whole answer is a JSON object.")
    xml: bool = Field(False, description="The whole answer is one well-formed XML element.")
    xml_root: str | None = Field(
        None, pattern=r"^[A-Za-z_][\w.:-]{0,127}$", description="The name of that element."
    )
    regex: str | None = Field(None, description="Regular expression that the answer matches.")
    max_words: int | None = Field(None, ge=1, description="Most words in an answer.")
    min_words: int | None = Field(None, ge=1, description="Fewest words in an answer.")
    numbered_list: bool = Field(
        False, description="The answer holds one list, numbered 1, 2, 3 … without a gap."
    )
    min_items: int | None = Field(None, ge=1, description="Fewest items of that list.")
    max_items: int | None = Field(None, ge=1, description="Most items of that list.")
    required_text: str | None = Field(None, description="A sentence that every answer contains.")
    language: str | None = Field(
        None,
        pattern=r"^([a-z]{2}|request)$",
        description="Language of the answers (ISO 639-1), or request: that of the last message. "
        "Needs the extra `language`; without it nothing is judged.",
    )
    escalation: Escalation | None = Field(
        None,
        description="How an answer hands over to a person; unset: a set of common sentences.",
    )

    @model_validator(mode="after")
    def _possible(self) -> Contract:
        for low, high in (("min_words", "max_words"), ("min_items", "max_items")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{low} is {least} and above {high}, {most}; no answer fits")
        if (self.min_items or self.max_items) and not self.numbered_list:
            raise ValueError("min_items and max_items need numbered_list: true")
        if self.xml_root and not self.xml:
            raise ValueError("xml_root needs xml: true")
        if self.xml and (self.json_object or self.json_schema is not None):
            raise ValueError("xml and JSON are declared at once; no answer is both")
        return self


class Must(Section):
    """What the answer to a known request must satisfy so that the failure is not back."""

    contains: tuple[Phrase, ...] = Field((), description="Words that the answer contains.")
    excludes: tuple[Phrase, ...] = Field((), description="Words that it does not contain.")
    regex: str | None = Field(None, description="Regular expression that it matches.")
    refuses: bool | None = Field(None, description="true: it declines; false: it does not.")
    calls: str | None = Field(None, min_length=1, description="Tool that it calls.")
    calls_not: str | None = Field(None, min_length=1, description="Tool that it does not call.")

    @model_validator(mode="after")
    def _something(self) -> Must:
        if self == Must.model_construct():
            raise ValueError("asserts nothing; give contains, excludes, regex, refuses or calls")
        return self


class KnownFailure(Section):
    """A request that once was answered badly, and what its answer must satisfy since then."""

    number: int = Field(ge=1, description="1, 2, 3 …; a case never leaves the file.")
    version: int = Field(1, ge=1, description="Raised when what must hold is changed.")
    title: str = Field(min_length=1, max_length=200, description="What went wrong, in a line.")
    fingerprint: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="Of the request, as GET /rollouts/NAME/pairs shows it; or ...",
    )
    messages: tuple[dict[str, Any], ...] | None = Field(
        None, description="... the request's messages themselves."
    )
    must: Must = Field(description="What the answer must satisfy.")

    @model_validator(mode="after")
    def _one_request(self) -> KnownFailure:
        if (self.fingerprint is None) == (not self.messages):
            raise ValueError(f"case {self.number}: give either fingerprint or messages")
        return self


class KnownFailures(Section):
    """A route's past failures; they never leave the suite."""

    cases: tuple[KnownFailure, ...] = Field((), description="Past failures, by number.")

    @field_validator("cases")
    @classmethod
    def _without_gaps(cls, value: tuple[KnownFailure, ...]) -> tuple[KnownFailure, ...]:
        for wanted, case in enumerate(value, start=1):
            if case.number != wanted:
                raise ValueError(
                    f"case {wanted} is missing: known failures never leave the suite; put it back"
                )
        return value


class RefusalSettings(Section):
    """Who decides where the phrase rules are not sure whether an answer declines."""

    decider: Literal["rules", "judge", "local"] = Field(
        "rules", description="The rules alone, the judge's deployment, or a local classifier."
    )
    local: LocalModelSettings | None = Field(
        None, description="decider local: the classifier; needs the extra `models`."
    )
    labels: tuple[str, ...] = Field(
        ("refusal", "refused", "rejection", "LABEL_1"),
        min_length=1,
        description="local: those of its labels that mean that an answer declines.",
    )
    threshold: float = Field(
        0.5, gt=0, lt=1, description="local: probability of those labels from which on it does."
    )

    @model_validator(mode="after")
    def _one_model(self) -> RefusalSettings:
        if (self.decider == "local") != (self.local is not None):
            raise ValueError("refusal.local: belongs to decider: local, and is needed there")
        return self


def must_refuse_source(value: str | None) -> str | None:
    """Return a `must_refuse` that is well formed. Raises `ValueError`."""
    if value is not None and not re.fullmatch(MUST_REFUSE, value):
        raise ValueError(
            "says not where that stands; write metadata.KEY, body:PATH, segment:VALUE, risk:VALUE, "
            "always or never (of a header: declare it as the segment)"
        )
    return value
