"""How values are written in the settings: sizes, durations, ports and names.

Apart from the settings themselves, so that a section can live in a module of its own.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["ByteSize", "Duration", "Name", "Port", "Section", "parse_bytes", "parse_duration"]

_SIZES = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3}
_SIZES |= {"kib": 1024, "mib": 1024**2, "gib": 1024**3}
_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_bytes(value: Any) -> Any:
    """Turn ``16MiB``, ``4kB`` or a number into bytes. Raises ``ValueError`` for anything else."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
    if match is None or match[2].lower() not in _SIZES:
        raise ValueError("is not a size; write a number of bytes, or for example 512KiB or 16MiB")
    return int(float(match[1]) * _SIZES[match[2].lower()])


def parse_duration(value: Any) -> Any:
    """Turn ``250ms``, ``30s``, ``15m``, ``6h``, ``1d``, ``1h30m`` or a number into seconds."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", text)
    if not parts or re.sub(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", "", text):
        raise ValueError("is not a duration; write seconds, or for example 250ms, 30s, 15m or 6h")
    return sum(float(number) * _DURATIONS[unit] for number, unit in parts)


ByteSize = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]
Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
Port = Annotated[int, Field(ge=0, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$")]


class Section(BaseModel):
    """A group of settings: unknown names are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
