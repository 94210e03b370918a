"""Deciding whether an answer declines, where the phrase rules are not sure."""

from __future__ import annotations

from shadow.refusal.deciding import Decider, Question, with_stances
from shadow.refusal.judged import JudgeDecider
from shadow.refusal.local import LocalDecider

__all__ = ["Decider", "JudgeDecider", "LocalDecider", "Question", "with_stances"]
