"""How long the answer is, by one ruler for both arms."""

from __future__ import annotations

import re

from shadow.answer import Answer
from shadow.checks.kinds import LONG_CHARS, count_pieces, kinds
from shadow.checks.result import CheckResult, Finding, both
from shadow.pair import Arm, Pair

NAME = "output_tokens"

_ASCII_TOKEN = re.compile(r"[A-Za-z]{1,6}|[0-9]{1,3}|[^\sA-Za-z0-9]")  # the same, and faster
_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"  # CJK: one character, one token
    r"|[^\W\d_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{1,6}|\d{1,3}|[^\w\s]|_"
)


def check(pair: Pair) -> CheckResult:
    """Count tokens of text, refusals and tool calls, summed over the choices; never fails.

    Tokens that the upstreams report come from the models' own tokenizers and can't be compared
    between models, so both arms are measured with `count_tokens`. Does not catch: hidden
    reasoning, which costs money and time but is no part of the answer.
    """

    def examine(arm: Arm) -> Finding:
        return Finding("not_applicable", "a measurement", value=float(measure(arm.answer)))

    return both(NAME, pair, examine)


def measure(answer: Answer) -> int:
    """Return the length of an answer in tokens of `count_tokens`."""
    total = 0
    for choice in answer.choices:
        total += count_tokens(choice.text) + count_tokens(choice.refusal or "")
        total += sum(count_tokens(f"{call.name} {call.arguments}") for call in choice.tool_calls)
    return total


def count_tokens(text: str) -> int:
    """Count pieces of words (up to 6 letters or 3 digits), punctuation and CJK characters.

    A fixed stand-in for a tokenizer: for English prose within some 15% of common BPE vocabularies,
    and the same for every model.
    """
    if len(text) < LONG_CHARS:
        return len((_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text))
    return count_pieces(kinds(text), letters=6, digits=3)
