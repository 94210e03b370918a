"""A real reward model as the judge's first stage: from settings to judgments in the store."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.settings import Settings
from gateway.store import open_store
from shadow.answer import Answer, Choice
from shadow.judge import Cascade, Judged, Situation
from shadow.judge.build import build_judge
from shadow.pair import Arm, Pair, read_prompt

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("default"),  # those of torch and transformers are not ours
]


class _NoBudget:
    """A budget in which nothing is left, so that only a local verdict can come."""

    async def reserve(self, *, calls: int, microusd: int) -> bool:
        return False

    async def settle(self, *, calls: int, microusd: int) -> None:
        raise AssertionError((calls, microusd))


def _settings(model: Path, **local: Any) -> Settings:
    return Settings.model_validate(
        {
            "deployments": {
                "v6": {"base_url": "http://127.0.0.1:1/v1", "model": "m"},
                "judge": {"base_url": "http://127.0.0.1:1/v1", "model": "j"},
            },
            "routes": {"bot": {"baseline": "v6"}},
            "judge": {
                "deployment": "judge",
                "first_stage": {
                    "local": {"path": str(model), "device": "cpu", "temperature": 0.5, **local},
                    "audit": 0.01,
                },
            },
        }
    )


async def _judged(settings: Settings, tmp_path: Path, *pairs: tuple[str, str]) -> list[Judged]:
    store = open_store(f"sqlite:///{tmp_path / 'c.db'}")
    store.migrate()
    judge = build_judge(settings, store, environ={}, rng=Random(2))
    assert isinstance(judge, Cascade)
    body = {"messages": [{"role": "user", "content": "a question"}]}
    prompt = read_prompt(endpoint="chat/completions", body=json.dumps(body))
    try:
        return [
            await judge.compare(
                Pair(prompt, Arm(Answer((Choice(one),))), Arm(Answer((Choice(other),)))),
                _NoBudget(),
                Situation("bot"),
            )
            for one, other in pairs
        ]
    finally:
        await judge.close()
        store.close()


async def test_the_better_answer_wins_without_a_call(reward_model: Path, tmp_path: Path) -> None:
    """Clear pairs cost nothing: the reward model decides, either way round."""
    good, bad = "the answer is good good", "the answer is bad bad"
    win, loss = await _judged(_settings(reward_model), tmp_path, (bad, good), (good, bad))
    assert win.comparison is not None
    assert loss.comparison is not None
    assert (win.comparison.result, loss.comparison.result) == ("win", "loss")
    assert (win.stage, win.judgments[0].model) == ("first", f"local:{reward_model.name}")


async def test_what_it_can_t_tell_goes_to_the_judge(reward_model: Path, tmp_path: Path) -> None:
    """A tie is the judge's to decide; without a budget for it the pair has no verdict."""
    (tie,) = await _judged(_settings(reward_model), tmp_path, ("the answer is", "answer the is"))
    assert (tie.status, tie.asked) == ("budget_exhausted", "tie")


async def test_a_classifier_of_pairs_judges_in_both_orders(
    classifier: Path, tmp_path: Path
) -> None:
    """Its classes are named in the settings; both orders are judged and kept."""
    settings = _settings(
        classifier, kind="pairwise", label_a="fine", label_b="poor", label_tie="so-so"
    )
    (judged,) = await _judged(settings, tmp_path, ("good good", "bad bad"))
    first = [each for each in judged.judgments if each.stage == "first"]
    assert [each.order for each in first] == ["AB", "BA"]
    assert all(each.verdict is not None for each in first)
