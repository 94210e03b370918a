"""A judge on trial: whatever the facts, a failed window leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.store.evidence import Evidence
from rollout.evidence import EvidenceState, start_evidence
from rollout.folding import fold, update
from rollout.policy import Status, decide
from rollout.spec import RolloutSpec, load_spec
from rollout.states import Phase
from rollout.steps import plan

NOW = 10_000.0


def window(number: int, result: str = "pass", *, limit: int = 400) -> Evidence:
    """The end of a window."""
    payload = {"window": number, "result": result, "limit": limit, "reason": "it is gullible"}
    return Evidence("judge_health", NOW, payload)


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
            "segments": ["category"],
        },
    }
)

judged = st.sampled_from(
    [
        ("win", 1.0), ("lean_win", 0.5), ("tie", 0.0), ("lean_loss", -0.5), ("loss", -1.0),
        ("inconsistent", 0.0), ("error", None), ("not_needed", -1.0), ("budget_exhausted", None),
    ]
)  # fmt: skip


def _pair(
    kind: Any, judge: tuple[str, float | None], broken: int, cluster: str | None, segment: str
) -> Evidence:
    payload = {
        "pair_id": 1,
        "capture_id": "c",
        "cluster": cluster,
        "judge": judge[0],
        "score": judge[1],
        "failures": {"format_valid": [0, broken], "error_rate": [0, 0]},
        "values": {},
        "watched": True,
    }
    return Evidence(kind, NOW - 1, payload, segment)


def _label(label: float, judge: float | None) -> Evidence:
    return Evidence("label", NOW, {"label": label, "judge": judge, "probability": 0.5})


pairs = st.builds(
    _pair,
    st.sampled_from(["pair", "pair", "pair", "noise"]),
    judged,
    st.sampled_from([0, 0, 1]),
    st.sampled_from([None, "u1", "u2", "u3"]),
    st.sampled_from(["a", "b"]),
)
labels = st.builds(_label, st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([None, 0.25, 1.0]))
GOOD = [_pair("pair", ("tie", 0.0), 0, None, "a") for _ in range(60)]
facts = st.lists(st.one_of(pairs, pairs, pairs, labels), max_size=25)


def _after(*parts: Sequence[Evidence]) -> EvidenceState:
    every = [fact for part in parts for fact in part]
    return fold(start_evidence(SPEC), enumerate(every, 1), SPEC)


_NO_VERDICT = {"error", "not_needed", "budget_exhausted"}


def _unheard(every: Iterable[Evidence], *, quarantined: bool) -> list[Evidence]:
    """The same facts of a judge that never said a word about them.

    A label's score may be that of a confirmed pair, as long as no verdict is on trial.
    """
    found, distrusted = [], quarantined
    for fact in every:
        payload = dict(fact.payload)
        if fact.kind == "label":
            payload["judge"] = None if distrusted else payload["judge"]
        elif payload["judge"] not in _NO_VERDICT:
            payload |= {"judge": "unjudgeable", "score": None}
            distrusted = True
        found.append(replace(fact, payload=payload))
    return found


def _told_apart(state: EvidenceState) -> Any:
    """All of a state but the counts of verdicts that did not count."""
    assert state.judge_health is not None
    return state.evolve(
        judge_health=structs.replace(state.judge_health, dropped=0, lost=())
    ).to_json()


@given(facts, facts, facts)
def test_a_failed_window_is_as_if_its_verdicts_had_never_come(
    confirmed: list[Evidence], on_trial: list[Evidence], later: list[Evidence]
) -> None:
    """To the last bit: pairs, clusters, segments, A/A, labels, capital, and what follows on it."""
    start, end = [window(1)], [window(2, "fail")]
    heard = _after(confirmed, start, on_trial, end, later)
    never = _after(
        confirmed,
        start,
        _unheard(on_trial, quarantined=False),
        end,
        _unheard(later, quarantined=True),
    )
    assert _told_apart(heard) == _told_apart(never)


@given(facts, facts)
def test_passing_is_as_if_nobody_had_asked(before: list[Evidence], after: list[Evidence]) -> None:
    """A judge that passes leaves the evidence as it would be without any window."""
    examined = _after(before, [window(1)], after, [window(2)])
    plain = _after(
        *(
            [replace(f, payload={k: v for k, v in f.payload.items() if k != "watched"}) for f in p]
            for p in (before, after)
        )
    )
    assert examined.trusted is None
    assert examined.evolve(judge_health=None, last_seq=0, clock=0).to_json() == (
        plain.evolve(last_seq=0, clock=0).to_json()
    )


windows = st.builds(window, st.integers(1, 6), st.sampled_from(["pass", "fail"]))


@given(st.lists(st.one_of(pairs, pairs, pairs, labels, windows), max_size=30))
def test_a_restart_after_every_fact_gives_the_same_state(every: list[Evidence]) -> None:
    """What is stored between two facts loses nothing of the trial."""
    whole = _after(every)
    state = start_evidence(SPEC)
    for seq, fact in enumerate(every, 1):
        state = update(state, seq, fact, SPEC)
        state = EvidenceState.from_json(json.loads(json.dumps(state.to_json(), sort_keys=True)))
    assert state == whole


@given(
    st.lists(st.one_of(pairs, pairs, labels), max_size=20),
    st.sampled_from(["absent", "fail", "too_many"]),
)
def test_a_judge_that_has_not_passed_never_widens(every: list[Evidence], how: str) -> None:
    """No evidence at all makes up for a missing, failed or outdated examination."""
    state = _after(
        {
            "absent": [*GOOD, *every],
            "fail": [*GOOD, window(1), *every, window(2, "fail")],
            "too_many": [*GOOD, window(1, limit=1), *every, *GOOD[:2]],
        }[how]
    )
    assert _action(state) not in {"advance", "succeed"}


def test_a_judge_that_has_passed_widens() -> None:
    """The evidence above would be enough, had the judge passed."""
    assert _action(_after(GOOD, [window(1)])) == "advance"


def _action(state: EvidenceState) -> str:
    step = plan(SPEC)[0]
    status = Status(Phase.SHADOWING, step, is_last=False, step_started_at=NOW - 100)
    return decide(state, SPEC, status, NOW).action
