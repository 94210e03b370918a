"""The table of transitions."""

from __future__ import annotations

import pytest

from gateway.errors import TransitionError
from rollout.states import (
    ACTIVE,
    FINISHED,
    TRANSITIONS,
    Event,
    Phase,
    allowed_events,
    mermaid,
    next_phase,
)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", Event)
def test_every_pair_follows_the_table_or_raises(phase: Phase, event: Event) -> None:
    """An event that the table does not list raises and names event and phase."""
    if (phase, event) in TRANSITIONS:
        expected = TRANSITIONS[phase, event] or Phase.SHADOWING
        assert next_phase(phase, event, paused_from=Phase.SHADOWING) is expected
        return
    with pytest.raises(TransitionError) as caught:
        next_phase(phase, event)
    assert event.value in str(caught.value)
    assert phase.value in str(caught.value)


def test_abort_is_possible_in_every_phase_that_is_not_over() -> None:
    """Abort always wins: nothing unfinished refuses it."""
    for phase in set(Phase) - FINISHED:
        assert next_phase(phase, Event.ABORT) is Phase.ABORTED


def test_every_active_phase_can_roll_back_and_be_superseded() -> None:
    """Users can be taken off the candidate from wherever the rollout is."""
    for phase in ACTIVE:
        assert next_phase(phase, Event.ROLLBACK) is Phase.ROLLING_BACK
        assert next_phase(phase, Event.SUPERSEDE) is Phase.SUPERSEDED


def test_finished_rollouts_never_start_again_by_themselves() -> None:
    """From a finished phase only a retry (which leaves it as it is) or a rollback lead on."""
    for phase in FINISHED:
        assert set(allowed_events(phase)) <= {"retry", "rollback"}
    assert next_phase(Phase.ROLLED_BACK, Event.RETRY) is Phase.ROLLED_BACK


def test_paused_rollout_returns_to_where_it_was() -> None:
    """Resume leads back to the phase that was paused, which has to be known."""
    assert next_phase(Phase.PAUSED, Event.RESUME, paused_from=Phase.BAKING) is Phase.BAKING
    with pytest.raises(TransitionError, match="in which phase"):
        next_phase(Phase.PAUSED, Event.RESUME)


def test_every_phase_can_be_reached() -> None:
    """No phase is dead: each is the start or the result of some transition."""
    reached = {phase for phase in TRANSITIONS.values() if phase} | {Phase.PENDING}
    assert reached == set(Phase)


def test_diagram_has_every_transition_of_the_table() -> None:
    """The README's diagram is drawn from the table and leaves nothing out."""
    lines = mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    for (phase, event), following in TRANSITIONS.items():
        targets = [following] if following else [Phase.PREFLIGHT, Phase.BAKING]
        for target in targets:
            arrow = next(x for x in lines if x.strip().startswith(f"{phase} --> {target}:"))
            assert event.value in arrow
