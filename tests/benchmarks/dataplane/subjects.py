"""What is measured: the gateway in two settings, and the peers that are on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dataplane.ours import gateway
from dataplane.peers import PEERS, program, version
from dataplane.started import Started

__all__ = ["Subject", "subjects"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A program to measure; ``prepare`` writes its settings for an upstream's port."""

    name: str
    version: str
    prepare: Callable[[Path, int], Started]


def subjects(
    folder: Path, wanted: Sequence[str] | None, *, compiled: Path
) -> tuple[list[Subject], dict[str, str]]:
    """Return what to measure, and why each of the other peers is not measured.

    ``folder`` holds the peers' environments; ``wanted`` limits the peers (``None``: all).
    ``compiled`` is the gateway's code with its hot path compiled.
    """
    ours = version("coalmine", None)
    found = [
        Subject("ours-bare", ours, partial(gateway, everything=False, code=compiled)),
        Subject("ours", ours, partial(gateway, everything=True, code=compiled)),
        Subject("ours-interpreted", ours, partial(gateway, everything=True, code=None)),
    ]
    unmeasured = {}
    for name, prepare in PEERS.items():
        path = program(name, folder)
        if wanted is not None and name not in wanted:
            unmeasured[name] = "left out"
        elif path is None:
            unmeasured[name] = "not on this machine"
        else:
            found.append(Subject(name, version(name, path), partial(prepare, path)))
    return found, unmeasured
