"""Label Studio's formats: tasks out, annotations in, nothing lost on the way."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from rollout.label_studio import CONFIG, ITEM, Annotation, Refused, read_export, task
from rollout.labelling import CATEGORIES
from rollout.review_view import Shown, Turn


def annotation(*results: Any, **more: Any) -> dict[str, Any]:
    """An annotation as Label Studio exports it."""
    return {
        "id": 1001,
        "completed_by": {"id": 7, "email": "ann@example.com", "first_name": "", "last_name": ""},
        "result": list(results),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-03-09T22:16:08.728353Z",
        "lead_time": 4.288,
        **more,
    }


def better(side: str) -> dict[str, Any]:
    """What the pairwise control says."""
    return {
        "id": "Dx_aB91ISN",
        "type": "pairwise",
        "from_name": "better",
        "to_name": "left,right",
        "origin": "manual",
        "value": {"selected": side},
    }


def choice(control: str, *names: str) -> dict[str, Any]:
    """What a control of choices says."""
    return {
        "type": "choices",
        "from_name": control,
        "to_name": "conversation",
        "value": {"choices": list(names)},
    }


def note(text: str) -> dict[str, Any]:
    """What the text area says."""
    return {
        "type": "textarea",
        "from_name": "note",
        "to_name": "conversation",
        "value": {"text": [text]},
    }


def exported(*annotations: Any, item: Any = 12) -> list[Any]:
    """A project of one task."""
    return [{"id": 1, "data": {ITEM: item, "left": "a"}, "annotations": list(annotations)}]


def test_the_configuration_has_a_control_for_everything_that_is_read() -> None:
    """It is XML, names the fields of the tasks, and offers each verdict and category."""
    root = ET.fromstring(CONFIG)
    assert {each.get("value") for each in root.iter("Text")} == {"$conversation", "$left", "$right"}
    (pairwise,) = root.iter("Pairwise")
    assert (pairwise.get("name"), pairwise.get("toName")) == ("better", "left,right")
    offered = {
        control.get("name"): [each.get("value") for each in control.iter("Choice")]
        for control in root.iter("Choices")
    }
    assert offered == {"verdict": ["Tie", "Both bad", "Skip"], "categories": list(CATEGORIES)}
    assert [each.get("name") for each in root.iter("TextArea")] == ["note"]


def test_a_task_shows_what_a_reviewer_sees_and_nothing_more() -> None:
    """The item's id, the conversation as text, both answers."""
    shown = Shown((Turn("system", "be brief"), Turn("user", "why?")), ("search",), "L", "R")
    assert task(12, shown) == {
        "data": {
            ITEM: 12,
            "conversation": "system: be brief\n\nuser: why?\n\n[tools: search]",
            "left": "L",
            "right": "R",
        }
    }


@pytest.mark.parametrize(
    ("results", "more", "verdict"),
    [
        ([better("left")], {}, "left"),
        ([better("right"), note("because")], {}, "right"),
        ([choice("verdict", "Tie")], {}, "tie"),
        ([choice("verdict", "Both bad")], {}, "both_bad"),
        ([choice("verdict", "Skip")], {}, "skip"),
        ([], {"was_cancelled": True}, "skip"),
    ],
)
def test_each_verdict_is_read(results: Any, more: Any, verdict: str) -> None:
    """Left, right and what is neither; a cancelled annotation is a skip."""
    (found,) = read_export(exported(annotation(*results, **more)))
    assert isinstance(found, Annotation)
    assert (found.item_id, found.verdict, found.seconds) == (12, verdict, 4.288)


def test_categories_note_and_annotator_are_kept() -> None:
    """By e-mail where the export has it, by number where it has not."""
    said = [better("left"), choice("categories", "accuracy", "safety"), note("wrong law")]
    one, other = read_export(
        exported(annotation(*said), annotation(better("right"), completed_by=10))
    )
    assert isinstance(one, Annotation)
    assert isinstance(other, Annotation)
    assert (one.categories, one.note) == (("accuracy", "safety"), "wrong law")
    assert (one.reviewer, other.reviewer) == ("label-studio:ann@example.com", "label-studio:10")


@pytest.mark.parametrize(
    ("tasks", "row", "reason"),
    [
        (["x"], "tasks.0", "export the project as JSON"),
        ([{"data": {ITEM: 1}}], "tasks.0", "export the project as JSON"),
        (exported(annotation(better("left")), item="12"), f"tasks.0.data.{ITEM}", "none of ours"),
        (exported(annotation(better("left")), item=None), f"tasks.0.data.{ITEM}", "none of ours"),
        (exported({"id": 1}), "tasks.0.annotations.0", "no result"),
        (exported(annotation()), "tasks.0.annotations.0.result", "no verdict, or two"),
        (
            exported(annotation(better("left"), choice("verdict", "Tie"))),
            "tasks.0.annotations.0.result",
            "no verdict, or two",
        ),
        (
            exported(annotation(better("left"), completed_by=None)),
            "tasks.0.annotations.0.completed_by",
            "nobody is known",
        ),
        (
            exported(annotation(better("left"), choice("categories", "charm"))),
            "tasks.0.annotations.0.result",
            "'charm' is unknown",
        ),
        (
            exported(annotation(better("left"), note("x" * 4001))),
            "tasks.0.annotations.0.result",
            "over 4000",
        ),
    ],
)
def test_what_cant_be_read_is_named_with_its_place(tasks: Any, row: str, reason: str) -> None:
    """No row is dropped in silence, and the rows beside it are read."""
    (found, fine) = read_export([*tasks, *exported(annotation(better("left")), item=13)])
    assert isinstance(found, Refused)
    assert (found.row, reason in found.reason) == (row, True)
    assert isinstance(fine, Annotation)


def test_of_two_by_one_person_the_last_holds() -> None:
    """The first is named too, so that importing twice comes to the same."""
    first, second = read_export(exported(annotation(better("left")), annotation(better("right"))))
    assert isinstance(first, Refused)
    assert "tasks.0.annotations.1; that holds" in first.reason
    assert isinstance(second, Annotation)
    assert second.verdict == "right"


def test_tasks_that_nobody_annotated_say_nothing() -> None:
    """They are no error."""
    assert read_export(exported()) == []
