"""A local classifier decides where the rules are not sure; its failures change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import Settings
from gateway.settings_local import LocalModelSettings
from shadow.checks.refusal_rate import check
from shadow.checks.stance import read_stance
from shadow.local import Item, LocalModel
from shadow.refusal import LocalDecider, with_stances
from shadow.refusal.local import LOOKED_AT_CHARS

Build = Callable[..., Any]

SURE = "I'm sorry, but I can't help with that."
UNSURE = "This is a sensitive matter, and I'm sorry that I have to leave it at that."
HELPS = "Unfortunately the shop is closed on Monday."


class _Classifier:
    """Stands for a loaded model: refuses where `leave it` stands. Keeps what it was asked."""

    labels: tuple[str, ...] = ("helps", "Refusal")

    def __init__(self, *, fail: bool = False) -> None:
        self.seen: list[Item] = []
        self.fail = fail

    def score(self, items: Sequence[Item]) -> list[tuple[float, ...] | None]:
        if self.fail:
            raise RuntimeError("a customer's words")
        self.seen += items
        return [(0.0, 4.0) if "leave it" in str(item) else (4.0, 0.0) for item in items]


class _NoMoney:
    """A budget that nothing may be spent from."""

    async def reserve(self, *, calls: int, microusd: int) -> bool:
        raise AssertionError("a local model costs nothing")

    async def settle(self, *, calls: int, microusd: int) -> None:
        raise AssertionError("a local model costs nothing")


def _decide(pair: Any, inner: _Classifier, *labels: str) -> tuple[Any, list[str]]:
    heard: list[str] = []

    async def scenario() -> Any:
        settings = LocalModelSettings.model_validate({"path": "anywhere"})
        model = LocalModel(settings, field="refusal.local", load=lambda: inner)
        decider = LocalDecider(model, labels=labels or ("refusal",), threshold=0.5)
        try:
            return await with_stances(
                pair, decider, _NoMoney(), lambda name, each: heard.append(f"{name} {each.result}")
            )
        finally:
            await decider.close()

    return asyncio.run(scenario()), heard


def test_only_what_the_rules_are_not_sure_of_is_asked(pair: Build) -> None:
    """A plain refusal costs no call; a doubtful answer is read by the model."""
    assert [read_stance(text).sure for text in (SURE, UNSURE, HELPS)] == [True, False, False]
    inner = _Classifier()
    made, heard = _decide(pair(SURE, UNSURE), inner)
    assert inner.seen == [UNSURE]
    assert heard == ["local decided"]
    found = check(made)
    assert (found.baseline.bit(), found.baseline.flags) == (1, ())
    assert (found.candidate.bit(), found.candidate.flags) == (1, ("decided_by_model",))
    assert check(pair(SURE, UNSURE)).candidate.bit() == 0


def test_what_is_no_refusal_keeps_the_rules_stance(pair: Build) -> None:
    """And partial help is what remains of a refusal that the model does not see."""
    long = (
        "I can't help with that part. " + "It opens at nine and closes at five on most days. " * 4
    )
    assert (read_stance(long).stance, read_stance(long).sure) == ("refused", False)
    made, _ = _decide(pair(HELPS, long), _Classifier())
    assert made.baseline.stances == ("complied",)
    assert made.candidate.stances == ("partial",)
    assert check(made).candidate.bit() == 0


@pytest.mark.parametrize("labels", [("toxic",), ("refusal",)])
def test_a_model_that_fails_or_has_other_labels_changes_nothing(
    pair: Build, labels: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """The rules' reading stands, and the log says why without the answer's words."""
    made, heard = _decide(pair("x", UNSURE), _Classifier(fail=labels == ("refusal",)), *labels)
    assert heard == ["local failed"]
    assert made.candidate.stances == ()
    assert "sensitive" not in caplog.text
    assert "customer" not in caplog.text
    assert "refusal" in caplog.text


def test_a_long_answer_is_read_by_its_start(pair: Build) -> None:
    """A refusal stands there, and the classifier's window is small."""
    inner = _Classifier()
    _decide(pair("x", SURE + " More about it. " * 300), inner)
    assert [len(str(item)) for item in inner.seen] == [LOOKED_AT_CHARS]


def test_the_settings_name_a_model_where_one_is_needed() -> None:
    """A decider without its model, and a judge that is not declared, are errors."""
    for refusal, match in (
        ({"decider": "local"}, "belongs to decider: local"),
        ({"local": {"path": "x"}}, "belongs to decider: local"),
        ({"decider": "judge"}, "no judge is declared"),
    ):
        with pytest.raises(ValidationError, match=match):
            Settings.model_validate({"refusal": refusal})
    chosen = Settings.model_validate({"refusal": {"decider": "local", "local": {"path": "x"}}})
    assert chosen.refusal.local is not None
