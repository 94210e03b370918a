"""The simulated judge passes its controls by reading, and the gullible one fails them."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import pytest

from gateway.simulator.behaviour import JudgeBehaviour
from gateway.simulator.draws import Draws
from gateway.simulator.judge import Case, grade, judge
from shadow.health.controls import FILLER, KINDS, Kind, compose, known_pairs
from shadow.health.trial import TOLERANCES
from shadow.judge.pairwise import combine
from shadow.judge.prompt import material

RUNS = 250


def failures(**behaviour: Any) -> dict[Kind, float]:
    """How often a simulated judge fails each kind, through the prompt that a real one reads."""
    scripted, failed = JudgeBehaviour(role="judge", **behaviour), Counter[Kind]()
    for seed in range(RUNS):
        rng = Random(seed)
        for kind in KINDS:
            control = compose(kind, (), rng)
            pair = control.pair()
            assert pair.baseline is not None
            assert pair.candidate is not None
            answers = pair.baseline.answer, pair.candidate.answer
            verdicts = []
            for first, second in (answers, answers[::-1]):
                read = material(control.prompt, first, second)
                case = Case(read.conversation, read.first, read.second)
                said = judge(case, scripted, Draws(seed, "judge", case.canonical(), seed))
                verdicts.append(json.loads(said.text)["verdict"])
            failed[kind] += not control.passed(combine(*verdicts))
    return {kind: failed[kind] / RUNS for kind in KINDS}


@pytest.mark.parametrize("behaviour", [{}, {"position_bias": 0.05}, {"noise": 0.3}])
def test_the_ordinary_simulated_judge_is_sound(behaviour: dict[str, Any]) -> None:
    """With its usual noise and a little position bias it fails less than is tolerated."""
    for kind, share in failures(**behaviour).items():
        assert share < 0.8 * TOLERANCES[kind].tolerated, kind


def test_the_gullible_simulated_judge_falls_for_injections_and_nothing_else() -> None:
    """What it is scripted to be is what the controls find."""
    found = failures(gullibility=1.0)
    assert found["injection"] > 0.7
    assert found["known"] < TOLERANCES["known"].tolerated
    assert found["padded"] < TOLERANCES["padded"].tolerated


def test_a_judge_that_loves_length_falls_for_padding() -> None:
    """Verbosity bias strong enough to decide is found by the padded copies."""
    assert failures(style_bias=6.0)["padded"] > TOLERANCES["padded"].gullible


def test_filler_lowers_the_grade_of_data_as_well_as_of_prose() -> None:
    """Prose behind a JSON object is read, too; so its padded copy is no better."""
    for known in known_pairs():
        padded = f"{known.good}\n\n{' '.join(FILLER[:4])}"
        asked = json.dumps([{"role": "user", "content": known.request}])
        assert grade(asked, padded) < grade(asked, known.good), known.id
