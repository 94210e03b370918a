"""Where a metric of the user's own comes from: posted business outcomes, or Prometheus."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, model_validator

from rollout.spec_types import Section

__all__ = ["PLACEHOLDERS", "MetricSource", "PrometheusSource"]

PLACEHOLDERS = ("variant", "deployment", "route", "rollout")
"""What a query may name with a dollar sign: replaced for each arm before Prometheus is asked."""

_ARMS = ("variant", "deployment")
_QUERIES = ("requests", "failures", "query")

Query = Annotated[str, Field(min_length=1, max_length=4000)]


class PrometheusSource(Section):
    """Two counters that are compared between the arms, or one value that has a limit."""

    requests: Query | None = Field(
        None, description="Counter of an arm's requests; $variant or $deployment names the arm."
    )
    failures: Query | None = Field(
        None, description="Counter of those that failed, with the same $variant or $deployment."
    )
    query: Query | None = Field(None, description="One value that must stay within max and min.")
    max: float | None = Field(None, allow_inf_nan=False, description="query: breached above this.")
    min: float | None = Field(None, allow_inf_nan=False, description="query: breached below this.")

    @model_validator(mode="after")
    def _one_form(self) -> PrometheusSource:
        if self.query is None:
            for name in ("requests", "failures"):
                if getattr(self, name) is None:
                    raise ValueError(
                        f"{name}: is missing; give both counters, requests and failures, or a "
                        "query with max or min"
                    )
            if self.max is not None or self.min is not None:
                raise ValueError("max and min are limits of a query; counters are compared")
        elif self.requests is not None or self.failures is not None:
            raise ValueError("query: give either a query, or requests and failures")
        elif self.max is None and self.min is None:
            raise ValueError("max: is missing; a query needs a limit, max or min")
        elif self.max is not None and self.min is not None and self.min > self.max:
            raise ValueError(f"min: is {self.min:g} and above max, {self.max:g}")
        for name in _QUERIES:
            self._check_placeholders(name)
        return self

    def _check_placeholders(self, name: str) -> None:
        text = getattr(self, name)
        if text is None:
            return
        named = re.findall(r"\$(\w+)", text)
        unknown = next((each for each in named if each not in PLACEHOLDERS), None)
        if unknown is not None:
            known = ", ".join(f"${each}" for each in PLACEHOLDERS)
            raise ValueError(f"{name}: knows no ${unknown}; known are {known}")
        if name != "query" and not any(each in _ARMS for each in named):
            raise ValueError(f"{name}: counts both arms as one; name $variant or $deployment in it")

    def breached(self, value: float) -> bool:
        """Say whether a value of ``query`` is beyond its limits; what is no number always is."""
        inside = (self.max is None or value <= self.max) and (self.min is None or value >= self.min)
        return not inside  # NaN is inside of nothing


class MetricSource(Section):
    """Exactly one place that a metric of the user's own is read from."""

    outcome: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")] | None = Field(
        None, description="Name of the business outcome that is posted to /api/v1/outcomes."
    )
    prometheus: PrometheusSource | None = Field(
        None, description="Counters to compare, or a value with a limit."
    )

    @model_validator(mode="after")
    def _one(self) -> MetricSource:
        if (self.outcome is None) == (self.prometheus is None):
            raise ValueError("a source is exactly one of: outcome, prometheus")
        return self
