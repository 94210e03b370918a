"""A local model as the rest of the worker sees it: lazily loaded, batched, never blocking."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import SettingsError
from gateway.settings_local import LocalModelSettings
from shadow.local.backend import Backend, Chat, Item, check_installed
from shadow.local.batching import Batcher

__all__ = ["Chat", "Item", "LocalModel", "LocalModelFailed", "Scored", "Scorer"]


class Scorer(Protocol):
    """A loaded model: see `Backend`."""

    labels: tuple[str, ...]

    def score(self, items: Sequence[Item]) -> Sequence[tuple[float, ...] | None]:
        """Return the logits of each item, None for one that is too long."""


class LocalModelFailed(Exception):
    """The model could not score this batch. Holds no text of it."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The logits of one item, by label in the order of the model's classes."""

    labels: tuple[str, ...]
    logits: tuple[float, ...]

    @property
    def probabilities(self) -> dict[str, float]:
        """By label: the softmax of the logits; of a single logit its logistic sigmoid."""
        if len(self.logits) == 1:
            return {self.labels[0]: sigmoid(self.logits[0])}
        top = max(self.logits)
        weights = [math.exp(logit - top) for logit in self.logits]
        total = sum(weights)
        return {label: weight / total for label, weight in zip(self.labels, weights, strict=True)}


def sigmoid(value: float) -> float:
    """Return 1 / (1 + exp(-value)), also for values whose exponential would overflow."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    small = math.exp(value)
    return small / (1.0 + small)


class LocalModel:
    """One model in one folder, to be shared by everything on an event loop.

    Loaded in a thread at the first use and run there, one batch at a time. `field` is the dotted
    setting that declares it, for errors. `load` returns the loaded model. Raises `SettingsError`
    at once where the extra is not installed or the folder holds no model.
    """

    def __init__(
        self,
        settings: LocalModelSettings,
        *,
        field: str,
        load: Callable[[], Scorer] | None = None,
    ) -> None:
        if load is None:
            check_installed(settings, field=field)
        self.name = f"local:{settings.path.name}"
        """How the model is named in judgments and reports."""
        self._load = load or (lambda: Backend(settings, field=field))
        self._loaded: Scorer | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-model")
        self._batcher: Batcher[Item, Scored | None] = Batcher(
            self._score,
            executor=self._executor,
            size=settings.batch_size,
            wait_s=settings.batch_wait,
            queue=settings.max_queue,
        )

    async def score(self, items: Sequence[Item]) -> list[Scored | None]:
        """Score items, in their order; None for one that is longer than `max_tokens`.

        Waits where `max_queue` items are waiting already. Raises `SettingsError` where the model
        can't be loaded, `LocalModelFailed` where it fails on the batch.
        """
        return await self._batcher.submit(items)

    async def close(self) -> None:
        """Stop; the model is let go when the batch in work, if any, has ended."""
        await self._batcher.close()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._loaded = None

    def _score(self, items: Sequence[Item]) -> list[Scored | None]:
        if self._loaded is None:
            self._loaded = self._load()
        model = self._loaded
        try:
            rows = model.score(items)
        except SettingsError:
            raise
        except Exception as error:  # noqa: BLE001 - torch raises many kinds
            # Type only: the message may hold a customer's words.
            raise LocalModelFailed(f"the local model failed: {type(error).__name__}") from None
        return [None if row is None else Scored(model.labels, row) for row in rows]
