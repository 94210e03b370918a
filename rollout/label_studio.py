"""Review items as tasks of Label Studio, and its JSON export as verdicts. Pure.

A task's ``data`` holds the item's id, the conversation and both answers, blind as everywhere. The
labelling interface is Label Studio's pairwise template with two controls beside it: ``verdict`` for
what is neither left nor right, ``categories`` and ``note``. Reviewers are known by the e-mail that
the export gives, or by their number in Label Studio, as ``label-studio:WHO``.

Formats: labelstud.io/guide/task_format, labelstud.io/tags/pairwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollout.labelling import CATEGORIES
from rollout.review_view import Shown

__all__ = ["CONFIG", "ITEM", "Annotation", "Refused", "read_export", "task"]

ITEM = "coalmine_item"
"""The field of a task's data that holds our item's id."""

MAX_NOTE = 4000

_CHOICES = {"Tie": "tie", "Both bad": "both_bad", "Skip": "skip"}

CONFIG = f"""<View>
  <Header value="Which answer is better?"/>
  <Text name="conversation" value="$conversation"/>
  <Pairwise name="better" toName="left,right"/>
  <View style="display: flex;">
    <View style="flex: 1; margin-right: 1em;"><Text name="left" value="$left"/></View>
    <View style="flex: 1;"><Text name="right" value="$right"/></View>
  </View>
  <Choices name="verdict" toName="conversation" choice="single" showInline="true">
    {" ".join(f'<Choice value="{name}"/>' for name in _CHOICES)}
  </Choices>
  <Choices name="categories" toName="conversation" choice="multiple" showInline="true">
    {" ".join(f'<Choice value="{name}"/>' for name in CATEGORIES)}
  </Choices>
  <TextArea name="note" toName="conversation" rows="2" placeholder="Why?"/>
</View>
"""
"""The labelling configuration that a project for these tasks needs."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One person's verdict out of an export. ``row`` says where it stands there."""

    row: str
    item_id: int
    reviewer: str
    verdict: str
    categories: tuple[str, ...] = ()
    note: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A row of an export that can't be read, and why."""

    row: str
    reason: str


def task(item_id: int, shown: Shown) -> dict[str, Any]:
    """Return an item as a task to import into Label Studio."""
    conversation = "\n\n".join(f"{turn.role}: {turn.text}" for turn in shown.conversation)
    if shown.tools:
        conversation += f"\n\n[tools: {', '.join(shown.tools)}]"
    return {
        "data": {
            ITEM: item_id,
            "conversation": conversation,
            "left": shown.left,
            "right": shown.right,
        }
    }


def read_export(tasks: Sequence[Any]) -> list[Annotation | Refused]:
    """Read a JSON export: one entry for each annotation, in its order; none is passed over.

    Tasks without annotations say nothing. An annotation that was cancelled in Label Studio is a
    skip. Of several by one person on one item the last holds, so that reading it again is the same.
    """
    found: list[Annotation | Refused] = []
    for number, each in enumerate(tasks):
        row = f"tasks.{number}"
        data = each.get("data") if isinstance(each, Mapping) else None
        annotations = each.get("annotations") if isinstance(each, Mapping) else None
        if not isinstance(data, Mapping) or not isinstance(annotations, list):
            found.append(
                Refused(row, "is no task; export the project as JSON, not JSON-MIN or CSV")
            )
            continue
        item_id = data.get(ITEM)
        if not isinstance(item_id, int) or isinstance(item_id, bool):
            found.append(Refused(f"{row}.data.{ITEM}", "is missing; the task is none of ours"))
            continue
        found += [
            _annotation(f"{row}.annotations.{index}", item_id, annotation)
            for index, annotation in enumerate(annotations)
        ]
    last = {(e.item_id, e.reviewer): e.row for e in found if isinstance(e, Annotation)}
    return [_if_last(each, last) for each in found]


def _if_last(
    each: Annotation | Refused, last: Mapping[tuple[int, str], str]
) -> Annotation | Refused:
    if isinstance(each, Refused) or last[each.item_id, each.reviewer] == each.row:
        return each
    return Refused(
        each.row,
        f"{each.reviewer} annotated item {each.item_id} again, in "
        f"{last[each.item_id, each.reviewer]}; that holds",
    )


def _annotation(row: str, item_id: int, annotation: Any) -> Annotation | Refused:
    if not isinstance(annotation, Mapping) or not isinstance(annotation.get("result"), list):
        return Refused(row, "is no annotation: it has no result")
    reviewer = _reviewer(annotation.get("completed_by"))
    if reviewer is None:
        return Refused(f"{row}.completed_by", "is missing; nobody is known to have said this")
    said: dict[str, Any] = {}
    for result in annotation["result"]:
        if isinstance(result, Mapping) and isinstance(result.get("value"), Mapping):
            said[str(result.get("from_name"))] = result["value"]
    verdict = "skip" if annotation.get("was_cancelled") else _verdict(said)
    if verdict is None:
        return Refused(
            f"{row}.result",
            "has no verdict, or two: choose left, right, Tie, Both bad or Skip, and only one",
        )
    chosen = _list(said.get("categories", {}).get("choices"))
    unknown = [name for name in chosen if name not in CATEGORIES]
    if unknown:
        return Refused(
            f"{row}.result", f"category {unknown[0]!r} is unknown; known: {', '.join(CATEGORIES)}"
        )
    note = "\n".join(_list(said.get("note", {}).get("text")))
    if len(note) > MAX_NOTE:
        return Refused(f"{row}.result", f"the note is over {MAX_NOTE} characters")
    seconds = annotation.get("lead_time")
    return Annotation(
        row=row,
        item_id=item_id,
        reviewer=reviewer,
        verdict=verdict,
        categories=tuple(dict.fromkeys(chosen)),
        note=note,
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
    )


def _verdict(said: Mapping[str, Any]) -> str | None:
    """Return the one verdict that controls agree on; ``None`` for none, or for two."""
    side = said.get("better", {}).get("selected")
    choices = _list(said.get("verdict", {}).get("choices"))
    found = [side] if side in {"left", "right"} else []
    found += [_CHOICES[name] for name in choices if name in _CHOICES]
    return found[0] if len(found) == 1 else None


def _reviewer(completed_by: Any) -> str | None:
    """Return who annotated: by e-mail where the export says it, else by Label Studio's number."""
    who = completed_by
    if isinstance(completed_by, Mapping):
        who = completed_by.get("email") or completed_by.get("id")
    if isinstance(who, bool) or not isinstance(who, int | str) or who == "":
        return None
    return f"label-studio:{who}"


def _list(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
