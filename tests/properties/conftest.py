"""Hypothesis draws the same examples on every run and machine, and never against the clock."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("coalmine", deadline=None, derandomize=True)
settings.load_profile("coalmine")
