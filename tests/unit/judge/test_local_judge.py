"""A local model as the first judge: rewards and classes become verdicts, faults become values."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import SettingsError
from gateway.settings import Settings
from gateway.settings_judge import LocalJudge
from shadow.answer import Answer, Choice, ToolCall
from shadow.judge import Judged
from shadow.judge.build import build_judge
from shadow.judge.local_judge import LocalFirstJudge
from shadow.local import Chat, Item, LocalModel
from shadow.pair import Arm, Pair, Prompt

NO_BUDGET: Any = None  # nothing is spent
PROMPT = Prompt(
    "chat/completions",
    (
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url"}]},
    ),
)


class Model:
    """Stands for a loaded model; keeps what it was asked."""

    def __init__(self, labels: Sequence[str], score: Any) -> None:
        self.labels = tuple(labels)
        self._score = score
        self.items: list[Item] = []

    def score(self, items: Sequence[Item]) -> list[tuple[float, ...] | None]:
        """Score by the function given."""
        self.items.extend(items)
        return [self._score(item) for item in items]


def compare(model: Model, baseline: Answer, candidate: Answer, **settings: Any) -> Judged:
    """Compare two answers by a model."""
    declared = LocalJudge.model_validate({"path": "models/reward", **settings})

    async def scenario() -> Judged:
        local = LocalModel(declared, field="f", load=lambda: model)
        judge = LocalFirstJudge(declared, field="judge.first_stage.local", model=local)
        try:
            return await judge.compare(Pair(PROMPT, Arm(baseline), Arm(candidate)), NO_BUDGET)
        finally:
            await judge.close()

    return asyncio.run(scenario())


def text(words: str) -> Answer:
    """Return an answer of text."""
    return Answer((Choice(words),))


def reward(item: Item) -> tuple[float, ...]:
    """Return the number in the answer."""
    assert isinstance(item, Chat)
    return (float(item.messages[-1]["content"]),)


@pytest.mark.parametrize(
    ("baseline", "candidate", "result"),
    [("0", "2", "win"), ("2", "0", "loss"), ("1", "1.3", "tie"), ("1", "1.5", "win")],
)
def test_the_higher_reward_wins_outside_the_tie_band(
    baseline: str, candidate: str, result: str
) -> None:
    """A tie within a tenth of one half, which is a difference of about 0.4."""
    judged = compare(Model(["R"], reward), text(baseline), text(candidate))
    assert judged.comparison is not None
    assert judged.comparison.result == result
    (judgment,) = judged.judgments
    assert (judgment.stage, judgment.model, judgment.order) == ("first", "local:reward", "AB")
    assert judgment.verdict is not None
    assert "rewards" in judgment.verdict.evidence
    assert judgment.kept is None


def test_the_temperature_flattens_the_difference() -> None:
    """The same rewards are a tie when the temperature is high."""
    judged = compare(Model(["R"], reward), text("0"), text("2"), temperature=20)
    assert judged.comparison is not None
    assert judged.comparison.result == "tie"


def test_the_model_reads_the_whole_conversation() -> None:
    """Roles and texts of all messages, other parts by name, and the answer with its tool calls."""
    model = Model(["R"], lambda _item: (0.0,))
    called = Answer((Choice("", tool_calls=(ToolCall("find", "{}"),)),))
    compare(model, text("one"), called)
    first, second = model.items
    assert isinstance(first, Chat)
    assert isinstance(second, Chat)
    assert first.messages[:2] == (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi\n[image_url]"},
    )
    assert first.messages[2] == {"role": "assistant", "content": "one"}
    assert '"find"' in second.messages[2]["content"]


def test_a_pairwise_classifier_is_asked_in_both_orders() -> None:
    """One that always prefers A is inconsistent; one that reads is not."""
    labels = ("A", "B", "tie")
    biased = compare(
        Model(labels, lambda _item: (3.0, 0.0, 0.0)), text("x"), text("y"), kind="pairwise"
    )
    assert biased.comparison is not None
    assert biased.comparison.result == "inconsistent"
    assert [each.order for each in biased.judgments] == ["AB", "BA"]

    def reads(item: Item) -> tuple[float, ...]:
        assert isinstance(item, tuple)
        return (3.0, 0.0, 0.0) if item[0].endswith("A: good") else (0.0, 3.0, 0.0)

    fair = compare(Model(labels, reads), text("good"), text("bad"), kind="pairwise")
    assert fair.comparison is not None
    assert fair.comparison.result == "loss"


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        (Model(["a", "b"], lambda _item: (0.0, 1.0)), {}, "kind"),
        (Model(["a", "b"], lambda _item: (0.0, 1.0)), {"kind": "pairwise"}, "label_a"),
    ],
)
def test_a_model_of_the_wrong_kind_is_an_error_that_names_the_setting(
    model: Model, settings: dict[str, Any], said: str
) -> None:
    """The pair goes on to the final stage; the judgment says what to change."""
    judged = compare(model, text("x"), text("y"), **settings)
    assert judged.status == "judge_error"
    assert f"judge.first_stage.local.{said}" in judged.reason
    assert judged.judgments[0].error == judged.reason


def test_what_is_too_long_is_not_judged_here() -> None:
    """An answer that the model could read in part only gets no verdict from it."""
    model = Model(["R"], lambda item: None if "long" in str(item) else (1.0,))
    judged = compare(model, text("long"), text("short"))
    assert (judged.status, judged.reason) == ("unjudgeable", "unjudgeable_length")


def test_a_folder_without_a_model_stops_the_worker_at_its_start(tmp_path: Path) -> None:
    """Whether extra or model is missing: said before a pair is claimed, with the field."""
    settings = Settings.model_validate(
        {
            "deployments": {"judge": {"base_url": "http://127.0.0.1:1/v1", "model": "j"}},
            "judge": {
                "deployment": "judge",
                "first_stage": {"local": {"path": str(tmp_path / "none")}},
            },
        }
    )
    store: Any = None  # not touched while a judge is put together
    with pytest.raises(SettingsError) as caught:
        build_judge(settings, store, environ={})
    assert str(caught.value.field).startswith("judge.first_stage.local")
