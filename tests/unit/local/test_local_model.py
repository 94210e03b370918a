"""Local models without torch: batching, back-pressure, errors, and what a setting must name."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.errors import SettingsError
from gateway.settings_local import LocalModelSettings
from shadow.local import Item, LocalModel, LocalModelFailed, Scored
from shadow.local import backend as backend_module


class _Lengths:
    """Stands for a loaded model: the logit is the text's length. Keeps the batches it was given."""

    labels = ("LENGTH",)

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []
        self.threads: set[str] = set()
        self.go = threading.Event()
        self.go.set()

    def score(self, items: Sequence[Item]) -> list[tuple[float, ...] | None]:
        self.threads.add(threading.current_thread().name)
        self.batches.append(list(items))
        assert self.go.wait(10)
        if "fail" in items:
            raise RuntimeError("a customer's words")
        return [None if item == "long" else (float(len(str(item))),) for item in items]


def _model(inner: _Lengths, **changes: object) -> LocalModel:
    settings = LocalModelSettings.model_validate({"path": "anywhere", **changes})
    return LocalModel(settings, field="judge.first_stage.local", load=lambda: inner)


def test_what_arrives_together_is_one_batch() -> None:
    """Ten texts of ten tasks with a batch size of four: full batches, each result at its owner."""
    inner = _Lengths()

    async def scenario() -> list[list[Scored | None]]:
        model = _model(inner, batch_size=4, batch_wait="50ms")
        results = await asyncio.gather(*(model.score(["x" * n]) for n in range(10)))
        await model.close()
        return results

    results = asyncio.run(scenario())
    assert [each[0].logits[0] if each[0] else None for each in results] == list(range(10))
    assert [len(batch) for batch in inner.batches] == [4, 4, 2]
    assert all(name.startswith("local-model") for name in inner.threads)


def test_the_queue_is_bounded() -> None:
    """With the model busy and the queue full, whoever brings more waits instead of piling up."""
    inner = _Lengths()
    inner.go.clear()

    async def scenario() -> tuple[int, int]:
        model = _model(inner, batch_size=1, max_queue=3)
        work = asyncio.create_task(model.score(["x"] * 50))
        while model._batcher._queue.qsize() < 3:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        waiting = model._batcher._queue.qsize()
        inner.go.set()
        done = len(await work)
        await model.close()
        return waiting, done

    assert asyncio.run(scenario()) == (3, 50)


def test_a_failure_reaches_those_who_wait_and_nobody_else() -> None:
    """The batch that fails raises without a word of its text; the next batch is scored."""
    inner = _Lengths()

    async def scenario() -> list[Scored | None]:
        model = _model(inner, batch_size=1)
        with pytest.raises(LocalModelFailed, match="RuntimeError") as caught:
            await model.score(["fail"])
        assert "customer" not in str(caught.value)
        after = await model.score(["fine", "long"])
        await model.close()
        return after

    fine, long = asyncio.run(scenario())
    assert fine == Scored(("LENGTH",), (4.0,))
    assert long is None


def test_a_cancelled_caller_is_left_out() -> None:
    """What nobody waits for any more is not scored."""
    inner = _Lengths()
    inner.go.clear()

    async def scenario() -> None:
        model = _model(inner, batch_size=1)
        first = asyncio.create_task(model.score(["first"]))
        while not inner.batches:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(model.score(["second"]))
        await asyncio.sleep(0)
        second.cancel()
        third = asyncio.create_task(model.score(["third"]))
        inner.go.set()
        await first
        await third
        await model.close()

    asyncio.run(scenario())
    assert inner.batches == [["first"], ["third"]]


def test_probabilities() -> None:
    """Softmax over classes, the sigmoid of a single logit, both safe at the extremes."""
    several = Scored(("a", "b"), (1000.0, 0.0)).probabilities
    assert several == {"a": 1.0, "b": 0.0}
    assert Scored(("x",), (-1000.0,)).probabilities == {"x": 0.0}
    assert Scored(("x",), (0.0,)).probabilities == {"x": 0.5}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, "there is no folder"),
        ((), "config.json"),
        (("config.json", "pytorch_model.bin"), "safetensors"),
    ],
)
def test_a_folder_without_a_model_is_named(
    files: tuple[str, ...] | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each way in which a folder holds no model is said at once, with the setting's name."""
    monkeypatch.setattr(backend_module, "find_spec", lambda _name: object())
    folder = tmp_path / "model"
    if files is not None:
        folder.mkdir()
        for name in files:
            (folder / name).write_text("{}")
    settings = LocalModelSettings(path=folder)
    with pytest.raises(SettingsError, match=said) as caught:
        LocalModel(settings, field="judge.first_stage.local")
    assert caught.value.field == "judge.first_stage.local.path"


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch the error says what to install."""
    monkeypatch.setattr(backend_module, "find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match=r"pip install 'coalmine\[models\]'"):
        LocalModel(LocalModelSettings(path=tmp_path), field="judge.first_stage.local")


def test_a_wrong_device_is_refused() -> None:
    """A device that torch would not know is refused where the settings are read."""
    with pytest.raises(ValidationError, match="device"):
        LocalModelSettings.model_validate({"path": "x", "device": "tpu"})
