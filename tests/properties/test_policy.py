"""What no evidence whatever may bring the policy to do."""

from __future__ import annotations

import json
from dataclasses import replace
from math import exp
from typing import Any

from hypothesis import find, given
from hypothesis import strategies as st

from gateway.store.evidence import Evidence
from rollout.evidence import OVERALL, EvidenceState, begin_step, start_evidence
from rollout.folding import fold
from rollout.policy import Status, decide
from rollout.spec import RolloutSpec, load_spec
from rollout.states import ACTIVE, Event, Phase, next_phase
from rollout.steps import plan

NOW = 10_000.0
SPEC: RolloutSpec = load_spec(
    {
        "name": "x",
        "route": "r",
        "candidate": {"deployment": "c"},
        "mirror": {"percentage": 100},
        "steps": [{"mirror": {"min_pairs": 5}}, {"set_weight": 10}, {"set_weight": 100}],
        "analysis": {
            "metrics": [
                {"name": "judge_win_rate", "margin": 0.3},
                {"name": "format_valid", "margin": 0.3},
                {"name": "error_rate", "margin": 0.3},
            ],
            "min_samples": 5,
            "min_duration": 0,
        },
    }
)
STEPS = plan(SPEC)

bits = st.sampled_from([0, 0, 0, 1, None])
judged = st.sampled_from(
    [
        ("win", 1.0),
        ("lean_win", 0.5),
        ("tie", 0.0),
        ("lean_loss", -0.5),
        ("loss", -1.0),
        ("inconsistent", 0.0),
        ("error", None),
        ("budget_exhausted", None),
        ("unjudgeable", None),
    ]
)


def _pair(judge: tuple[str, float | None], form: list[Any], error: list[Any]) -> dict[str, Any]:
    return {
        "pair_id": 1,
        "capture_id": "c",
        "cluster": None,
        "judge": judge[0],
        "score": judge[1],
        "failures": {"format_valid": form, "error_rate": error},
        "values": {},
    }


pairs = st.builds(
    lambda judge, form, error: Evidence("pair", NOW - 1, _pair(judge, form, error)),
    judged,
    st.lists(bits, min_size=2, max_size=2),
    st.lists(bits, min_size=2, max_size=2),
)


def _window(candidate: int, baseline: int, bad: int, epoch: int) -> Evidence:
    arms = {
        "candidate": {"requests": candidate, "error_rate": min(bad, candidate)},
        "baseline": {"requests": baseline, "error_rate": 0},
    }
    payload = {"replica": "g", "weight_bp": 1000, "split_revision": 1, "arms": arms}
    return Evidence("window", NOW - 1, payload, epoch=epoch)


counts = st.integers(0, 60)
windows = st.builds(_window, counts, counts, st.integers(0, 3), st.sampled_from([0, 1]))
checks = st.builds(
    lambda variant, failed: Evidence(
        "live",
        NOW - 1,
        {"variant": variant, "weight_bp": 1000, "failures": {"format_valid": failed}, "values": {}},
        epoch=1,
    ),
    st.sampled_from(["baseline", "candidate"]),
    bits,
)
garbage = st.builds(
    lambda kind: Evidence(kind, NOW - 1, {"judge": "?"}),
    st.sampled_from(["pair", "noise", "live", "window", "breaker", "outcome", "query", "label"]),
)
noise = pairs.map(lambda fact: replace(fact, kind="noise"))
anything = st.one_of(pairs, pairs, windows, checks, noise, garbage)
facts = st.lists(anything, max_size=6) | st.lists(anything, max_size=60)
# Pairs in favour of the candidate before the step and within it, and healthy requests within it.
proof = st.tuples(
    st.sampled_from([0, 20, 200]), st.sampled_from([0, 4, 60]), st.sampled_from([0, 4, 60])
)


def _good(count: int) -> list[Evidence]:
    return [Evidence("pair", NOW - 1, _pair(("win", 1.0), [0, 0], [0, 0]))] * count


def _served(weight_bp: int, requests: int) -> list[Evidence]:
    """So many requests of the candidate, the baseline's share beside them, and their checks."""
    if not weight_bp or not requests:
        return []
    arms = {
        "candidate": {"requests": requests, "error_rate": 0},
        "baseline": {"requests": requests * (10_000 - weight_bp) // weight_bp, "error_rate": 0},
    }
    payload = {"replica": "g", "weight_bp": weight_bp, "split_revision": 1, "arms": arms}
    check = {
        "variant": "candidate",
        "weight_bp": weight_bp,
        "failures": {"format_valid": 0},
        "values": {},
    }
    return [
        Evidence("window", NOW - 1, payload, epoch=1),
        *[Evidence("live", NOW - 1, check, epoch=1)] * requests,
    ]


def _state(index: int, proven: tuple[int, int, int], more: list[Evidence]) -> EvidenceState:
    """Evidence at a step: so much in favour of the candidate, then anything."""
    step = STEPS[index]
    before, within, served = proven
    state = fold(start_evidence(SPEC), enumerate(_good(before), 1), SPEC)
    epoch = 1 if step.weight_bp else 0
    state = begin_step(state, SPEC, step, weight_bp=step.weight_bp, epoch=epoch)
    known = [*_good(within), *_served(step.weight_bp, served), *more]
    return fold(state, enumerate(known, state.last_seq + 1), SPEC)


def _status(index: int, phase: Phase | None = None, elapsed: float = 100.0) -> Status:
    step = STEPS[index]
    return Status(phase or step.phase, step, index == len(STEPS) - 1, NOW - elapsed)


steps = st.integers(0, len(STEPS) - 1)
elapsed = st.sampled_from([0.0, 100.0, 1e5, 1e7])


@given(steps, proof, facts, elapsed)
def test_widening_means_everything_was_proven(
    index: int, proven: tuple[int, int, int], more: list[Evidence], passed: float
) -> None:
    """Whatever arrives, an advance finds every guardrail passed and the step's minimum reached."""
    evidence = _state(index, proven, more)
    decision = decide(evidence, SPEC, _status(index, elapsed=passed), NOW)
    if decision.action not in {"advance", "succeed"}:
        return
    assert {each.verdict for each in decision.verdicts} == {"pass"}
    step = STEPS[index]
    assert evidence.step_pairs >= step.min_pairs
    assert evidence.step_candidate >= step.min_samples
    assert not evidence.recent.endswith("b")
    assert evidence.consecutive_judge_errors < SPEC.on_evaluator_error.consecutive_error_limit


@given(steps, proof, facts, elapsed, st.sampled_from(["error", "budget_exhausted"]))
def test_missing_verdicts_never_turn_a_hold_into_an_advance(
    index: int, proven: tuple[int, int, int], more: list[Evidence], passed: float, word: str
) -> None:
    """After a run of judge failures nothing widens, and no rollback is taken back."""
    evidence = _state(index, proven, more)
    status = _status(index, elapsed=passed)
    before = decide(evidence, SPEC, status, NOW)
    failed = Evidence("pair", NOW - 1, _pair((word, None), [None, None], [None, None]))
    later = fold(evidence, enumerate([failed] * 4, evidence.last_seq + 1), SPEC)
    after = decide(later, SPEC, status, NOW)
    assert after.action not in {"advance", "succeed"}
    if before.action == "rollback":
        assert after.action == "rollback"


@given(steps, st.sampled_from([0, 60]), facts, elapsed)
def test_silence_never_widens(index: int, served: int, more: list[Evidence], passed: float) -> None:
    """Without a single pair there is no advance, at any step and after any time."""
    mute = [fact for fact in more if fact.kind != "pair"]
    evidence = _state(index, (0, 0, served), mute)
    decision = decide(evidence, SPEC, _status(index, elapsed=passed), NOW)
    assert decision.action not in {"advance", "succeed"}


@given(steps, proof, facts, elapsed, st.sampled_from(sorted(ACTIVE)))
def test_harm_acts_at_once_whatever_else_is_known(
    index: int, proven: tuple[int, int, int], more: list[Evidence], passed: float, phase: Phase
) -> None:
    """Enough failing pairs roll back from every active phase, step and time."""
    quiet = [fact for fact in more if fact.kind != "noise"]
    evidence = _state(index, proven, quiet)
    bad = Evidence("pair", NOW - 1, _pair(("not_needed", -1.0), [0, 1], [0, 1]))
    later = fold(evidence, enumerate([bad] * 400, evidence.last_seq + 1), SPEC)
    decision = decide(later, SPEC, _status(index, phase, elapsed=passed), NOW)
    assert decision.action == "rollback"


@given(steps, proof, facts, st.sampled_from(sorted(set(Phase) - ACTIVE)))
def test_abort_and_every_end_always_win(
    index: int, proven: tuple[int, int, int], more: list[Evidence], phase: Phase
) -> None:
    """Once it is over no evidence brings a decision, and an abort is never refused."""
    evidence = _state(index, proven, more)
    assert decide(evidence, SPEC, _status(index, phase), NOW).action == "hold"
    for active in ACTIVE:
        assert next_phase(active, Event.ABORT) is Phase.ABORTED


@given(steps, proof, facts)
def test_paused_rollout_only_ever_rolls_back(
    index: int, proven: tuple[int, int, int], more: list[Evidence]
) -> None:
    """A pause (a manual weight, a missing approval) is left by a person or by harm."""
    decision = decide(_state(index, proven, more), SPEC, _status(index, Phase.PAUSED), NOW)
    assert decision.action in {"hold", "rollback"}


@given(steps, proof, facts)
def test_state_survives_the_store(
    index: int, proven: tuple[int, int, int], more: list[Evidence]
) -> None:
    """Through JSON and back nothing changes, so a restart decides the same."""
    evidence = _state(index, proven, more)
    again = EvidenceState.from_json(evidence.to_json())
    assert again == evidence
    status = _status(index)
    assert decide(again, SPEC, status, NOW) == decide(evidence, SPEC, status, NOW)


@given(proof, facts, st.integers(0, 60))
def test_batches_do_not_matter(
    proven: tuple[int, int, int], more: list[Evidence], cut: int
) -> None:
    """Facts folded in two parts, some of them twice, give the state of one part."""
    evidence = _state(0, proven, [])
    numbered = list(enumerate(more, evidence.last_seq + 1))
    whole = fold(evidence, numbered, SPEC)
    parts = fold(fold(evidence, numbered[:cut], SPEC), numbered, SPEC)
    assert parts == whole
    assert whole.metrics["format_valid"].paired[OVERALL].n <= sum(proven) + len(more)


OWN: RolloutSpec = load_spec(
    {
        **SPEC.to_document(),
        "analysis": {
            "metrics": [
                {"name": "judge_win_rate", "margin": 0.3, "min_human_labels": 2},
                {"name": "refusal_rate", "margin": 0.3, "direction": "both"},
                {"name": "reopened", "margin": 0.3, "source": {"outcome": "reopened"}},
                {"name": "cache", "source": {"prometheus": {"query": "x", "max": 1}}},
            ],
            "segments": ["category"],
            "min_samples": 5,
            "min_duration": 0,
        },
    }
)
outcomes = st.builds(
    lambda variant, failure, weight_bp, epoch: Evidence(
        "outcome",
        NOW - 1,
        {"name": "reopened", "variant": variant, "failure": failure, "weight_bp": weight_bp},
        epoch=epoch,
    ),
    st.sampled_from(["baseline", "candidate", "?"]),
    bits,
    st.sampled_from([0, 500, 1000]),
    st.sampled_from([0, 1, 2]),
)
readings = st.builds(
    lambda value, error: Evidence(
        "query",
        NOW - 1,
        {"metric": "cache", "value": value, "breached": bool(value and value > 1), "error": error},
    ),
    st.sampled_from([None, 0.5, 0.5, 2.0, float("nan")]),
    st.sampled_from([None, None, None, "refused"]),
)
labels = st.builds(
    lambda label, judge, probability: Evidence(
        "label",
        NOW - 1,
        {"pair_id": 1, "label": label, "judge": judge, "probability": probability},
    ),
    st.sampled_from([0, 0.5, 1, 1, 2]),
    st.sampled_from([None, 0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 0.1, 1.0]),
)
visits = st.builds(
    lambda fact, user, segment: replace(
        fact, payload={**fact.payload, "cluster": user}, segment=segment
    ),
    pairs,
    st.sampled_from([None, "u1", "u2", "u3"]),
    st.sampled_from([None, "a", "b"]),
)
of_ones_own = st.lists(st.one_of(visits, visits, outcomes, readings, labels, garbage), max_size=60)


def _favourable(epoch: int) -> list[Evidence]:
    """Proof from pairs and people, and healthy requests of both arms, of the metrics of OWN."""
    payload = _pair(("win", 1.0), [0, 0], [0, 0])
    pair = {**payload, "failures": {"refusal_rate": [0, 0]}}
    label = {"pair_id": 1, "label": 1, "judge": 1.0, "probability": 1.0}
    value = {"metric": "cache", "value": 0.5, "breached": False, "error": None}
    posted = {"name": "reopened", "variant": "candidate", "failure": 0, "weight_bp": 1000}
    check = {"variant": "candidate", "weight_bp": 1000, "failures": {"refusal_rate": 0}}
    known = [
        *[Evidence("pair", NOW - 1, pair)] * 60,
        *[Evidence("label", NOW - 1, label)] * 60,
        Evidence("query", NOW - 1, value),
    ]
    if epoch:
        known += [
            *[Evidence("outcome", NOW - 1, posted, epoch=epoch)] * 5,
            _window(10, 90, 0, epoch),
            *[Evidence("live", NOW - 1, {**check, "values": {}}, epoch=epoch)] * 5,
        ]
    return known


def _own_state(index: int, known: bool, more: list[Evidence]) -> EvidenceState:
    step = STEPS[index]
    epoch = 1 if step.weight_bp else 0
    state = begin_step(start_evidence(OWN), OWN, step, weight_bp=step.weight_bp, epoch=epoch)
    return fold(state, enumerate([*(_favourable(epoch) if known else []), *more], 1), OWN)


@given(st.integers(0, 1), st.booleans(), of_ones_own)
def test_ones_own_metrics_never_widen_without_data(
    index: int,
    known: bool,
    more: list[Evidence],
) -> None:
    """An advance has no breach, no failed reading, enough labels, and outcomes once users serve."""
    evidence = _own_state(index, known, more)
    decision = decide(evidence, OWN, _status(index), NOW)
    if decision.action != "advance":
        return
    reading = evidence.metrics["cache"].reading
    if reading is not None:
        assert not reading.breaches
    judge = evidence.metrics["judge_win_rate"].labels
    assert judge is not None
    assert judge.n >= 2
    if STEPS[index].weight_bp:
        assert reading is not None
        assert reading.error is None
        assert evidence.metrics["reopened"].live[OVERALL].candidate_requests >= 5


@given(st.integers(0, 1), st.booleans(), of_ones_own, st.integers(0, 60))
def test_ones_own_facts_survive_the_store_and_any_batch(
    index: int,
    known: bool,
    more: list[Evidence],
    cut: int,
) -> None:
    """Cut anywhere and put through JSON in between, the same facts give the same decision."""
    whole = _own_state(index, known, more)
    start = _own_state(index, known, [])
    numbered = list(enumerate(more, start.last_seq + 1))
    half = EvidenceState.from_json(
        json.loads(json.dumps(fold(start, numbered[:cut], OWN).to_json()))
    )
    again = fold(half, numbered, OWN)
    assert again == whole
    assert decide(again, OWN, _status(index), NOW) == decide(whole, OWN, _status(index), NOW)


@given(st.booleans(), st.lists(outcomes.map(lambda fact: replace(fact, epoch=7)), max_size=20))
def test_late_outcomes_change_no_live_evidence(
    known: bool,
    more: list[Evidence],
) -> None:
    """What belongs to another epoch moves neither the evidence of this one nor the decision."""
    before = _own_state(1, known, [])
    after = fold(before, enumerate(more, before.last_seq + 1), OWN)
    assert after.metrics["reopened"].live == before.metrics["reopened"].live
    status = _status(1)
    assert decide(after, OWN, status, NOW) == decide(before, OWN, status, NOW)


def test_examples_of_ones_own_include_widening() -> None:
    """The properties above are not empty: favourable evidence advances, in shadow and live."""
    for index in (0, 1):
        assert decide(_own_state(index, True, []), OWN, _status(index), NOW).action == "advance"


@given(
    steps,
    proof,
    facts,
    st.sampled_from([-1e6, -3600.0, -6.0, 0.0, 6.0, 3600.0, 1e6]),
    st.sampled_from([-1e6, -3600.0, 0.0, 3600.0, 1e6]),
)
def test_no_clock_alone_shortens_a_step(
    index: int,
    proven: tuple[int, int, int],
    more: list[Evidence],
    controller: float,
    gateways: float,
) -> None:
    """However far one clock is off, a step that compares lasts as long as the other one says."""
    skewed = [replace(fact, at=fact.at + gateways) for fact in more]
    evidence = _state(index, proven, skewed)
    lasts = 50.0
    status = _status(index, elapsed=40.0)
    status = replace(status, step=replace(status.step, min_duration=lasts, max_duration=None))
    now = NOW + controller
    decision = decide(evidence, SPEC, status, now)
    if decision.action in {"advance", "succeed"}:
        assert now - status.step_started_at >= lasts
        assert evidence.clock - status.step_started_at >= lasts - 5


@given(steps, proof, facts, st.floats(-1e7, 1e7))
def test_every_moment_has_a_decision(
    index: int, proven: tuple[int, int, int], more: list[Evidence], jump: float
) -> None:
    """No clock reading whatever is an error, and a reason never speaks of negative time."""
    decision = decide(_state(index, proven, more), SPEC, _status(index), NOW + jump)
    assert decision.reason
    assert " -" not in decision.reason


@given(steps, proof, facts)
def test_silence_over_time_only_ever_holds_or_pauses(
    index: int, proven: tuple[int, int, int], more: list[Evidence]
) -> None:
    """What did not widen when the last fact was there does not widen by waiting without facts."""
    evidence = _state(index, proven, more)
    status = _status(index, elapsed=0.0)
    status = replace(status, step=replace(status.step, min_duration=50.0))
    first = decide(evidence, SPEC, status, NOW)
    assert first.action not in {"advance", "succeed"}
    for later in (10.0, 60.0, 1e4, 1e7):
        action = decide(evidence, SPEC, status, NOW + later).action
        assert action not in {"advance", "succeed"}
        assert (action == "rollback") == (first.action == "rollback")


@given(proof, facts)
def test_only_one_revision_of_a_candidate_has_its_evidence(
    proven: tuple[int, int, int], more: list[Evidence]
) -> None:
    """A new generation starts from nothing; within one a new weight keeps what pairs have shown."""
    evidence = _state(1, proven, more)
    again = begin_step(evidence, SPEC, STEPS[1], weight_bp=3000, epoch=evidence.epoch + 1)
    for name, known in evidence.metrics.items():
        assert again.metrics[name].paired == known.paired
    assert (again.step_pairs, again.step_candidate, again.step_checked) == (0, 0, 0)
    fresh = start_evidence(SPEC)
    assert all(state.n == 0 for known in fresh.metrics.values() for state in known.paired.values())
    assert decide(fresh, SPEC, _status(0), NOW).action == "hold"


@given(
    proof,
    facts,
    st.floats(0.0, 0.5),
    st.floats(0.0, 0.5),
    st.sampled_from([0, 1]),
)
def test_capital_of_a_candidate_that_is_not_worse_does_not_grow_on_average(
    proven: tuple[int, int, int], more: list[Evidence], form: float, error: float, index: int
) -> None:
    """Whatever is known, a fair pair more leaves the capital on harm as it is, on average."""
    evidence = _state(index, proven, more)
    outcomes = {(0, 0): None, (0, 1): 1, (1, 0): -1}
    mean = 0.0
    for form_arms, form_sign in outcomes.items():
        for error_arms, error_sign in outcomes.items():
            chance = (form if form_sign else 1 - 2 * form) * (
                error if error_sign else 1 - 2 * error
            )
            payload = _pair(("tie", 0.0), list(form_arms), list(error_arms))
            fact = Evidence("pair", NOW - 1, payload)
            after = fold(evidence, [(evidence.last_seq + 1, fact)], SPEC)
            mean += chance * exp(after.log_harm - evidence.log_harm)
    assert mean <= 1 + 1e-9


def test_examples_include_widening() -> None:
    """The properties above are not empty: some drawn evidence does advance, and some succeeds."""
    for index, action in ((0, "advance"), (1, "advance"), (2, "succeed")):
        found = find(
            st.tuples(proof, facts),
            lambda drawn, index=index, action=action: (  # type: ignore[misc]
                decide(_state(index, *drawn), SPEC, _status(index), NOW).action == action
            ),
        )
        assert found
