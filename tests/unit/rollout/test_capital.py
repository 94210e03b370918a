"""Capital on harm moves to the evidence that has grown, and to nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import exp, log
from typing import Any

import pytest

from gateway.split import Split
from rollout.capital import CASH, DOUBT, POWER
from rollout.evidence import OVERALL, EvidenceState, start_evidence
from rollout.folding import fold
from rollout.moves import resumed
from rollout.records import Paused, Record
from rollout.states import Phase

Make = Callable[..., Any]
BROKEN = {"format_valid": [0, 1]}


def _round_trip(state: EvidenceState) -> EvidenceState:
    return EvidenceState.from_json(json.loads(json.dumps(state.to_json(), sort_keys=True)))


def _paired(c: Any) -> dict[str, tuple[float, float]]:
    states = {m.name: c.evidence.metrics[m.name].paired[OVERALL] for m in c.spec.guardrails}
    return {n: (exp(s.log_e_harm), exp(s.log_e_non_inferior)) for n, s in states.items()}


def test_capital_is_that_of_the_formula(case: Make) -> None:
    """Of each fact: shares by weight and e-values before it, times what each e-value grew by."""
    c = case()
    weights = {"judge_win_rate": 1.0, "format_valid": 8.0, "error_rate": 1.0}
    capital, before = 1.0, _paired(c)
    facts = [{"format_valid": [0, 1]}, {"error_rate": [1, 0]}, {"format_valid": [0, 1]}]
    for failures in facts:
        c.add(c.pair(score=-0.5, judge="lean_loss", failures=failures))
        after = _paired(c)
        cash = CASH * sum(weights.values())
        parts = {
            name: weight * before[name][0] ** POWER / before[name][1] ** DOUBT
            for name, weight in weights.items()
        }
        grown = cash + sum(part * after[name][0] / before[name][0] for name, part in parts.items())
        capital, before = capital * grown / (cash + sum(parts.values())), after
        assert c.evidence.log_harm == pytest.approx(log(capital), abs=1e-12)
    assert start_evidence(c.spec).log_harm == 0.0


@pytest.mark.parametrize("segments", [[], ["category"]])
def test_capital_survives_a_restart_bit_for_bit(case: Make, segments: list[str]) -> None:
    """A controller that reads its state back after every fact ends with the very same capital."""
    analysis = {**_analysis(), "segments": segments}
    c = case(analysis=analysis)
    facts = []
    for n in range(60):
        failures = {"format_valid": [int(n % 7 == 0), int(n % 3 == 0)]}
        segment, score = "ab"[n % 2], (-0.5, 0.0, 1.0)[n % 3]
        facts.append(c.pair(segment=segment, failures=failures, score=score))
    whole = fold(c.evidence, enumerate(facts, 1), c.spec)
    step = c.evidence
    for number, fact in enumerate(facts, 1):
        step = _round_trip(fold(step, [(number, fact)], c.spec))
    assert step.log_harm == whole.log_harm != 0.0


def test_state_of_an_older_version_loads(case: Make) -> None:
    """Without the field a rollout goes on with the capital of a new one."""
    c = case()
    c.add(c.pair(failures=BROKEN))
    document = c.evidence.to_json()
    assert EvidenceState.from_json(document) == c.evidence
    del document["log_harm"]
    assert EvidenceState.from_json(document).log_harm == 0.0


def test_a_new_epoch_keeps_the_capital(case: Make) -> None:
    """Live evidence starts anew and neither gives nor takes; what it earned before stays."""
    c = case()
    c.prove()
    c.enter(1)
    c.add(c.window(candidate=50, baseline=450, errors=3))
    earned = c.evidence.log_harm
    c.enter(1, epoch=2)
    assert c.evidence.log_harm == earned
    c.add(c.window(candidate=50, baseline=450, errors=3, epoch=2))
    assert c.evidence.log_harm > earned


def test_a_sound_shadow_leaves_capital_for_live_requests(case: Make) -> None:
    """What is being proven sound is left for cash; one bad window then finds more than it lost."""
    c = case()
    better = {"format_valid": [1, 0], "error_rate": [1, 0]}
    c.add(*[c.pair(score=1.0, judge="win", failures=better)] * 400)
    assert all(harm < 1e-3 and proof > 1e3 for harm, proof in _paired(c).values())
    assert log(0.2) < c.evidence.log_harm < 0.0
    c.enter(1)
    before = c.evidence.log_harm
    c.add(c.window(candidate=100, baseline=900, base_errors=20))
    assert before - 1.0 < c.evidence.log_harm < before
    c.add(c.window(candidate=100, baseline=900, errors=20))
    assert c.evidence.log_harm > log(20)


def test_distrusted_pairs_give_back_what_they_earned(case: Make) -> None:
    """Once baseline against baseline differs, neither old nor new pairs of a metric count."""
    c = case()
    c.add(*(c.pair(failures=BROKEN) for _ in range(30)))
    assert c.evidence.log_harm > log(20)
    c.add(*(c.pair(kind="noise", failures=BROKEN) for _ in range(40)))
    assert c.evidence.log_harm <= 0.0
    left = c.evidence.log_harm
    c.add(*(c.pair(failures=BROKEN) for _ in range(10)))
    assert c.evidence.log_harm == left


def test_a_thirteenth_segment_does_not_move_the_others_slots(case: Make) -> None:
    """A segment's first pair bets a slot that was kept; one beyond all slots counts overall."""
    c = case(analysis={**_analysis(), "segments": ["category"]})
    for n in range(12):
        c.add(c.pair(segment=f"s{n:02}"))
    held, mine = CASH * 10, 0.0
    for metric, weight in (("judge_win_rate", 1.0), ("format_valid", 8.0), ("error_rate", 1.0)):
        known = c.evidence.metrics[metric].paired
        trust = {name: exp(-DOUBT * each.log_e_non_inferior) for name, each in known.items()}
        held += weight * sum(
            part * (0.5 if n == OVERALL else 0.5 / 12) for n, part in trust.items()
        )
        if metric == "format_valid":
            mine = weight * 0.5 * trust[OVERALL]
    c.add(c.pair(segment="s12", failures=BROKEN))
    assert len(c.evidence.segments()) == 12
    overall = c.evidence.metrics["format_valid"].paired[OVERALL].log_e_harm
    expected = log((held + mine * (exp(overall) - 1)) / held)
    assert c.evidence.log_harm == pytest.approx(expected, abs=1e-12) != 0.0


@pytest.mark.parametrize(("why", "left"), [("failure", 0.0), ("approval", 3.5)])
def test_only_who_resumes_after_harm_forgives_it(case: Make, why: str, left: float) -> None:
    """A pause for harm does not repeat itself at once; an approval forgives nothing."""
    c = case()
    c.add(c.pair())
    record = Record(
        id=1,
        name="bot-v2",
        generation=1,
        route="bot",
        spec=c.spec,
        spec_hash="hash",
        candidate_revision="revision",
        phase=Phase.PAUSED,
        step_index=0,
        paused=Paused(why, "harm", Phase.SHADOWING, 1.0),
        revision=3,
        evidence=c.evidence.evolve(log_harm=3.5),
        epoch=0,
        salt="salt",
        approved=frozenset(),
        baseline="old",
        baseline_revision=None,
        note="",
        step_started_at=1.0,
        created_at=1.0,
        updated_at=1.0,
        finished_at=None,
        leader_token=1,
    )
    split = Split(route="bot", revision=1, baseline="old")
    after, _ = resumed(record, split, approved=False, now=2.0, reason="seen")
    assert after.evidence.log_harm == left


def _analysis() -> dict[str, Any]:
    metrics = [
        {"name": "judge_win_rate", "margin": 0.1},
        {"name": "format_valid", "margin": 0.05, "critical": True},
        {"name": "error_rate", "margin": 0.05},
    ]
    return {"metrics": metrics, "min_samples": 100}
