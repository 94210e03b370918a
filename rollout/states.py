"""Everything that decides which phase follows which lives in this file, as one table.

An event that the table does not list for the present phase raises :class:`TransitionError` and
nothing happens. The diagram in the README is generated from the table by :func:`mermaid`.
"""

from __future__ import annotations

from enum import StrEnum

from gateway.errors import TransitionError

__all__ = [
    "ACTIVE",
    "FINISHED",
    "TRANSITIONS",
    "Event",
    "Phase",
    "allowed_events",
    "mermaid",
    "next_phase",
]


class Phase(StrEnum):
    """Where a rollout is."""

    PENDING = "pending"
    PREFLIGHT = "preflight"
    SHADOWING = "shadowing"
    PROGRESSING = "progressing"
    BAKING = "baking"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"


class Event(StrEnum):
    """What can happen to a rollout.

    ``shadow``, ``progress``, ``bake``, ``succeed`` and ``drained`` are the controller's, ``pause``
    and ``rollback`` the controller's or an operator's, the others an operator's. ``drained`` says
    that no gateway sends the candidate anything any more.
    """

    START = "start"
    SHADOW = "shadow"
    PROGRESS = "progress"
    BAKE = "bake"
    SUCCEED = "succeed"
    PAUSE = "pause"
    RESUME = "resume"
    APPROVE = "approve"
    SET_WEIGHT = "set_weight"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    DRAINED = "drained"
    ABORT = "abort"
    RETRY = "retry"
    SUPERSEDE = "supersede"


_RUNNING = (Phase.PREFLIGHT, Phase.SHADOWING, Phase.PROGRESSING, Phase.BAKING)

ACTIVE = frozenset({*_RUNNING, Phase.PAUSED})
"""Phases in which evidence is gathered and decided upon."""

FINISHED = frozenset({Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED})
"""Phases that the controller never leaves by itself."""

# A paused rollout returns to the phase that it was paused in; None stands for that phase.
TRANSITIONS: dict[tuple[Phase, Event], Phase | None] = {
    (Phase.PENDING, Event.START): Phase.PREFLIGHT,
    (Phase.PREFLIGHT, Event.SHADOW): Phase.SHADOWING,
    (Phase.SHADOWING, Event.SHADOW): Phase.SHADOWING,
    (Phase.SHADOWING, Event.PROGRESS): Phase.PROGRESSING,
    (Phase.PROGRESSING, Event.PROGRESS): Phase.PROGRESSING,
    (Phase.SHADOWING, Event.BAKE): Phase.BAKING,
    (Phase.PROGRESSING, Event.BAKE): Phase.BAKING,
    (Phase.PROGRESSING, Event.SUCCEED): Phase.SUCCEEDED,
    (Phase.BAKING, Event.SUCCEED): Phase.SUCCEEDED,
    **{(phase, Event.PAUSE): Phase.PAUSED for phase in _RUNNING},
    (Phase.PAUSED, Event.RESUME): None,
    (Phase.PAUSED, Event.APPROVE): None,
    (Phase.SHADOWING, Event.SET_WEIGHT): Phase.PAUSED,
    (Phase.PROGRESSING, Event.SET_WEIGHT): Phase.PAUSED,
    (Phase.BAKING, Event.SET_WEIGHT): Phase.PAUSED,
    (Phase.PAUSED, Event.SET_WEIGHT): Phase.PAUSED,
    (Phase.SHADOWING, Event.PROMOTE): Phase.SUCCEEDED,
    (Phase.PROGRESSING, Event.PROMOTE): Phase.SUCCEEDED,
    (Phase.BAKING, Event.PROMOTE): Phase.SUCCEEDED,
    (Phase.PAUSED, Event.PROMOTE): Phase.SUCCEEDED,
    **{(phase, Event.ROLLBACK): Phase.ROLLING_BACK for phase in (*_RUNNING, Phase.PAUSED)},
    (Phase.SUCCEEDED, Event.ROLLBACK): Phase.ROLLING_BACK,
    # The next step of a gradual rollback; by an operator, all that is left at once.
    (Phase.ROLLING_BACK, Event.ROLLBACK): Phase.ROLLING_BACK,
    (Phase.ROLLING_BACK, Event.DRAINED): Phase.ROLLED_BACK,
    (Phase.PENDING, Event.ABORT): Phase.ABORTED,
    **{(phase, Event.ABORT): Phase.ABORTED for phase in (*_RUNNING, Phase.PAUSED)},
    (Phase.ROLLING_BACK, Event.ABORT): Phase.ABORTED,
    (Phase.PENDING, Event.RETRY): Phase.PREFLIGHT,
    # The generation that failed stays as it is; a new one starts beside it.
    (Phase.ROLLED_BACK, Event.RETRY): Phase.ROLLED_BACK,
    (Phase.ABORTED, Event.RETRY): Phase.ABORTED,
    (Phase.PENDING, Event.SUPERSEDE): Phase.SUPERSEDED,
    **{(phase, Event.SUPERSEDE): Phase.SUPERSEDED for phase in (*_RUNNING, Phase.PAUSED)},
}
"""``(phase, event)`` to the phase that follows; ``None`` is the phase that was paused."""


def next_phase(phase: Phase, event: Event, *, paused_from: Phase | None = None) -> Phase:
    """Return the phase that follows ``phase`` on ``event``.

    ``paused_from`` is the phase that a paused rollout was paused in. Raises
    :class:`TransitionError`, naming event and phase, when the table has no such transition.
    """
    try:
        following = TRANSITIONS[phase, event]
    except KeyError:
        allowed = ", ".join(allowed_events(phase)) or "nothing: it is over"
        raise TransitionError(
            f"{event.value} is not possible while the rollout is {phase.value}; possible: {allowed}"
        ) from None
    if following is not None:
        return following
    if paused_from not in _RUNNING:
        raise TransitionError(f"{event.value}: it is not known in which phase it was paused")
    return paused_from


def allowed_events(phase: Phase) -> tuple[str, ...]:
    """Return the events that the table allows in ``phase``, in the order of :class:`Event`."""
    return tuple(event.value for event in Event if (phase, event) in TRANSITIONS)


def mermaid() -> str:
    """Return the table as a Mermaid state diagram, ending in a newline."""
    lines = ["stateDiagram-v2", "    [*] --> pending: apply"]
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, event), following in TRANSITIONS.items():
        for target in _RUNNING if following is None else (following,):
            arrows.setdefault((phase, target), []).append(event.value)
    lines += [
        f"    {source.value} --> {target.value}: {', '.join(events)}"
        for (source, target), events in arrows.items()
    ]
    lines += [f"    {phase.value} --> [*]" for phase in Phase if phase in FINISHED]
    return "\n".join(lines) + "\n"
