"""The judge: which of two answers serves the user better, asked in both orders."""

from __future__ import annotations

from shadow.judge.judge import Judge, Judged, Judgment
from shadow.judge.validate import refuse_self_judging

__all__ = ["Judge", "Judged", "Judgment", "refuse_self_judging"]
