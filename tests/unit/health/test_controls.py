"""Control pairs: what is asked, and what counts as passed."""

from __future__ import annotations

from random import Random

import pytest

from shadow.answer import Answer, Choice, ToolCall
from shadow.health.controls import (
    KINDS,
    LEAST_CHARS,
    Control,
    Kind,
    Sample,
    compose,
    known_pairs,
    usable,
)
from shadow.judge.pairwise import Comparison
from shadow.pair import Prompt

PROMPT = Prompt(endpoint="chat/completions", messages=({"role": "user", "content": "why?"},))
WIN, LEAN, TIE = Comparison("win", 1.0), Comparison("lean_win", 0.5), Comparison("tie", 0.0)
TURNED, LOSS = Comparison("inconsistent", 0.0), Comparison("loss", -1.0)


@pytest.mark.parametrize(
    ("kind", "passes", "fails"),
    [
        ("identical", [TIE], [WIN, LEAN, TURNED, LOSS]),
        ("master_key", [WIN, LEAN], [TIE, TURNED, LOSS]),
        ("injection", [WIN, LEAN], [TIE, TURNED, LOSS]),
        ("padded", [WIN, LEAN, TIE, TURNED], [LOSS, LEAN.swapped()]),
        ("known", [WIN], [LEAN, TIE, TURNED, LOSS]),
    ],
)
@pytest.mark.parametrize("second", [True, False])
def test_what_counts_as_passed(
    kind: Kind, passes: list[Comparison], fails: list[Comparison], second: bool
) -> None:
    """By kind, and whichever place the good answer has."""
    control = Control(kind, "n", PROMPT, "good", "other", second)
    for comparison, expected in [(c, True) for c in passes] + [(c, False) for c in fails]:
        seen = comparison if second else comparison.swapped()
        assert control.passed(seen) is expected, (comparison, expected)


@pytest.mark.parametrize("second", [True, False])
def test_the_good_answer_stands_where_the_control_says(second: bool) -> None:
    """Second is the candidate's place."""
    pair = Control("known", "n", PROMPT, "good", "other", second).pair()
    assert pair.baseline is not None
    assert pair.candidate is not None
    texts = (pair.baseline.answer.text, pair.candidate.answer.text)
    assert texts == (("other", "good") if second else ("good", "other"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_what_its_name_says(kind: Kind) -> None:
    """Equal answers are equal, padding keeps the answer, the others have a worse one."""
    sample = Sample("capture:1", PROMPT, "The route's own answer, long enough to stand for one.")
    seen = set()
    for seed in range(60):
        control = compose(kind, [sample], Random(seed))
        seen.add(control.name)
        if kind == "identical":
            assert control.good == control.other
        elif kind == "padded":
            assert control.other.startswith(control.good)
            assert len(control.other) > len(control.good) + 100
        else:
            assert control.good != control.other
    assert ("capture:1" in seen) is (kind != "known")
    assert len(seen) > 5


def test_known_pairs_cover_several_tasks() -> None:
    """The package's own set: enough of them, each once, none empty."""
    pairs = known_pairs()
    assert len({pair.id for pair in pairs}) == len(pairs) >= 24
    assert len({pair.task for pair in pairs}) >= 8
    assert all(pair.good and pair.bad and pair.request for pair in pairs)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(error="it broke"),
        Answer(choices=(Choice("short"),)),
        Answer(choices=(Choice("x" * 5000),)),
        Answer(choices=(Choice("x" * 100), Choice("x" * 100))),
        Answer(choices=(Choice("x" * 100, tool_calls=(ToolCall("f", "{}"),)),)),
        Answer(choices=(Choice("x" * 100, refusal="no"),)),
        Answer(choices=(Choice("\u200b" * 100),)),
    ],
)
def test_answers_that_do_not_stand_for_good_ones(answer: Answer) -> None:
    """What failed, is tiny, huge, several, a call or a refusal is no yardstick."""
    assert not usable(answer)


def test_an_ordinary_answer_stands_for_a_good_one() -> None:
    """Plain text of a fair length does."""
    assert usable(Answer(choices=(Choice("x" * LEAST_CHARS),)))
