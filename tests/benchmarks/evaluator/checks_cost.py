"""What all checks cost on one pair of two 1,000-token answers; model-based ones aside.

``python -m tests.benchmarks.evaluator.checks_cost`` prints it, check by check, and in other
languages.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median

from shadow.answer import read_answer
from shadow.checks import CHECKS, run_checks
from shadow.checks.output_tokens import count_tokens
from shadow.pair import Arm, Pair, read_prompt

TOKENS = 1000
GOAL_US = 1000.0
"""Microseconds a pair on one core, at the median."""

_WORDS = " ".join(topics[name] for name in sorted(topics)).split(" ")
"""The language's own documentation: technical English with lists and code, as answers have it."""

_LABELLED = Path(__file__).parents[2] / "fixtures" / "refusals.jsonl"


def prose(rng: random.Random, tokens: int = TOKENS) -> str:
    """Return a piece of documentation of so many tokens (up to a word), from a random place on."""
    start = rng.randrange(len(_WORDS) - 2 * tokens)
    words = tokens // 3
    while count_tokens(" ".join(_WORDS[start : start + words])) < tokens:
        words += 5
    return " ".join(_WORDS[start : start + words])


def shuffled(rng: random.Random, language: str) -> str:
    """Return so many tokens of a language: its words, or characters, as they come by chance.

    They are those of helpful answers in the labelled set of refusals, which has too few of any
    language but English for whole texts.
    """
    pieces, between = _pieces(language)
    text = ""
    while count_tokens(text) < TOKENS:
        text += between.join(rng.choices(pieces, k=40)) + between
    return text


@cache
def _pieces(language: str) -> tuple[tuple[str, ...], str]:
    rows = map(json.loads, _LABELLED.read_text(encoding="utf-8").splitlines())
    own = [each for each in rows if each["language"] == language and each["stance"] == "complied"]
    text = " ".join(each["text"] for each in own)
    return (tuple(text), "") if language in {"ja", "zh"} else (tuple(text.split()), " ")


def make_pair(seed: int = 1, language: str = "en") -> Pair:
    """Return a pair of two such answers, with a conversation, tools and an objective."""
    rng = random.Random(seed)
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
    request = {
        "model": "r",
        "tools": [tool],
        "messages": [
            {"role": "system", "content": prose(rng, 200)},
            {"role": "user", "content": "Could you explain in detail how that works, please?"},
        ],
    }
    prompt = read_prompt(endpoint="/v1/chat/completions", body=json.dumps(request))
    texts = [prose(rng) if language == "en" else shuffled(rng, language) for _ in range(2)]
    return Pair(prompt, _arm(texts[0]), _arm(texts[1]), slo_s=2.0)


def checks_cost_us(pairs: int = 50, rounds: int = 5, language: str = "en") -> float:
    """Return microseconds of CPU for all checks on one pair: the median over many pairs.

    Of each pair the least of its rounds counts, which is what it costs on a core that does nothing
    else. All pairs are between two rounds of one, so that nothing kept of it is left.
    """
    made = [make_pair(seed, language) for seed in range(pairs)]
    run_checks(made[0])
    least = [float("inf")] * pairs
    for _ in range(rounds):
        for number, pair in enumerate(made):
            least[number] = min(least[number], _timed(lambda p=pair: run_checks(p)))
    return median(least)


def cost_by_check_us(pairs: int = 50, rounds: int = 5) -> dict[str, float]:
    """Return microseconds of CPU a pair by check, medians; shared work counts where it is done."""
    made = [make_pair(seed) for seed in range(pairs)]
    run_checks(made[0])
    least = {check.name: [float("inf")] * pairs for check in CHECKS}
    for _ in range(rounds):
        for number, pair in enumerate(made):
            for check in CHECKS:
                cost = _timed(lambda c=check, p=pair: c.run(p))
                least[check.name][number] = min(least[check.name][number], cost)
    return {name: median(each) for name, each in least.items()}


def _arm(text: str) -> Arm:
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}})
    return Arm(read_answer(endpoint="/v1/chat/completions", body=body), latency_s=1.0)


def _timed(act: Callable[[], object]) -> float:
    started = time.thread_time()
    act()
    return (time.thread_time() - started) * 1e6


def main() -> None:
    """Print the cost of all checks and of each."""
    total = checks_cost_us()
    lines = [f"all checks on a pair of {TOKENS}-token answers: {total:.0f} µs (goal {GOAL_US:.0f})"]
    costs = sorted(cost_by_check_us().items(), key=lambda each: -each[1])
    lines += [f"{cost:8.1f}  {name}" for name, cost in costs]
    lines.append("the same in other languages:")
    lines += [f"{checks_cost_us(language=each):8.1f}  {each}" for each in ("de", "ru", "ja", "zh")]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
