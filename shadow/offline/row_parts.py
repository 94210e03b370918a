"""What every row of an export has: where it comes from, which split, and its one line of JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.settings import Contract
from shadow.answer import Answer
from shadow.offline.canonical import canonical, digest
from shadow.offline.cases import Provenance
from shadow.offline.conversation import last_words
from shadow.offline.material import Material, Preferred, Source, preferred
from shadow.offline.request import ExportRequest
from shadow.offline.splits import group_of, split_of

__all__ = ["CUT", "Origin", "Row", "choice_of", "make_row", "provenance_of", "whole_text"]

CUT = frozenset({"length", "content_filter", "max_output_tokens"})
"""Finish reasons of an answer that nobody should learn to give, or be measured against."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What all rows of an export have in common."""

    rollout: str
    generation: int
    baseline: str | None
    baseline_revision: str | None
    candidate: str | None
    candidate_revision: str | None
    rubric_hash: str | None
    code_version: str
    contract: Contract | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `key` makes it the same row in every export, `body` is its line of JSON.

    `hash` is that of all but its metadata, `prompt` that of its conversation; `words` is what it is
    known by among near duplicates.
    """

    key: str
    hash: str
    prompt: str
    words: str
    group: str
    split: str
    segment: str | None
    source: Source
    body: str


def make_row(
    material: Material,
    provenance: Provenance,
    *,
    asked: dict[str, Any],
    key: dict[str, Any],
    body: dict[str, Any],
) -> Row:
    """Return a row: `asked` is its conversation, `key` what makes it the same row again."""
    return Row(
        key=digest(key)[:32],
        hash=digest({name: value for name, value in body.items() if name != "metadata"}),
        prompt=digest(asked),
        words=last_words(material.prompt.messages),
        group=provenance.group,
        split=provenance.split,
        segment=material.segment,
        source=provenance.source,
        body=canonical(body),
    )


def choice_of(material: Material, request: ExportRequest) -> Preferred | str:
    """Return the better answer as far as the request takes it, or why not."""
    choice = preferred(material, metric=request.metric)
    if isinstance(choice, str):
        return choice
    if request.sources and choice.source not in request.sources:
        return "other_source"
    if choice.score < request.min_score:
        return "below_min_score"
    if request.min_margin is not None and (choice.margin or 0.0) < request.min_margin:
        return "below_min_margin"
    return choice


def provenance_of(
    material: Material, request: ExportRequest, origin: Origin, choice: Preferred | None
) -> Provenance:
    """Return where a row comes from; without a `choice` nobody said which answer is better."""
    group = group_of(material.user, material.prompt.messages)
    models = {each.model for each in material.judged}
    rubrics = {each.rubric_hash for each in material.judged if each.rubric_hash}
    return Provenance(
        rollout=origin.rollout,
        generation=origin.generation,
        pair_id=material.pair_id,
        capture_id=material.capture_id,
        request_id=material.request_id,
        source=choice.source if choice else "capture",
        checks=list(choice.checks) if choice else [],
        score=choice.score if choice else None,
        margin=choice.margin if choice else None,
        chosen=choice.winner if choice else None,
        segment=material.segment,
        risk=material.risk,
        group=group,
        split=split_of(group, salt=request.salt, shares=request.splits),
        baseline=origin.baseline,
        baseline_revision=origin.baseline_revision,
        candidate=origin.candidate,
        candidate_revision=origin.candidate_revision,
        judge=", ".join(sorted(models)) or None,
        rubric_hash=", ".join(sorted(rubrics)) or (origin.rubric_hash if models else None),
        code_version=origin.code_version,
        captured_at=material.captured_at,
        finished_at=material.finished_at,
    )


def whole_text(answer: Answer | None) -> str | None:
    """Return the text of an answer that is whole; a tool call has none."""
    if answer is None or answer.error is not None or answer.finish_reason in CUT:
        return None
    return answer.text or None
