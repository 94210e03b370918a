"""A local model as the first judge: a reward model, or a classifier of pairs.

A reward model reads the conversation with one answer at a time and knows no order. Its difference
of rewards is turned into P(A wins) by the Bradley-Terry form sigmoid((r_A - r_B) / temperature)
(Bradley and Terry 1952; the temperature is the settings'). A classifier of pairs sees both answers
and is asked in both orders, like a hosted judge.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import SettingsError
from gateway.settings_judge import LocalJudge
from shadow.answer import Answer
from shadow.judge.outcome import Judged, Judgment, LocalVerdict, Situation, Spending
from shadow.judge.pairwise import Order, Side, compared
from shadow.judge.prompt import answer_text
from shadow.local import Chat, Item, LocalModel, LocalModelFailed, Scored
from shadow.local.model import sigmoid
from shadow.pair import Pair, Prompt

_log = logging.getLogger("coalmine.worker")

_ROLES = {"developer": "system", "function": "tool"}


@dataclass(frozen=True, slots=True)
class _Read:
    order: Order
    probability: float
    evidence: str


class LocalFirstJudge:
    """The first stage on a local model. `field` is the setting that declares it.

    Raises `SettingsError` where the extra is not installed or the folder holds no model.
    """

    def __init__(
        self,
        settings: LocalJudge,
        *,
        field: str,
        model: LocalModel | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._field = field
        self._model = model or LocalModel(settings, field=field)
        self._clock = clock

    async def compare(
        self,
        pair: Pair,
        spending: Spending,  # noqa: ARG002 - nothing is spent
        situation: Situation = Situation(),  # noqa: ARG002, B008 - it reads no rubric
    ) -> Judged:
        """Compare by the model's figures. What is too long for it is unjudgeable here."""
        if pair.baseline is None or pair.candidate is None:
            raise ValueError("a comparison needs both arms")
        answers = pair.baseline.answer, pair.candidate.answer
        reward = self._settings.kind == "reward"
        started = self._clock()
        try:
            scored = await self._model.score((_chats if reward else _pairs)(pair.prompt, *answers))
            known = [each for each in scored if each is not None]
            if len(known) < len(scored):
                return Judged("unjudgeable", reason="unjudgeable_length", stage="first")
            reads = [self._rewards(known)] if reward else self._classes(known)
        except (LocalModelFailed, SettingsError) as error:
            _log.error("the first stage can't judge: %s", error)
            failed = Judgment("AB", self._model.name, error=str(error), stage="first")
            return Judged("judge_error", (failed,), reason=str(error), stage="first")
        latency = self._clock() - started
        judgments = tuple(self._judgment(read, latency) for read in reads)
        sides = {read.order: self._side(read.probability) for read in reads}
        return Judged("judged", judgments, compared(sides), stage="first")

    def uncached(self) -> LocalFirstJudge:
        """Return this judge: it keeps no verdicts, and reads both orders where they differ."""
        return self

    async def close(self) -> None:
        """Let go of the model."""
        await self._model.close()

    def _rewards(self, scored: list[Scored]) -> _Read:
        first, second = scored
        if len(first.logits) != 1:
            raise SettingsError(
                f"the model has {len(first.logits)} classes, a reward model has one logit; "
                "write kind: pairwise for a classifier",
                field=f"{self._field}.kind",
            )
        difference = (first.logits[0] - second.logits[0]) / self._settings.temperature
        probability = sigmoid(difference)
        evidence = (
            f"rewards {first.logits[0]:.4g} and {second.logits[0]:.4g}: P(A wins) {probability:.3f}"
        )
        return _Read("AB", probability, evidence)

    def _classes(self, scored: list[Scored]) -> list[_Read]:
        reads = []
        orders: tuple[Order, Order] = ("AB", "BA")
        for order, each in zip(orders, scored, strict=True):
            probabilities = each.probabilities
            settings = self._settings
            for label, name in ((settings.label_a, "label_a"), (settings.label_b, "label_b")):
                if label not in probabilities:
                    raise SettingsError(
                        f"the model has no class {label!r}; its classes are "
                        f"{', '.join(probabilities)}",
                        field=f"{self._field}.{name}",
                    )
            a, b = probabilities[settings.label_a], probabilities[settings.label_b]
            tie = probabilities.get(settings.label_tie, 0.0)
            evidence = f"P(A) {a:.3f}, P(B) {b:.3f}, P(tie) {tie:.3f}"
            reads.append(_Read(order, (a + tie / 2) / (a + b + tie), evidence))
        return reads

    def _side(self, probability: float) -> Side:
        if abs(probability - 0.5) <= self._settings.tie_band:
            return "tie"
        return "A" if probability > 0.5 else "B"

    def _judgment(self, read: _Read, latency: float) -> Judgment:
        return Judgment(
            read.order,
            self._model.name,
            verdict=LocalVerdict(self._side(read.probability), read.evidence),
            latency_s=latency,
            stage="first",
        )


def _chats(prompt: Prompt, baseline: Answer, candidate: Answer) -> list[Item]:
    """Return the conversation with either answer as its last message, the baseline's first."""
    before = [_message(message) for message in prompt.messages]
    return [
        Chat((*before, {"role": "assistant", "content": answer_text(answer)}))
        for answer in (baseline, candidate)
    ]


def _pairs(prompt: Prompt, baseline: Answer, candidate: Answer) -> list[Item]:
    """Return conversation with answer A, and answer B, as a pair of texts; in both orders."""
    messages = [_message(message) for message in prompt.messages]
    lines = "\n".join(f"{message['role']}: {message['content']}" for message in messages)
    one, other = answer_text(baseline), answer_text(candidate)
    return [
        (f"{lines}\nA: {first}", f"B: {second}") for first, second in ((one, other), (other, one))
    ]


def _message(raw: Mapping[str, Any]) -> dict[str, str]:
    """Return a message as role and text; other parts than text are named, not shown."""
    role = str(raw.get("role") or "user")
    content = raw.get("content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, Mapping)]
        content = "\n".join(str(part.get("text") or f"[{part.get('type')}]") for part in parts)
    text = "" if content is None else str(content)
    if raw.get("tool_calls"):
        text = f"{text}\n[tool calls] {json.dumps(raw['tool_calls'], ensure_ascii=False)}".strip()
    return {"role": _ROLES.get(role, role), "content": text}
