"""Boilerplate: the same words in answers to different prompts, known from a bounded memory.

Not a pure check, for it remembers what it saw. Each arm of each rollout has its own memory and both
see the same prompts, so the two rates can be compared. A memory lives in one worker and starts
empty: with several workers each knows its own share of the traffic.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from shadow.checks.result import ABSENT, NO_ANSWER, CheckResult, Finding
from shadow.fingerprint import fingerprint
from shadow.pair import Arm, Pair

NAME = "boilerplate_rate"

SHINGLE_WORDS = 8
KEEP_ONE_IN = 4
"""Of all shingles those are kept whose hash divides by this (a fixed-ratio sketch)."""

OTHER_PROMPTS = 3
"""A shingle is common once it stood in the answers to so many different prompts."""

SHARE = 0.5
LEAST_SHINGLES = 6
MOST_SHINGLES = 20_000
MOST_MEMORIES = 64


@dataclass(slots=True)
class _Memory:
    """Shingles by hash, the least recently seen forgotten first, with prompts that had them."""

    seen: OrderedDict[int, tuple[str, ...]] = field(default_factory=OrderedDict)

    def share(self, shingles: set[int], prompt: str) -> float:
        """Return the share of shingles that stood in answers to enough other prompts."""
        common = sum(
            len(prompts) - (prompt in prompts) >= OTHER_PROMPTS
            for shingle in shingles
            if (prompts := self.seen.get(shingle)) is not None
        )
        return common / len(shingles)

    def remember(self, shingles: Iterable[int], prompt: str) -> None:
        for shingle in shingles:
            prompts = self.seen.pop(shingle, ())
            if prompt not in prompts:
                prompts = (*prompts, prompt)[-OTHER_PROMPTS - 1 :]
            self.seen[shingle] = prompts
        while len(self.seen) > MOST_SHINGLES:
            self.seen.popitem(last=False)


class BoilerplateMemory:
    """Memories by rollout, stream and arm; bounded, some 4 MB each at the most."""

    def __init__(self) -> None:
        self._memories: OrderedDict[tuple[int, str, str], _Memory] = OrderedDict()

    def check(self, pair: Pair, *, rollout_id: int, stream: str) -> CheckResult:
        """Fail where at least half of an answer stood in answers to three other prompts.

        The answer is remembered afterwards; the same prompt again changes nothing. Answers of less
        than some 30 words are not judged. "Fail" only means that words recur: a template may be
        wanted, and a rate that moves is a reason to read samples. Does not catch: the same phrase
        in other words, and answers in scripts without spaces.
        """
        prompt = fingerprint(pair.prompt.messages)[:16]

        def side(arm: Arm | None, name: str) -> Finding:
            if arm is None:
                return ABSENT
            if arm.failed:
                return NO_ANSWER
            return self._examine(arm, self._memory((rollout_id, stream, name)), prompt)

        return CheckResult(NAME, side(pair.baseline, "baseline"), side(pair.candidate, "candidate"))

    def _examine(self, arm: Arm, memory: _Memory, prompt: str) -> Finding:
        found: set[int] = set()
        for choice in arm.answer.choices:
            found |= shingles_of(choice.text)
        if len(found) < LEAST_SHINGLES:
            return Finding("not_applicable", "too short")
        share = memory.share(found, prompt)
        memory.remember(found, prompt)
        if share >= SHARE:
            return Finding("fail", f"{share:.0%} stood in answers to other prompts", value=share)
        return Finding("pass", value=share)

    def _memory(self, key: tuple[int, str, str]) -> _Memory:
        memory = self._memories.pop(key, None) or _Memory()
        self._memories[key] = memory
        while len(self._memories) > MOST_MEMORIES:
            self._memories.popitem(last=False)
        return memory


NOT_REMEMBERED = CheckResult(
    NAME,
    Finding("not_applicable", "live answers are not remembered"),
    Finding("not_applicable", "live answers are not remembered"),
)
"""For answers that only one arm gave: memories that saw other prompts can't be compared."""


def shingles_of(text: str) -> set[int]:
    """Return the kept hashes of all runs of eight words, in lower case."""
    words = text.casefold().split()
    hashes = (
        zlib.crc32(" ".join(words[start : start + SHINGLE_WORDS]).encode("utf-8", "replace"))
        for start in range(len(words) - SHINGLE_WORDS + 1)
    )
    return {each for each in hashes if each % KEEP_ONE_IN == 0}
