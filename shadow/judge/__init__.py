"""The judge: which of two answers serves the user better, in both orders, in one stage or two."""

from __future__ import annotations

from shadow.judge.cascade import Cascade, Escalation
from shadow.judge.judge import Judge
from shadow.judge.outcome import Comparer, Judged, Judgment, Situation
from shadow.judge.validate import refuse_self_judging

__all__ = [
    "Cascade",
    "Comparer",
    "Escalation",
    "Judge",
    "Judged",
    "Judgment",
    "Situation",
    "refuse_self_judging",
]
