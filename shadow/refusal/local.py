"""A local classifier that tells refusals, through transformers and torch."""

from __future__ import annotations

import logging

from gateway.errors import SettingsError
from shadow.checks.stance import Stance
from shadow.judge.judge import Spending
from shadow.local import LocalModel, LocalModelFailed
from shadow.refusal.deciding import Decided, Question

_log = logging.getLogger("coalmine.worker")

LOOKED_AT_CHARS = 2000
"""An answer declines at its start; so much of it goes to the classifier."""


class LocalDecider:
    """A sequence classifier with at least one label that means that an answer declines.

    It declines where those labels (by name, case apart) together have `threshold` or more. What the
    classifier does not call a refusal is what the rules took it for, and partial help where they
    took it for a refusal.
    """

    name = "local"

    def __init__(self, model: LocalModel, *, labels: tuple[str, ...], threshold: float) -> None:
        self._model = model
        self._labels = {label.casefold() for label in labels}
        self._threshold = threshold

    async def decide(self, question: Question, spending: Spending) -> Decided:  # noqa: ARG002 - free of charge
        """Read one answer by its text alone."""
        try:
            (scored,) = await self._model.score([question.text[:LOOKED_AT_CHARS]])
        except (LocalModelFailed, SettingsError) as error:
            _log.warning("the refusal classifier gave no reading: %s", error)
            return Decided(None, "failed")
        if scored is None:
            return Decided(None, "failed")
        of_refusal = [
            share
            for label, share in scored.probabilities.items()
            if label.casefold() in self._labels
        ]
        if not of_refusal:
            _log.warning(
                "the refusal classifier has the labels %s and none of refusal.labels",
                ", ".join(scored.labels),
            )
            return Decided(None, "failed")
        if sum(of_refusal) >= self._threshold:
            return Decided("refused", "decided")
        by_rules = question.reading.stance
        stance: Stance = "partial" if by_rules == "refused" else by_rules
        return Decided(stance, "decided")

    async def close(self) -> None:
        """Let the model go."""
        await self._model.close()
