"""How a program under measurement is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Started"]


@dataclass(frozen=True, slots=True)
class Started:
    """How a subject is started on ``port``: its command, environment and request headers."""

    command: list[str]
    port: int
    environ: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
