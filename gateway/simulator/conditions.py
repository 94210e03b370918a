"""When a simulated model behaves otherwise: what a request is like, and how busy its model is."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["Circumstances", "Override", "Section", "When"]


class Section(BaseModel):
    """A part of the file: unknown names are errors, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Circumstances(Section):
    """What a request looks like from outside, and how busy its model is when it arrives."""

    stream: bool = False
    tools: bool = False
    in_flight: int = 0
    requests: int = 0
    headers: dict[str, str] = {}


class When(Section):
    """Conditions of an override; all that are given must hold."""

    stream: bool | None = Field(None, description="The request asks for a stream, or does not.")
    tools: bool | None = Field(None, description="The request offers tools, or does not.")
    in_flight_above: int | None = Field(
        None, ge=0, description="More requests than this are in work at this model, this one too."
    )
    requests_above: int | None = Field(
        None, ge=0, description="The model has been asked more often than this since the start."
    )
    header: dict[str, str] = Field(
        default_factory=dict, description="Header values that must be present; * means any."
    )

    @field_validator("header")
    @classmethod
    def _lower(cls, value: dict[str, str]) -> dict[str, str]:
        return {name.lower(): text for name, text in value.items()}

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("names no condition; leave the override out and set the values above")
        return self

    def holds(self, at: Circumstances) -> bool:
        """Tell whether every given condition holds."""
        if self.stream is not None and self.stream != at.stream:
            return False
        if self.tools is not None and self.tools != at.tools:
            return False
        if self.in_flight_above is not None and at.in_flight <= self.in_flight_above:
            return False
        if self.requests_above is not None and at.requests <= self.requests_above:
            return False
        return all(
            name in at.headers and text in {"*", at.headers[name]}
            for name, text in self.header.items()
        )


class Override(Section):
    """Other values for some fields while a condition holds; later overrides win."""

    when: When
    values: dict[str, Any] = Field(alias="set", min_length=1, description="Fields and values.")
