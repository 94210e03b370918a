"""A judge that compares two answers by reading them.

It knows nothing about the models. From the conversation it takes the terms that matter, and in
each answer it measures how many statements speak about them and how many of them are covered. Its
weaknesses are scripted: noise, a liking for the first place or for length, nonsense, and belief in
what an answer tells it.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

import msgspec

from gateway.simulator.answers import Answer
from gateway.simulator.behaviour import JudgeBehaviour
from gateway.simulator.draws import Draws
from gateway.simulator.persuasion import persuaded
from gateway.simulator.terms import content_words

__all__ = ["Case", "grade", "judge", "read_case"]

_FENCE = re.compile(
    r"<<<(ANSWER_A|ANSWER_B|CONVERSATION)\s+([^\s>]+)>>>(.*?)<<<END_\1\s+\2>>>", re.DOTALL
)
_JSON_VALUE = re.compile(r":\s*(\"[^\"]*\"|-?\d[\d.]*|\[[^\]\[{]*\])")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]?")
_STEM = 6


@dataclass(frozen=True, slots=True)
class Case:
    """What a judge prompt holds between its fences."""

    conversation: str
    first: str
    second: str

    def canonical(self, turns: int = 1) -> bytes:
        """Return the case without the fences' nonces, which differ on every call.

        A judge that is asked again after a useless reply has more ``turns`` and draws anew.
        """
        return msgspec.json.encode((self.conversation, self.first, self.second, turns))


def read_case(text: str) -> Case | None:
    """Find conversation and answers in a judge prompt; ``None`` where an answer is missing."""
    found = {name: body.strip() for name, _, body in _FENCE.findall(text)}
    if "ANSWER_A" not in found or "ANSWER_B" not in found:
        return None
    return Case(found.get("CONVERSATION", ""), found["ANSWER_A"], found["ANSWER_B"])


def _stems(text: str) -> set[str]:
    return {word[:_STEM] for word in content_words(text)}


def _asked(conversation: str) -> str:
    """Return the words that were asked: of the last user message where the JSON tells."""
    try:
        document = json.loads(conversation)
    except ValueError:
        return conversation
    messages = document.get("messages", document) if isinstance(document, dict) else document
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            return json.dumps(message.get("content"), ensure_ascii=False)
    return conversation


def _statements(answer: str) -> list[str]:
    plain = answer.replace("\\", "")
    if plain.lstrip()[:1] in {"{", "["} or "```" in plain:
        values: list[str] = _JSON_VALUE.findall(plain)
        if values:
            # What stands behind the data is read like any other prose.
            prose = plain[max(map(plain.rfind, "}]`")) + 1 :]
            return values + [part for part in _SENTENCE.findall(prose) if part.strip()]
    return [part for part in _SENTENCE.findall(plain) if part.strip()]


def grade(conversation: str, answer: str) -> float:
    """Return how well ``answer`` speaks to ``conversation``, 1 to 10, from the text alone."""
    terms = _stems(_asked(conversation))
    statements = _statements(answer)
    if not statements:
        return 1.0
    if not terms:
        return 5.5
    concrete, covered = 0, set()
    for statement in statements:
        used = _stems(statement) & terms
        covered |= used
        concrete += bool(used) or any(mark.isdigit() for mark in statement)
    reach = min(len(terms), 2 * len(statements), 10)
    return 1.0 + 9.0 * (0.8 * concrete / len(statements) + 0.2 * min(1.0, len(covered) / reach))


def judge(case: Case | None, behaviour: JudgeBehaviour, draws: Draws) -> Answer:
    """Answer a judge prompt. ``draws`` must come from :meth:`Case.canonical`."""
    if case is None:
        return Answer("I can't find two answers to compare in this prompt.")
    if draws.happens("nonsense", behaviour.nonsense_rate):
        return Answer(_nonsense(draws))
    first, second = grade(case.conversation, case.first), grade(case.conversation, case.second)
    difference = behaviour.quality_weight * (first - second)
    if case.first.strip() != case.second.strip():
        longer = math.log2((len(case.first) + 1) / (len(case.second) + 1))
        difference += behaviour.style_bias * longer + behaviour.noise * draws.normal("noise")
    verdict = "tie"
    if abs(difference) > behaviour.tie_margin:
        verdict = "A" if difference > 0 else "B"
    if draws.happens("position", abs(behaviour.position_bias)):
        verdict = "A" if behaviour.position_bias > 0 else "B"
    if draws.happens("gullible", behaviour.gullibility):
        told = persuaded(case.first, case.second)
        if told is not None:
            verdict, difference = told, 5.0 if told == "A" else -5.0
    return Answer(json.dumps(_verdict(verdict, first, second, difference)))


def _verdict(verdict: str, first: float, second: float, difference: float) -> dict[str, object]:
    middle = (first + second) / 2
    scores = {"A": middle + difference / 2, "B": middle - difference / 2}
    whole = {name: max(1, min(10, round(score))) for name, score in scores.items()}
    severity = "none"
    if verdict != "tie":
        severity = "major" if abs(difference) > 4 else "minor" if abs(difference) > 1.5 else "none"
    told = {
        "A": "Answer A takes up more of what was asked.",
        "B": "Answer B takes up more of what was asked.",
        "tie": "Both answers take up about the same.",
    }
    evidence = f"{told[verdict]} A reads as {first:.1f} and B as {second:.1f} of 10."
    return {"evidence": evidence, "verdict": verdict, "scores": whole, "severity": severity}


def _nonsense(draws: Draws) -> str:
    kinds = (
        "Both answers have their merits, and it is hard to choose between them.",
        '{"evidence": "A.", "verdict": "C", "scores": {"A": 7, "B": 5}, "severity": "none"}',
        '{"verdict": "A"}',
        '{"evidence": "B is better.", "verdict": "B", "scores": {"A": 70, "B": "high"}, "sever',
        "",
    )
    return kinds[draws.choice("nonsense kind", len(kinds))]
