"""Settings of what is kept of requests and answers, and for how long."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from gateway.redaction.custom import check_pattern

__all__ = [
    "CustomRule",
    "PresidioSettings",
    "RedactionRules",
    "RedactionSettings",
    "RetentionSettings",
    "RouteRedaction",
]

_DAY = 86400.0
_MAX_CUSTOM = 50


def _seconds(value: Any) -> Any:
    from gateway.settings import parse_duration  # the settings as a whole import this module

    return parse_duration(value)


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RedactionRules(_Section):
    """The rules that come with Coalmine."""

    private_key: bool = Field(True, description="PEM private keys.")
    jwt: bool = Field(True, description="JSON web tokens.")
    secret: bool = Field(
        True, description="API keys (sk-, AKIA, ghp_, xox, ...), bearer tokens and passwords."
    )
    iban: bool = Field(True, description="Bank accounts (IBAN, by their checksum).")
    card: bool = Field(True, description="Payment cards (by prefix, length and checksum).")
    email: bool = Field(True, description="E-mail addresses.")
    phone: bool = Field(True, description="Phone numbers, international and national.")
    user: bool = Field(True, description="What a request names as user or safety_identifier.")


class CustomRule(_Section):
    """A rule of one's own: a name, and a regular expression whose matches are replaced."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,31}$",
        description="Its name; EMPLOYEE for employee in the placeholder [EMPLOYEE_1].",
    )
    pattern: str = Field(
        min_length=1, description="Regular expression (Python); bounded, see the README."
    )

    @field_validator("pattern")
    @classmethod
    def _bounded(cls, value: str) -> str:
        check_pattern(value)
        return value


class PresidioSettings(_Section):
    """Microsoft Presidio, for names and places; it needs `pip install 'coalmine[presidio]'`."""

    entities: tuple[str, ...] = Field(
        ("PERSON", "LOCATION"), min_length=1, description="Entities that are replaced."
    )
    language: str = Field("en", description="Language of the texts, as Presidio names it.")
    model: str = Field(
        "en_core_web_lg", description="spaCy model that it reads with: installed, or a folder."
    )
    min_score: float = Field(0.6, ge=0, le=1, description="Least certainty that counts.")


class RouteRedaction(_Section):
    """What a route redacts otherwise than all."""

    rules: RedactionRules | None = Field(None, description="Instead of those for all routes.")
    custom: tuple[CustomRule, ...] | None = Field(
        None, description="Instead of those for all routes."
    )
    on_match: Literal["redact", "withhold"] | None = Field(
        None, description="Instead of that for all routes."
    )


class RedactionSettings(_Section):
    """What is replaced in captures before anything is stored, mirrored, judged or exported."""

    rules: RedactionRules = Field(
        default_factory=RedactionRules, description="Which of the rules that come along apply."
    )
    custom: tuple[CustomRule, ...] = Field(
        (), max_length=_MAX_CUSTOM, description="Rules of one's own."
    )
    on_match: Literal["redact", "withhold"] = Field(
        "redact", description="What a match does: it is replaced, or the capture is withheld."
    )
    presidio: PresidioSettings | None = Field(
        None, description="Names and places by Presidio; unset: not used. Milliseconds a text."
    )

    @model_validator(mode="after")
    def _names_apart(self) -> RedactionSettings:
        _check_names(self.custom)
        return self

    def for_route(self, route: RouteRedaction | None) -> RedactionSettings:
        """Return what applies to a route."""
        if route is None:
            return self
        changed = {name: value for name in RouteRedaction.model_fields
                   if (value := getattr(route, name)) is not None}  # fmt: skip
        _check_names(changed.get("custom", ()))
        return self.model_copy(update=changed)


def _check_names(custom: tuple[CustomRule, ...]) -> None:
    seen = set(RedactionRules.model_fields)
    for rule in custom:
        if rule.name in seen:
            raise ValueError(f"two rules are called {rule.name!r}; give each a name of its own")
        seen.add(rule.name)


class RetentionSettings(_Section):
    """How long captures and what came of them are kept."""

    bodies: Duration = Field(
        30 * _DAY, description="Seconds that requests, answers and judges' words are kept."
    )
    captures: Duration = Field(
        90 * _DAY, description="Seconds that captures are kept, with pairs, judgments and reviews."
    )
    judge_cache: Duration = Field(
        90 * _DAY, description="Seconds that a judge's verdict is kept to be used again."
    )
    evidence: Duration | None = Field(
        None,
        description="Seconds after a rollout's end that its evidence (numbers, no text) is kept; "
        "unset: for ever. Without it receipts can't be replayed.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> RetentionSettings:
        if self.bodies > self.captures:
            raise ValueError("bodies: is longer than captures; a body ends with its capture")
        return self
