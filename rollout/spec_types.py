"""Units and manners that all parts of the spec share."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.settings import parse_duration

__all__ = ["Duration", "Fraction", "Name", "Percent", "Probability", "Section"]


def _percent(value: Any) -> Any:
    """Read ``5``, ``2.5`` or ``"2%"`` as a number of percent."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%?\s*", value)
        if match is None:
            raise ValueError("is not a share; write percent, for example 5 or 2.5%")
        return float(match[1])
    if isinstance(value, bool):
        raise ValueError("is not a share; write percent, for example 5 or 2.5%")  # noqa: TRY004
    return value


def _fraction(value: Any) -> Any:
    """Read ``0.05`` or ``"5%"`` as a fraction."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", value)
        if match is None:
            raise ValueError("is not a fraction; write for example 0.05 or 5%")
        return float(match[1]) / 100 if match[2] else float(match[1])
    if isinstance(value, bool):
        raise ValueError("is not a fraction; write for example 0.05 or 5%")  # noqa: TRY004
    return value


Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, allow_inf_nan=False)]
Percent = Annotated[float, BeforeValidator(_percent), Field(ge=0, le=100, allow_inf_nan=False)]
Fraction = Annotated[float, BeforeValidator(_fraction), Field(ge=0, le=1, allow_inf_nan=False)]
Probability = Annotated[Fraction, Field(gt=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class Section(BaseModel):
    """A part of the spec: immutable, and a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
