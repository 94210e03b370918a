"""Rules of one's own: which are accepted, and that none takes for ever."""

from __future__ import annotations

import itertools
import re

import pytest
from pydantic import ValidationError

from gateway.redaction.bodies import Redactor
from gateway.redaction.custom import WINDOW, check_pattern, windows
from gateway.redaction.text import MAX_CUSTOM_S, Withheld
from gateway.settings import Settings
from gateway.settings_privacy import RedactionSettings


def custom(*rules: tuple[str, str], **more: object) -> RedactionSettings:
    """Build settings with these rules."""
    listed = [{"name": name, "pattern": pattern} for name, pattern in rules]
    return RedactionSettings.model_validate({"custom": listed, **more})


@pytest.mark.parametrize(
    "pattern",
    [
        r"EMP-\d+",
        r"\bKD[0-9]{4,8}\b",
        r"(?i:project (?:falcon|heron))",
        r"[A-Z]{2}\d{3}-[a-z]{1,9}",
    ],
)
def test_bounded_expressions_are_accepted(pattern: str) -> None:
    """Whoever knows what their identifiers look like can write them down."""
    assert isinstance(check_pattern(pattern), re.Pattern)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"(a+)+b", "repeats a repeat"),
        (r"(?:a?){50}a{50}", "repeats a repeat"),
        (r"(?:a|a)*b", "too long"),
        (r"\w+\d+x", "too long"),
        (r".*.*x", "too long"),
        (r"(a)\1", "refers back"),
        (r"(?=x)x", "looks ahead"),
        (r"(?<!x)y", "looks ahead or behind"),
        (r"(", "is no regular expression"),
        (r"x*", "matches nothing"),
        ("x" * 301, "longer than"),
    ],
)
def test_expressions_that_could_take_for_ever_are_refused(pattern: str, said: str) -> None:
    """The error says what is wrong with it."""
    with pytest.raises(ValueError, match=said):
        check_pattern(pattern)


def test_the_settings_name_the_wrong_rule() -> None:
    """Names are placeholders' names, and no two are the same."""
    with pytest.raises(ValidationError, match="two rules are called 'email'"):
        custom(("email", "x"))
    with pytest.raises(ValidationError, match=r"custom\.0\.pattern"):
        custom(("mine", "(a+)+"))
    routes = {"bot": {"baseline": "b", "redaction": {"custom": [{"name": "jwt", "pattern": "x"}]}}}
    deployments = {"b": {"base_url": "http://127.0.0.1:1/v1", "model": "b"}}
    with pytest.raises(ValidationError, match=r"routes\.bot\.redaction\.custom: two rules"):
        Settings.model_validate({"deployments": deployments, "routes": routes})


def test_matches_are_replaced_wherever_they_stand() -> None:
    """In small windows over a long text, none is missed at an edge."""
    redactor = Redactor(custom(("employee", r"EMP-\d{6}")), clock=lambda: 0.0)
    for before in range(WINDOW - 20, WINDOW + 20):
        text = "x " * (before // 2) + " " * (before % 2) + "EMP-123456 end"
        assert "EMP" not in redactor.text(text)[0].replace("[EMPLOYEE_1]", "")


def test_the_work_is_linear_in_the_text() -> None:
    """A window is looked at for every half of its length, whatever the text."""
    pattern = check_pattern(r"a{1,20}b")
    for size in (1_000, 10_000):
        steps = sum(1 for step in windows(pattern, "a" * size) if step is None)
        assert steps <= 2 * size / WINDOW + 2


def test_a_capture_that_takes_too_long_is_withheld() -> None:
    """The clock is looked at after every window, so that it ends soon after its time is up."""
    ticks = itertools.count()
    asked: list[int] = []

    def clock() -> float:
        asked.append(next(ticks))
        return asked[-1] * MAX_CUSTOM_S / 10

    redactor = Redactor(custom(("mine", r"q\d+")), clock=clock)
    with pytest.raises(Withheld, match="too_slow"):
        redactor.capture(b'{"a": "%b"}' % (b"word " * 20_000), b"{}", b"", limit=10)
    assert len(asked) < 20


def test_a_route_has_its_own() -> None:
    """What a route says replaces what is said for all; the rest stays."""
    settings = Settings.model_validate(
        {
            "deployments": {"b": {"base_url": "http://127.0.0.1:1/v1", "model": "b"}},
            "routes": {
                "bot": {"baseline": "b", "redaction": {"on_match": "withhold"}},
                "raw": {"baseline": "b", "redaction": {"rules": {"email": False}}},
            },
            "redaction": {"custom": [{"name": "mine", "pattern": "M-1"}]},
        }
    )
    bot = settings.redaction.for_route(settings.routes["bot"].redaction)
    raw = settings.redaction.for_route(settings.routes["raw"].redaction)
    assert (bot.on_match, bot.rules.email, len(bot.custom)) == ("withhold", True, 1)
    assert (raw.on_match, raw.rules.email, raw.rules.phone) == ("redact", False, True)
