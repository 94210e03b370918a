"""The frozen anchor set: the same pairs judged again and again, to see a judge drift. Pure.

Anchors need no known winner, and some are close on purpose: what counts is whether the judge still
says what it said first. A judge, a rubric or a set that changes has a first time of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import comb
from pathlib import Path

import msgspec

from gateway.errors import SettingsError
from shadow.answer import CHAT, Answer, Choice
from shadow.pair import Arm, Pair, Prompt

__all__ = ["Anchor", "AnchorSet", "agreement", "agrees", "has_drifted", "read_anchors"]

DRIFT_ALPHA = 0.01


class Anchor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request with two answers."""

    id: str
    request: str
    first: str
    second: str
    task: str = ""

    def pair(self) -> Pair:
        """Return the pair as the judge is asked it."""
        prompt = Prompt(endpoint=CHAT, messages=({"role": "user", "content": self.request},))
        arms = [Arm(Answer(choices=(Choice(text=text),))) for text in (self.first, self.second)]
        return Pair(prompt, arms[0], arms[1])


@dataclass(frozen=True, slots=True)
class AnchorSet:
    """Anchors with the hash of all that they say."""

    anchors: tuple[Anchor, ...]
    digest: str

    def identity(self, judge: str) -> str:
        """Return the hash of a judge with its rubric (``judge``) and this set."""
        return hashlib.sha256(f"{judge}\0{self.digest}".encode()).hexdigest()


def read_anchors(path: Path | None) -> AnchorSet:
    """Read a set of anchors, by default the package's. Raises `SettingsError` naming the line."""
    field = "judge.health.anchors"
    if path is None:
        text = files("shadow.health").joinpath("anchors.jsonl").read_text(encoding="utf-8")
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise SettingsError(f"can't read {path}: {error}", field=field) from None
    anchors: dict[str, Anchor] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            anchor = msgspec.json.decode(line, type=Anchor)
        except msgspec.MsgspecError as error:
            raise SettingsError(
                f"line {number} is no anchor: {error}; write an object with id, request, first "
                "and second",
                field=field,
            ) from None
        if anchor.id in anchors:
            raise SettingsError(f"line {number} repeats the id {anchor.id!r}", field=field)
        anchors[anchor.id] = anchor
    if not anchors:
        raise SettingsError("the file holds no anchor", field=field)
    digest = hashlib.sha256(msgspec.json.encode(sorted(anchors.values(), key=lambda a: a.id)))
    return AnchorSet(tuple(anchors.values()), digest.hexdigest())


def agrees(score: float, first: float) -> bool:
    """Say whether a verdict names the winner that the first one named, or none as it did."""
    return (score > 0, score < 0) == (first > 0, first < 0)


def agreement(scores: Mapping[str, float], first: Mapping[str, float]) -> Sequence[bool]:
    """Return for each anchor that both know whether they agree."""
    return [agrees(scores[name], first[name]) for name in sorted(scores.keys() & first.keys())]


def has_drifted(agreed: int, asked: int, least: float) -> bool:
    """Say whether agreement is below ``least`` beyond chance: one-sided exact binomial, at 1%."""
    tail = sum(comb(asked, k) * least**k * (1 - least) ** (asked - k) for k in range(agreed + 1))
    return asked > 0 and tail < DRIFT_ALPHA
