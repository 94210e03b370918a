"""The measurement of what redaction costs: that it measures what it says."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from gateway.redaction.bodies import Redactor
from gateway.settings_privacy import RedactionSettings

Load = Callable[[str], ModuleType]


def test_it_measures_captures_with_and_without_something_to_replace(evaluator: Load) -> None:
    """Every figure is a time, and the ones with a goal are those that hold nothing."""
    rows = evaluator("redaction_cost").measure(quick=True)
    assert all(row.value > 0 for row in rows)
    assert [row.goal for row in rows] == ["< 1000", "< 1000", "", "", ""]


@pytest.mark.parametrize("personal", [False, True])
def test_its_captures_hold_what_is_said(evaluator: Load, personal: bool) -> None:
    """Three values in the request and the same in the answer, or none at all."""
    module = evaluator("redaction_cost")
    extra = module._PERSONAL if personal else ""
    redactor = Redactor(RedactionSettings(), clock=lambda: 0.0)
    for answer in (module._document(extra), module._stream(extra)):
        found = redactor.capture(module._request(extra), answer, b"", limit=10).found
        assert found.total() == (6 if personal else 0)
