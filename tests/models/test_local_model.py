"""Local models with the real transformers and torch, on very small weights."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.settings_local import LocalModelSettings
from shadow.local import Chat, LocalModel

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("default"),  # those of torch and transformers are not ours
]

_GOOD = "the answer is good good good"
_BAD = "the answer is bad bad bad"


def _settings(path: Path, **changes: object) -> LocalModelSettings:
    return LocalModelSettings.model_validate({"path": path, "device": "cpu", **changes})


def _chat(answer: str) -> Chat:
    return Chat(
        (
            {"role": "user", "content": "a question"},
            {"role": "assistant", "content": answer},
        )
    )


async def test_a_reward_model_scores_conversations(reward_model: Path) -> None:
    """One logit for each conversation, the better answer's the higher one."""
    model = LocalModel(_settings(reward_model), field="judge.first_stage.local")
    good, bad = await model.score([_chat(_GOOD), _chat(_BAD)])
    await model.close()
    assert good is not None
    assert bad is not None
    assert good.labels == ("REWARD",)
    assert good.logits[0] > 0.3 > -0.3 > bad.logits[0]
    assert good.probabilities["REWARD"] > 0.5 > bad.probabilities["REWARD"]


async def test_a_batch_scores_like_one_at_a_time(reward_model: Path) -> None:
    """Padding next to a longer text changes no score."""
    texts = [_chat("good"), _chat(_BAD + " of the question" * 20), _chat(_GOOD)]
    together = LocalModel(_settings(reward_model, batch_size=3), field="x")
    alone = LocalModel(_settings(reward_model, batch_size=1), field="x")
    one = await together.score(texts)
    other = await alone.score(texts)
    await together.close()
    await alone.close()
    for a, b in zip(one, other, strict=True):
        assert a is not None
        assert b is not None
        assert a.logits == pytest.approx(b.logits, abs=1e-4)


async def test_a_classifier_gives_probabilities_by_label(classifier: Path) -> None:
    """Texts, pairs and conversations without a template; probabilities add up to one."""
    model = LocalModel(_settings(classifier), field="x")
    scored = await model.score([_GOOD, ("a question", _BAD), _chat(_GOOD)])
    await model.close()
    first, pair, chat = [each.probabilities if each else {} for each in scored]
    assert set(first) == {"fine", "so-so", "poor"}
    assert sum(first.values()) == pytest.approx(1)
    assert max(first, key=lambda label: first[label]) == "fine"
    assert max(pair, key=lambda label: pair[label]) == "poor"
    assert max(chat, key=lambda label: chat[label]) == "fine"


async def test_nothing_is_cut(reward_model: Path) -> None:
    """A text beyond max_tokens is left unscored; its neighbours in the batch are scored."""
    model = LocalModel(_settings(reward_model, max_tokens=20), field="x")
    short, long = await model.score([_chat("good"), _chat("good " * 40)])
    await model.close()
    assert short is not None
    assert long is None


async def test_bf16_scores_alike(reward_model: Path) -> None:
    """The setting for the number format is honoured, and the order of scores survives it."""
    model = LocalModel(_settings(reward_model, precision="bf16"), field="x")
    good, bad = await model.score([_chat(_GOOD), _chat(_BAD)])
    await model.close()
    assert good is not None
    assert bad is not None
    assert good.logits[0] > bad.logits[0]
    assert model._loaded is None


async def test_the_loop_runs_while_the_model_works(reward_model: Path) -> None:
    """Loading and scoring happen in a thread: other tasks go on meanwhile."""
    model = LocalModel(_settings(reward_model), field="x")
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await model.score([_chat(_GOOD)] * 64)
    task.cancel()
    await model.close()
    assert turns > 100


async def test_a_folder_that_is_no_classifier_is_named(reward_model: Path, tmp_path: Path) -> None:
    """Weights that do not fit the configuration end in a sentence that names the setting."""
    for file in reward_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "no-such-model"}))
    model = LocalModel(_settings(tmp_path), field="judge.first_stage.local")
    with pytest.raises(SettingsError, match=r"judge\.first_stage\.local\.path") as caught:
        await model.score(["good"])
    await model.close()
    assert "sequence classifier" in str(caught.value)
