"""Deciding again: every transition of a rollout recomputed from the stored facts, bit for bit.

A replay starts from nothing, folds the facts by their sequence numbers, and at each transition
stops where its receipt says that the decision stood. The receipt is then written again by the same
code from what was folded, and every figure in it is compared: floats must be equal to the last bit.
What the controller decided is decided again; what an operator did is done again, for it changes
what is known from there on (a weight set by hand begins a new epoch).

Pure: :mod:`rollout.replaying` reads the store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.errors import CoalmineError
from gateway.store.evidence import Evidence
from rollout import receipts
from rollout.evidence import start_evidence
from rollout.folding import update
from rollout.policy import decide
from rollout.records import Record, Transition
from rollout.redoing import action_of, begun, done_again, moment_of
from rollout.spec import document_hash
from rollout.states import Event, Phase

__all__ = ["Difference", "Replay", "Replayed", "replay"]

Facts = Iterable[tuple[int, Evidence]]

_MOST_DIFFERENCES = 20
# What is true of the moment of writing, and of nothing that was decided.
_NOT_RECOMPUTED = frozenset({"split_revision", "split_before", "paused", "drained", "restart"})


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure that is not what the facts give. ``where`` is its path in the receipt."""

    where: str
    stored: Any
    recomputed: Any


@dataclass(frozen=True, slots=True)
class Replayed:
    """One transition, recomputed. ``same`` is ``None`` where facts are missing, as ``why`` says."""

    number: int
    at: float
    actor: str
    event: str
    last_seq: int
    same: bool | None
    why: str
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class Replay:
    """All transitions of one generation, and what is known at the end.

    ``same`` is true when everything was recomputed and nothing differs, false when something
    differs, ``None`` when nothing differs but facts are missing. ``state`` compares what is known
    now with what the facts give. ``facts`` were folded.
    """

    name: str
    generation: int
    facts: int
    transitions: tuple[Replayed, ...]
    state: Replayed

    @property
    def same(self) -> bool | None:
        """Whether everything is what the facts give."""
        found = [each.same for each in (*self.transitions, self.state)]
        if False in found:
            return False
        return None if None in found else True


class _Missing(Exception):
    """Facts up to a number are not all there."""


class _Facts:
    """The facts in order, folded into a record up to a number."""

    def __init__(self, facts: Facts) -> None:
        self._facts = iter(facts)
        self._next: tuple[int, Evidence] | None = None
        self.folded = 0

    def fold(self, record: Record, last_seq: int) -> Record:
        """Return the record with the facts up to ``last_seq``. Raises :class:`_Missing`."""
        evidence = record.evidence
        while evidence.last_seq < last_seq:
            wanted = evidence.last_seq + 1
            fact = self._peek()
            if fact is None or fact[0] > wanted:
                upto = last_seq if fact is None else min(last_seq, fact[0] - 1)
                raise _Missing(f"facts {wanted} to {upto} are not stored any more")
            self._next = None
            if fact[0] < wanted:
                continue
            evidence = update(evidence, *fact, record.spec)
            self.folded += 1
        return replace(record, evidence=evidence)

    def _peek(self) -> tuple[int, Evidence] | None:
        if self._next is None:
            self._next = next(self._facts, None)
        return self._next


def replay(
    record: Record,
    history: Sequence[Transition],
    facts: Facts,
    *,
    document: Mapping[str, Any] | None = None,
) -> Replay:
    """Recompute the transitions of ``record``, oldest first, from its ``facts`` in order.

    ``document`` is the spec as it is stored, whose hash is then compared too.
    """
    replayed: list[Replayed] = []
    reader = _Facts(facts)
    known: Record | None = _beginning(record)
    missing = ""
    for transition in history:
        if known is not None:
            try:
                known = reader.fold(known, _last_seq(transition))
            except _Missing as error:
                known, missing = None, str(error)
        if known is None:
            replayed.append(_result(transition, None, missing))
            continue
        try:
            found, known = _again(known, record, transition)
        except (CoalmineError, ValueError, LookupError, TypeError) as error:
            known, missing = None, f"transition {transition.number} can't be done again: {error}"
            replayed.append(_result(transition, False, missing))
            continue
        replayed.append(found)
    state = _state(known, record, reader, missing, document)
    return Replay(record.name, record.generation, reader.folded, tuple(replayed), state)


def _beginning(record: Record) -> Record:
    """Return the record as it was created."""
    return replace(
        record,
        phase=Phase.PENDING,
        step_index=0,
        paused=None,
        revision=0,
        evidence=start_evidence(record.spec),
        epoch=0,
        approved=frozenset(),
        baseline=None,
        baseline_revision=None,
        note="",
        waiting="",
        step_started_at=None,
    )


def _last_seq(transition: Transition) -> int:
    seq = transition.receipt.get("last_seq")
    return seq if isinstance(seq, int) else 0


def _again(known: Record, final: Record, transition: Transition) -> tuple[Replayed, Record]:
    """Return a transition recomputed, and the record after it."""
    stored = transition.receipt
    event = Event(transition.event)
    at_begin = begun(known, stored.get("step_started_at"))
    moved_back = at_begin.step_started_at != known.step_started_at
    known = at_begin
    differences: list[Difference] = []
    decision = None
    if stored.get("action") is not None:
        moment = moment_of(known, transition)
        decision = decide(known.evidence, known.spec, known.status(), moment, with_verdicts=False)
        expected = action_of(known, event)
        differences += _compare("action", expected, decision.action)
        differences += _compare("reason", transition.reason, decision.reason)
    written = receipts.receipt(known, decision, now=transition.at)
    kept = {name: value for name, value in stored.items() if name not in _NOT_RECOMPUTED}
    differences += _compare("receipt", kept, written)
    differences += _compare("from_phase", transition.from_phase, known.phase.value)
    after, weight_bp = done_again(known, final, transition, event)
    differences += _compare("to_phase", transition.to_phase, after.phase.value)
    differences += _compare("step", transition.step, after.step_index)
    differences += _compare("weight_after", transition.weight_after_bp, weight_bp)
    if differences:
        why = f"{len(differences)} figures differ from what the facts give"
        return _result(transition, False, why, differences), after
    how = "decided again: the same" if decision is not None else "done again: the same"
    if moved_back:
        how += "; the clock had been set back, and the step was taken to begin then"
    return _result(transition, True, how), after


def _state(
    known: Record | None,
    final: Record,
    reader: _Facts,
    missing: str,
    document: Mapping[str, Any] | None,
) -> Replayed:
    """Compare what is known now with what the facts give, and the spec with its hash."""
    seq, at = final.evidence.last_seq, final.updated_at
    differences: list[Difference] = []
    if document is not None:
        differences += _compare("spec_hash", final.spec_hash, document_hash(document))
    if known is not None:
        try:
            known = reader.fold(known, seq)
        except _Missing as error:
            known, missing = None, str(error)
    if known is not None:
        known = begun(known, final.step_started_at)
        differences += _compare("evidence", final.evidence.to_json(), known.evidence.to_json())
        for name in ("phase", "step_index", "epoch", "step_started_at"):
            differences += _compare(name, getattr(final, name), getattr(known, name))
        differences += _compare("approved", sorted(final.approved), sorted(known.approved))
    if differences:
        same, why = False, "what is known now is not what the facts give"
    elif known is None:
        same, why = None, missing
    else:
        same, why = True, "what is known now is what the facts give"
    shown = tuple(differences[:_MOST_DIFFERENCES])
    return Replayed(final.revision, at, "", "now", seq, same, why, shown)


def _result(
    transition: Transition,
    same: bool | None,
    why: str,
    differences: Sequence[Difference] = (),
) -> Replayed:
    return Replayed(
        transition.number,
        transition.at,
        transition.actor,
        transition.event,
        _last_seq(transition),
        same,
        why,
        tuple(differences[:_MOST_DIFFERENCES]),
    )


def _compare(where: str, stored: Any, recomputed: Any) -> Iterator[Difference]:
    """Yield what differs, to the last bit, between two JSON values."""
    stored, recomputed = _plain(stored), _plain(recomputed)
    if isinstance(stored, Mapping) and isinstance(recomputed, Mapping):
        for name in sorted({*stored, *recomputed}):
            yield from _compare(f"{where}.{name}", stored.get(name), recomputed.get(name))
    elif isinstance(stored, list) and isinstance(recomputed, list):
        if len(stored) != len(recomputed):
            yield Difference(where, stored, recomputed)
            return
        for index, pair in enumerate(zip(stored, recomputed, strict=True)):
            yield from _compare(f"{where}.{index}", *pair)
    elif stored != recomputed:
        yield Difference(where, stored, recomputed)


def _plain(value: Any) -> Any:
    """Return a value as it comes back out of JSON, in which floats keep every bit."""
    return json.loads(json.dumps(value))
