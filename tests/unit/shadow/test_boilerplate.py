"""Boilerplate: words that recur in answers to different prompts, from a bounded memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shadow import boilerplate
from shadow.boilerplate import MOST_SHINGLES, BoilerplateMemory, shingles_of
from shadow.pair import Pair

Build = Callable[..., Any]

TEMPLATE = (
    "Thank you for reaching out to us today. I completely understand how important this is, and I "
    "am more than happy to look into it for you. Before we begin, let me reassure you that your "
    "satisfaction is our highest priority at all times. "
)
RNG = random.Random(11)
WORDS = [f"word{n}" for n in range(3000)]


def _own(count: int = 60) -> str:
    return " ".join(RNG.choices(WORDS, k=count))


def _pairs(
    pair: Build, count: int, baseline: Callable[[], str], candidate: Callable[[], str]
) -> Any:
    for number in range(count):
        messages = [{"role": "user", "content": f"question {number}"}]
        yield pair(baseline(), candidate(), messages=messages)


def test_a_template_is_found_and_fresh_words_are_not(pair: Build) -> None:
    """The candidate's answers share half of their words from the fourth prompt on."""
    memory = BoilerplateMemory()
    made = _pairs(pair, 8, _own, lambda: TEMPLATE + _own(10))
    found = [memory.check(each, rollout_id=1, stream="mirror") for each in made]
    assert [each.candidate.bit() for each in found] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert [each.baseline.bit() for each in found] == [0] * 8


def test_the_same_prompt_again_is_no_boilerplate(pair: Build) -> None:
    """A question that is asked often may well get the same answer every time."""
    memory = BoilerplateMemory()
    for _ in range(10):
        found = memory.check(pair(TEMPLATE, TEMPLATE), rollout_id=1, stream="mirror")
        assert found.candidate.bit() == 0


def test_memories_are_apart(pair: Build) -> None:
    """Arms, rollouts and streams do not see each other's words."""
    memory = BoilerplateMemory()
    for each in _pairs(pair, 4, lambda: TEMPLATE, _own):
        memory.check(each, rollout_id=1, stream="mirror")
    for rollout, stream in ((2, "mirror"), (1, "noise")):
        late = pair(TEMPLATE, TEMPLATE, messages=[{"role": "user", "content": "late"}])
        found = memory.check(late, rollout_id=rollout, stream=stream)
        assert (found.baseline.bit(), found.candidate.bit()) == (0, 0)
    late = pair(TEMPLATE, TEMPLATE, messages=[{"role": "user", "content": "later"}])
    found = memory.check(late, rollout_id=1, stream="mirror")
    assert (found.baseline.bit(), found.candidate.bit()) == (1, 0)


def test_memory_is_bounded(pair: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many answers and rollouts there are, old ones are forgotten."""
    monkeypatch.setattr(boilerplate, "MOST_SHINGLES", 100)
    memory = BoilerplateMemory()
    for number, each in enumerate(_pairs(pair, 100, _own, _own)):
        memory.check(each, rollout_id=number, stream="mirror")
    assert len(memory._memories) == boilerplate.MOST_MEMORIES
    for each in _pairs(pair, 50, _own, _own):
        memory.check(each, rollout_id=1, stream="mirror")
    assert all(len(each.seen) <= 100 for each in memory._memories.values())
    assert MOST_SHINGLES >= 10_000


def test_short_failed_and_absent_arms(pair: Build) -> None:
    """They say nothing and are not remembered."""
    memory = BoilerplateMemory()
    made: Pair = pair("short", TEMPLATE)
    found = memory.check(replace(made, candidate=None), rollout_id=1, stream="mirror")
    assert (found.baseline.bit(), found.candidate.bit()) == (None, None)


def test_shingles_do_not_depend_on_case_or_spaces() -> None:
    """What a reader takes for the same words is the same."""
    assert shingles_of(TEMPLATE) == shingles_of(TEMPLATE.upper().replace(" ", "\n  "))
    assert len(shingles_of(_own(4000))) == pytest.approx(1000, rel=0.2)
