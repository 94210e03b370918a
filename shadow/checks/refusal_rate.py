"""Whether the model declined to answer."""

from __future__ import annotations

from typing import Literal

from shadow.answer import Choice, visible
from shadow.checks.format_valid import worst
from shadow.checks.refusal_phrases import (
    CAPABILITY,
    CLARIFIES,
    HINTS,
    NOT_A_REFUSAL,
    REFUSES,
)
from shadow.checks.result import CheckResult, Finding, both
from shadow.pair import Arm, Pair

NAME = "refusal_rate"

Stance = Literal["complied", "partial", "refused", "capability_limit", "clarifies", "empty"]

_OPENING_CHARS = 320
"""A refusal is announced at the start; a phrase deep in a long answer is part of its content."""

_LONG_ANSWER_CHARS = 900
"""An answer this long that opens with a refusal goes on to help."""


def check(pair: Pair) -> CheckResult:
    """Fail where the model refused: `message.refusal`, `content_filter`, or a refusing phrase.

    Phrases are known in English, German, French, Spanish, Italian, Portuguese, Dutch, Polish,
    Russian, Chinese, Japanese and Korean. "I'm sorry to hear that" is sympathy, "I can't open
    links" a limit of ability and "could you tell me which order" a question: all three pass, with
    a flag. Does not catch: whether the refusal was right, evasive answers that never decline, and
    other languages.
    """

    def examine(arm: Arm) -> Finding:
        return worst([_examine(choice) for choice in arm.answer.choices])

    return both(NAME, pair, examine)


def _examine(choice: Choice) -> Finding:
    if choice.refusal:
        return Finding("fail", "message.refusal is set")
    if choice.finish_reason == "content_filter":
        return Finding("fail", "finish_reason is content_filter")
    if choice.tool_calls:
        return Finding("pass", "called a tool")
    found = stance(choice.text)
    if found == "empty":
        return Finding("not_applicable", "empty")
    if found == "refused":
        return Finding("fail", "a refusing phrase")
    return Finding("pass", flags=() if found == "complied" else (found,))


def stance(text: str) -> Stance:
    """Classify an answer by phrase rules: what it does with the request that it was given."""
    shown = visible(text).replace("\u2019", "'").replace("\u2018", "'")
    if not shown:
        return "empty"
    opening = shown[:_OPENING_CHARS].lower()
    if any(hint in opening for hint in HINTS):
        opening = NOT_A_REFUSAL.sub(" ", opening)
        if CAPABILITY.search(opening):
            return "capability_limit"
        if REFUSES.search(opening):
            return "partial" if len(shown) > _LONG_ANSWER_CHARS else "refused"
    if shown.endswith(("?", "\uff1f")) and CLARIFIES.search(shown.lower()):
        return "clarifies"
    return "complied"
