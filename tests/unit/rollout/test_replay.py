"""Replaying a history that is held in memory: what is the same, and what is found out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.split import Split
from gateway.store.evidence import Evidence
from rollout import moves, receipts
from rollout.evidence import start_evidence
from rollout.folding import update
from rollout.ledger import share_of
from rollout.policy import Decision, decide
from rollout.records import Record, Transition
from rollout.replay import replay
from rollout.states import Event, Phase, next_phase

NOW = 10_000.0


class History:
    """A rollout that is driven by hand through the same functions as the controller's."""

    def __init__(self, case: Any) -> None:
        self.case = case
        self.facts: list[tuple[int, Evidence]] = []
        self.transitions: list[Transition] = []
        self.split = Split("bot", 0, "old")
        self.record = Record(
            id=1, name="bot-v2", generation=1, route="bot", spec=case.spec, spec_hash="h",
            candidate_revision="r", phase=Phase.PENDING, step_index=0, paused=None, revision=0,
            evidence=start_evidence(case.spec), epoch=0, salt="s", approved=frozenset(),
            baseline=None, baseline_revision=None, note="", step_started_at=None, created_at=1.0,
            updated_at=1.0, finished_at=None, leader_token=0,
        )  # fmt: skip

    def add(self, *facts: Evidence) -> None:
        """Fold facts."""
        for fact in facts:
            seq = self.record.evidence.last_seq + 1
            self.facts.append((seq, fact))
            evidence = update(self.record.evidence, seq, fact, self.record.spec)
            self.record = replace(self.record, evidence=evidence)

    def commit(
        self, event: Event, changed: Record, after: Split, *, now: float, reason: str = "",
        decision: Decision | None = None,
    ) -> None:  # fmt: skip
        """Write a transition as the ledger does."""
        came_from = self.record.paused.phase if self.record.paused else None
        phase = next_phase(self.record.phase, event, paused_from=came_from)
        written = replace(
            changed, phase=phase, paused=changed.paused if phase is Phase.PAUSED else None,
            revision=self.record.revision + 1,
        )  # fmt: skip
        receipt = {
            **receipts.receipt(self.record, decision, now=now),
            "split_before": self.split.to_document(),
            "split_revision": 1,
            "paused": written.paused.reason if written.paused else None,
        }
        self.transitions.append(
            Transition(
                1, "bot-v2", "bot", written.revision, now, "controller", event.value,
                self.record.phase.value, phase.value, written.step_index,
                share_of(self.record, self.split), share_of(written, after), reason, receipt,
            )
        )  # fmt: skip
        self.record, self.split = written, after

    def start(self) -> None:
        """Start, and enter the shadow."""
        changed = replace(
            self.record, baseline="old", baseline_revision="b", step_started_at=NOW - 200
        )
        self.commit(Event.START, changed, self.split, now=NOW - 200)
        self.enter(0, now=NOW - 100)

    def enter(self, index: int, *, now: float, decision: Decision | None = None) -> None:
        """Enter a step."""
        reason = decision.reason if decision else "the spec has no preflight"
        changed, after = moves.enter_step(self.record, self.split, index, now=now, reason=reason)
        event = moves.entering(self.record, index)
        self.commit(event, changed, after, now=now, reason=reason, decision=decision)

    def advance(self, *, now: float = NOW) -> None:
        """Decide, and enter the next step."""
        decision = decide(self.record.evidence, self.record.spec, self.record.status(), now)
        assert decision.action == "advance", decision.reason
        self.enter(self.record.step_index + 1, now=now, decision=decision)

    def weight_by_hand(self, weight_bp: int, *, now: float) -> None:
        """Set a weight, as an operator."""
        changed, after = moves.with_weight(
            self.record, self.split, weight_bp, now=now, reason="by hand"
        )
        self.commit(Event.SET_WEIGHT, changed, after, now=now, reason="by hand")


@pytest.fixture
def history(case: Callable[..., Any]) -> History:
    """Shadow, proof, the first weight, and a weight by hand, with facts in between."""
    own = case()
    made = History(own)
    made.start()
    made.add(*(own.pair(score=0.0 if each % 3 else 0.5) for each in range(200)))
    made.advance()
    own.enter(1)
    made.add(own.window(candidate=10, baseline=90, errors=1), own.check(), own.check(failed=1))
    made.weight_by_hand(5000, now=NOW + 20)
    made.add(own.window(candidate=40, baseline=60, errors=1, weight_bp=5000, epoch=2))
    return made


def test_everything_is_the_same(history: History) -> None:
    """Each transition and the present state are recomputed to the last bit."""
    found = replay(history.record, history.transitions, history.facts)
    assert found.same is True, [each for each in found.transitions if not each.same]
    assert [each.event for each in found.transitions] == [
        "start", "shadow", "progress", "set_weight",
    ]  # fmt: skip
    assert found.transitions[2].why == "decided again: the same"
    assert found.facts == len(history.facts) == 204


@pytest.mark.parametrize("seq", [1, 100, 202, 204])
def test_changed_fact_is_found(history: History, seq: int) -> None:
    """Whichever fact is changed, the receipts after it or the present state give it away."""
    fact = history.facts[seq - 1][1]
    payload = dict(fact.payload)
    if fact.kind == "pair":
        payload["score"] = -1.0
    elif fact.kind == "live":
        payload["failures"] = {"format_valid": 1}
    else:
        payload["arms"] = {
            **payload["arms"], "candidate": {**payload["arms"]["candidate"], "error_rate": 2}
        }  # fmt: skip
    history.facts[seq - 1] = (seq, replace(fact, payload=payload))
    found = replay(history.record, history.transitions, history.facts)
    assert found.same is False
    assert found.transitions[1].same is True


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("log_e_harm", 3.0),
        ("heaviest_metric", "error_rate"),
        ("decided_at", NOW + 3),
        ("step_started_at", NOW - 99),
        ("evidence_clock", NOW),
        ("approved", [0]),
        ("baseline", "other"),
        ("last_seq", 199),
        ("counts", {}),
        ("moment", NOW - 95),
        ("action", "rollback"),
    ],
)
def test_changed_receipt_is_found(history: History, field: str, value: Any) -> None:
    """No figure of a receipt can be changed unnoticed."""
    third = history.transitions[2]
    history.transitions[2] = replace(third, receipt={**third.receipt, field: value})
    found = replay(history.record, history.transitions, history.facts)
    assert found.same is False
    changed = found.transitions[2]
    assert changed.same is False
    assert changed.differences or field in changed.why
    if field == "log_e_harm":
        only = changed.differences[0]
        assert (only.where, only.stored) == ("receipt.log_e_harm", 3.0)
        assert only.recomputed == third.receipt["log_e_harm"]
    assert found.transitions[1].same is True


@pytest.mark.parametrize(
    "change",
    [{"step": 3}, {"weight_after_bp": 2000}, {"to_phase": "baking"}, {"reason": "I said so"}],
)
def test_changed_transition_is_found(history: History, change: dict[str, Any]) -> None:
    """Neither can what followed from a decision, nor the reason that was given."""
    history.transitions[2] = replace(history.transitions[2], **change)
    assert replay(history.record, history.transitions, history.facts).same is False


def test_smallest_change_of_a_float_is_found(history: History) -> None:
    """Equal means equal to the last bit."""
    from math import nextafter

    third = history.transitions[2]
    value = nextafter(third.receipt["log_e_harm"], 9.0)
    history.transitions[2] = replace(third, receipt={**third.receipt, "log_e_harm": value})
    assert replay(history.record, history.transitions, history.facts).same is False


def test_removed_transition_is_found(history: History) -> None:
    """A weight that was set by hand and then taken out of the history leaves its traces."""
    del history.transitions[3]
    assert replay(history.record, history.transitions, history.facts).same is False


def test_facts_that_are_gone_are_told(history: History) -> None:
    """Without the first facts nothing can be recomputed, which is no accusation."""
    found = replay(history.record, history.transitions, history.facts[50:])
    assert found.same is None
    assert [each.same for each in found.transitions] == [True, True, None, None]
    assert "1 to 50 are not stored any more" in found.transitions[2].why
    assert found.state.same is None


def test_older_receipt_without_a_moment_can_not_be_decided_again(history: History) -> None:
    """What is missing in a receipt is a difference, and the replay says which."""
    third = history.transitions[2]
    receipt = {name: value for name, value in third.receipt.items() if name != "moment"}
    history.transitions[2] = replace(third, receipt=receipt)
    found = replay(history.record, history.transitions, history.facts)
    assert found.same is False
    assert "moment" in found.transitions[2].why


def test_changed_spec_is_found(history: History) -> None:
    """The spec as it is stored has the hash that the rollout was given."""
    document = history.record.spec.to_document()
    found = replay(history.record, history.transitions, history.facts, document=document)
    assert found.state.same is False
    assert [each.where for each in found.state.differences] == ["spec_hash"]
