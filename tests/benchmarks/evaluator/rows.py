"""One measured figure of the evaluator's benchmark, as every measuring module returns it: pure.

A module has one function that measures, such as ``measure(*, quick: bool) -> list[Row]``; the
program prints the rows, writes them down, and ends with status 1 when a goal is missed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

__all__ = ["Row"]

_GOAL = re.compile(r"(<=|>=|<|>) ?(-?[0-9.]+)\Z")
_COMPARES = {"<": lt, "<=": le, ">": gt, ">=": ge}


@dataclass(frozen=True, slots=True)
class Row:
    """A figure in ``unit``, the median of ``rounds`` or the result of so many runs.

    ``goal`` is a comparison such as ``< 1`` or ``>= 0.94``, in the same unit; empty where there is
    none. ``spread`` is (largest - smallest) / median over the rounds, ``None`` for one. ``note``
    says in a few words what was measured. Raises ``ValueError`` for a goal that can't be read.
    """

    name: str
    value: float
    unit: str
    goal: str = ""
    rounds: int = 1
    spread: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.goal and _GOAL.match(self.goal) is None:
            raise ValueError(f"the goal {self.goal!r} is no comparison; write for example '< 1'")

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; ``None`` where there is none. Not a number meets no goal."""
        found = _GOAL.match(self.goal)
        if found is None:
            return None
        return bool(_COMPARES[found[1]](self.value, float(found[2])))

    def to_json(self) -> dict[str, Any]:
        """Return the row as it stands in the report."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "goal": self.goal or None,
            "met": self.met,
            "rounds": self.rounds,
            "spread": self.spread,
            "note": self.note,
        }
