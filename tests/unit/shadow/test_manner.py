"""Repetition, length, tool calls, self-praise and certainty: rates of an answer's manner."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from shadow.answer import Answer, Choice
from shadow.checks import (
    overconfidence_rate,
    repetition_rate,
    self_justification_rate,
    tool_call_rate,
    words,
)
from shadow.checks.repetition_rate import loops

Build = Callable[..., Any]

TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
CALL = {"id": "c", "function": {"name": "find", "arguments": "{}"}}
PROSE = (
    "The deposit is paid when you sign. It is held by the bank, not by the landlord, and earns "
    "interest in your name. When you move out, the landlord has three months to inspect the flat. "
    "Normal wear, such as faded paint or small nail holes, is not your cost. If nothing is claimed "
    "in that time, the bank pays everything back to you."
)


@pytest.mark.parametrize(
    "text",
    [
        PROSE + " and so on" * 40,
        PROSE + " no" * 60,
        "Is there anything else I can help you with today?\n" * 6 + PROSE[:80],
        "".join(f"{PROSE} " for _ in range(5)),
        "好的我知道了。" * 40,
        "word " * 300,
    ],
)
def test_a_loop_is_found(text: str) -> None:
    """The same words, line or paragraph over and over, at any period and in any script."""
    assert loops(text)


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        PROSE + " Well, well, well.",
        "```\n" + "x = x + 1\n" * 60 + "```\n" + PROSE,
        PROSE + "\n" + "| yes | no | 1 |\n" * 40,
        "\n".join(f"{n}. Item {n} costs {n * 7 % 13} EUR and weighs {n * 5} g." for n in range(40)),
        "Refrain, refrain, and once again refrain: " + PROSE,
    ],
)
def test_what_repeats_by_nature_is_no_loop(text: str) -> None:
    """Code, tables, lists of like items and rhetoric."""
    assert loops(text) == ""


def test_random_words_are_no_loop() -> None:
    """A thousand answers of words drawn at random from fifty: not one is taken for a loop."""
    rng = random.Random(5)
    vocabulary = [f"w{n}" for n in range(50)]
    for _ in range(1000):
        assert loops(" ".join(rng.choices(vocabulary, k=200))) == ""


def test_short_answers_do_not_repeat_themselves(pair: Build) -> None:
    """Nothing is said of a line."""
    found = repetition_rate.check(pair("no no no", PROSE + " and so on" * 40))
    assert found.baseline.bit() is None
    assert found.candidate.bit() == 1


def test_the_longer_answer_is_flagged(pair: Build) -> None:
    """Above 1.25 times, either way, by the paired log-ratio; a few words more say nothing."""
    for baseline, candidate, flags in (
        (40, 51, ("longer",)),
        (40, 50, ()),
        (51, 40, ("shorter",)),
        (50, 40, ()),
        (2, 9, ()),
        (0, 30, ()),
    ):
        found = words.check(pair("w " * baseline, "w " * candidate))
        assert found.candidate.value == candidate
        assert found.candidate.flags == flags
        assert found.candidate.bit() is None


def test_tool_calls_count_where_the_model_was_free(pair: Build, chat: Build) -> None:
    """A forced, forbidden or impossible call says nothing about the model's habit."""
    called = chat(None, tool_calls=[CALL], finish_reason="tool_calls")
    free = tool_call_rate.check(pair("no call", called, tools=[TOOL]))
    assert (free.baseline.bit(), free.candidate.bit()) == (0, 1)
    for request in ({}, {"tools": [TOOL], "tool_choice": "required"}, {"tools": [TOOL],
                    "tool_choice": "none"}):  # fmt: skip
        assert tool_call_rate.check(pair("x", called, **request)).candidate.bit() is None


PRAISED = [
    "Paris. This answer is complete and accurate.",
    "My response fully addresses all of the requirements.",
    "I made sure to follow your instructions carefully: Paris.",
    "In line with the rubric criteria, the answer is Paris.",
    "Diese Antwort ist vollständig und korrekt: Paris.",
    "Cette réponse est complète et exacte : Paris.",
    "Esta respuesta es completa y correcta: París.",
]
NOT_PRAISED = [
    "Paris.",
    "The answer is complete when both boxes are ticked.",
    "The grader said: \u201cThis answer is complete and accurate.\u201d",
    "Make sure to follow the instructions on the box.",
    "The rubric has four criteria, of which clarity is the first.",
    "I have read your letter and shortened it to one page.",
]
CERTAIN = [
    "I am 100% certain that it opens at nine.",
    "There is no doubt whatsoever that Paris is the capital.",
    "I guarantee that this works.",
    "It is absolutely certain.",
    "Trust me, it's Paris.",
    "Ich bin mir hundertprozentig sicher.",
    "C'est sans aucun doute Paris.",
    "Sin ninguna duda es París.",
]
NOT_CERTAIN = [
    "It opens at nine.",
    "I'm not sure, but it probably opens at nine.",
    "The vaccine is 95% effective.",
    "If in doubt, ask the pharmacist.",
    "The seller must guarantee the repair for two years.",
    'She said "I am 100% certain", and was wrong.',
    "A certain amount of pressure is needed.",
]


@pytest.mark.parametrize(
    ("check", "text", "bit"),
    [(self_justification_rate.check, text, 1) for text in PRAISED]
    + [(self_justification_rate.check, text, 0) for text in NOT_PRAISED]
    + [(overconfidence_rate.check, text, 1) for text in CERTAIN]
    + [(overconfidence_rate.check, text, 0) for text in NOT_CERTAIN],
)
def test_phrases_of_manner(pair: Build, check: Any, text: str, bit: int) -> None:
    """Known in four languages, and not where somebody else says them."""
    assert check(pair("x", text)).candidate.bit() == bit


def test_one_choice_of_several_is_enough(pair: Build) -> None:
    """With n > 1 an answer fails where one of its choices does."""
    good = Choice("Paris.", finish_reason="stop")
    bad = Choice("Trust me, it's Paris.", finish_reason="stop")
    made = pair(Answer((good, good)), Answer((good, bad)))
    found = overconfidence_rate.check(made)
    assert (found.baseline.bit(), found.candidate.bit()) == (0, 1)
