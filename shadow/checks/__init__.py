"""The checks: hard facts about answers, one file and one pure function each."""

from __future__ import annotations

from shadow.checks.registry import CHECKS, HARD, Check, run_checks
from shadow.checks.result import CheckResult, Finding

__all__ = ["CHECKS", "HARD", "Check", "CheckResult", "Finding", "run_checks"]
