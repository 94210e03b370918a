"""When a judge fails its control pairs, and how seldom a sound one does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from shadow.health.controls import KINDS, Kind
from shadow.health.examination import Examination, Examiner
from shadow.health.trial import MOST_AGAIN, THRESHOLD, TOLERANCES, Levels, start_levels
from shadow.judge.outcome import Judged, Situation
from shadow.judge.pairwise import Comparison
from shadow.pair import Pair

SOUND = dict.fromkeys(KINDS, 0.05)


class Free:
    """A budget without end."""

    async def reserve(self, *, calls: int, microusd: int) -> bool:
        """Everything is granted."""
        return True

    async def settle(self, *, calls: int, microusd: int) -> None:
        """Nothing is counted."""


class ScriptedJudge:
    """A judge that fails each kind of control with its probability; None: it gives no verdict."""

    def __init__(self, failing: Mapping[Kind, float | None], seed: int) -> None:
        self.failing = failing
        self.rng = Random(seed)
        self.asked = 0

    async def compare(self, pair: Pair, spending: Any, situation: Situation) -> Judged:
        """Find out which control it is, and pass or fail it."""
        self.asked += 1
        assert pair.baseline is not None
        assert pair.candidate is not None
        kind, good_second = read(pair.baseline.answer.text, pair.candidate.answer.text)
        chance = self.failing[kind]
        if chance is None:
            return Judged("judge_error", reason="no reply")
        fails = self.rng.random() < chance
        if kind == "identical":
            result = Comparison("inconsistent", 0.0) if fails else Comparison("tie", 0.0)
        else:
            win, loss = Comparison("win", 1.0), Comparison("loss", -1.0)
            result = win if good_second != fails else loss
        return Judged("judged", comparison=result)

    def uncached(self) -> ScriptedJudge:
        """There is no cache."""
        return self

    async def close(self) -> None:
        """There is nothing to close."""


def read(first: str, second: str) -> tuple[Kind, bool]:
    """Tell a control's kind by its texts, and whether the good answer stands second."""
    from shadow.health.controls import INJECTIONS, MASTER_KEYS, known_pairs

    if first == second:
        return "identical", False
    for kind, texts in (("master_key", MASTER_KEYS), ("injection", INJECTIONS)):
        if first in texts or second in texts:
            return kind, first in texts  # type: ignore[return-value]
    bad = {known.bad for known in known_pairs()}
    if first in bad or second in bad:
        return "known", first in bad
    return "padded", len(second) < len(first)


def examine(judge: ScriptedJudge, levels: Levels, number: int, controls: int = 6) -> Examination:
    """One window."""
    examiner = Examiner(judge, situation=Situation("bot"), max_concurrency=4)
    return asyncio.run(
        examiner.examine(
            levels,
            controls=controls,
            number=number,
            samples=(),
            rng=Random(number),
            spending=Free(),
        )
    )


def test_a_sound_but_noisy_judge_is_hardly_ever_quarantined() -> None:
    """Failing one control in twenty of every kind, less than 1% of 2,000 windows fail."""
    judge, levels, failed = ScriptedJudge(SOUND, 1), start_levels(), 0
    for number in range(2000):
        found = examine(judge, levels, number)
        failed += found.result == "fail"
        levels = start_levels() if found.result == "fail" else found.levels
    assert failed / 2000 < 0.01
    assert judge.asked / 2000 < 7  # pairs a window: about 13 calls


def test_even_at_the_limit_of_what_is_tolerated_hardly_a_window_fails() -> None:
    """The bound of the CUSUM holds where every kind fails exactly as often as is tolerated."""
    failing = {kind: each.tolerated for kind, each in TOLERANCES.items()}
    judge, levels, failed = ScriptedJudge(failing, 2), start_levels(), 0
    for number in range(1500):
        found = examine(judge, levels, number)
        failed += found.result == "fail"
        levels = start_levels() if found.result == "fail" else found.levels
    assert failed / 1500 < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_gullible_judge_is_found_within_two_windows(kind: Kind) -> None:
    """One that falls for a kind in 19 of 20 cases is found in 98% of 300 runs, whatever kind."""
    found = 0
    for run in range(300):
        judge, levels = ScriptedJudge({**SOUND, kind: 0.95}, run), start_levels()
        for number in range(2):
            window = examine(judge, levels, run + number)
            levels = window.levels
            if window.result == "fail":
                found += 1
                break
    assert found >= 294


def test_one_unlucky_draw_decides_nothing() -> None:
    """A single failure is asked again until it is explained."""
    levels = start_levels().after("known", passed=False)
    assert levels.open("known", 1)
    assert levels.failed == ()
    assert not levels.after("known", passed=True).after("known", passed=True).open("known", 3)
    assert not levels.open("known", MOST_AGAIN)


def test_levels_stay_between_zero_and_the_threshold() -> None:
    """Neither a long good record nor a long bad one is held for or against a judge."""
    levels = start_levels()
    for _ in range(50):
        levels = levels.after("padded", passed=True)
    assert levels.levels["padded"] == 0.0
    for _ in range(50):
        levels = levels.after("padded", passed=False)
    assert levels.levels["padded"] == THRESHOLD
    assert levels.failed == ("padded",)


def test_a_failed_window_names_what_failed() -> None:
    """The reason is a sentence with counts, for people who read a pause."""
    found = examine(ScriptedJudge({**SOUND, "injection": 1.0}, 3), start_levels(), 0)
    assert found.result == "fail"
    assert found.reason.startswith("an answer that asks to be chosen was not beaten in ")
    assert found.levels.strict


def test_after_a_failure_the_same_judge_must_bring_every_level_down() -> None:
    """A judge that is mended passes the next window; one that still fails half of them does not."""
    failed = examine(ScriptedJudge({**SOUND, "injection": 1.0}, 3), start_levels(), 0).levels
    mended = examine(ScriptedJudge(dict.fromkeys(KINDS, 0.0), 4), failed, 1)
    assert (mended.result, mended.levels.strict) == ("pass", False)
    half = [
        examine(ScriptedJudge({**SOUND, "injection": 0.5}, seed), failed, 1).result
        for seed in range(100)
    ]
    assert half.count("fail") > 90


def test_a_judge_that_still_fails_is_not_asked_for_ever() -> None:
    """Three more failures of a kind say that nothing has changed."""
    failed = examine(ScriptedJudge({**SOUND, "injection": 1.0}, 3), start_levels(), 0).levels
    judge = ScriptedJudge({**dict.fromkeys(KINDS, 0.0), "injection": 1.0}, 5)
    assert examine(judge, failed, 1).result == "fail"
    assert judge.asked <= len(KINDS) + 3


def test_a_kind_without_a_verdict_leaves_the_window_open() -> None:
    """No reply is neither a pass nor a failure, and the doubts so far are kept."""
    judge = ScriptedJudge({**dict.fromkeys(KINDS, 0.0), "known": None}, 6)
    doubt = start_levels().after("known", passed=False)
    found = examine(judge, doubt, 0)
    assert found.result == "not_run"
    assert found.reason == "no verdict on the control pairs known: judge_error"
    assert found.levels.levels["known"] == doubt.levels["known"]


def test_what_failed_beyond_doubt_fails_although_another_kind_is_silent() -> None:
    """A judge that falls for injections is not saved by an error elsewhere."""
    judge = ScriptedJudge({**dict.fromkeys(KINDS, 0.0), "injection": 1.0, "known": None}, 7)
    assert examine(judge, start_levels(), 0).result == "fail"


def test_more_controls_are_spread_over_the_kinds() -> None:
    """The setting asks for so many pairs, every kind at least once."""
    found = examine(ScriptedJudge(dict.fromkeys(KINDS, 0.0), 8), start_levels(), 0, controls=15)
    assert len(found.asked) == 15
    assert {each.kind for each in found.asked} == set(KINDS)
