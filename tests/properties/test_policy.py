"""What no evidence whatever may bring the policy to do."""

from __future__ import annotations

from dataclasses import replace
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
    st.sampled_from(["pair", "noise", "live", "window", "breaker"]),
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
