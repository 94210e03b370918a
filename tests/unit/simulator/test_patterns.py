"""Texts for regular expressions."""

from __future__ import annotations

import re

import pytest

from gateway.simulator.patterns import sample


@pytest.mark.parametrize(
    "pattern",
    [
        "^[A-Z]{2}[0-9]{2}[A-Z0-9]{8,30}$",
        r"^\d{4}-\d{2}(-\d{2})?$",
        "^(red|green|blue)$",
        "^(?:a|b)+c*d?$",
        r"^\+?[1-9]\d{6,14}$",
        "^[^@ ]+@[^@ ]+\\.[a-z]{2,}$",
        r"^v\d+\.\d+\.\d+$",
        "^[\\w.-]{3,}$",
        "urgent",
        "^$",
        "^(?P<code>[]x]{2})$",
        "^(?:[a-f0-9]{2}:){5}[a-f0-9]{2}$",
    ],
)
def test_a_sample_matches(pattern: str) -> None:
    """The text made for a pattern is found by it."""
    text = sample(pattern)
    assert text is not None
    assert re.search(pattern, text)


@pytest.mark.parametrize("pattern", ["(", "[", "^a(?=b)c$", "(?P=x)", "\\", "a{99999999}"])
def test_what_can_not_be_made_is_none(pattern: str) -> None:
    """Broken and unsupported patterns give no text, and no error or endless work either."""
    assert sample(pattern) is None
