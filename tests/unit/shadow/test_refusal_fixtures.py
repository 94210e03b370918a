"""Refusals measured on labelled answers: precision and recall, overall and by language.

A third of the answers, drawn by the hash of their number, is held out: no rule may be written for
one of them. `rules and decider` is what a reader who is always right would add where the rules say
that they are not sure, so it is the most that `refusal.decider` can reach.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shadow.checks.refusal_rate import check
from shadow.checks.stance import read_stance

_FILE = Path(__file__).parents[2] / "fixtures" / "refusals.jsonl"
_STANCES = {"complied", "partial", "refused", "capability_limit", "clarifies", "empty"}


@dataclass(frozen=True)
class Case:
    """One answer with the stance that a reader gives it."""

    id: str
    language: str
    stance: str
    text: str

    @property
    def held_out(self) -> bool:
        """Whether it is one of the third that no rule is written for."""
        return int(hashlib.sha256(self.id.encode()).hexdigest(), 16) % 3 == 0


@dataclass(frozen=True)
class Measured:
    """Precision and recall of `refused` over some cases."""

    cases: int
    precision: float
    recall: float

    def __str__(self) -> str:
        return f"{self.cases:4d} answers, precision {self.precision:.3f}, recall {self.recall:.3f}"


def _cases() -> list[Case]:
    rows = map(json.loads, _FILE.read_text(encoding="utf-8").splitlines())
    return [Case(each["id"], each["language"], each["stance"], each["text"]) for each in rows]


CASES = _cases()


def by_rules(case: Case) -> str:
    """Return the stance that the rules give it."""
    return read_stance(case.text).stance


def with_decider(case: Case) -> str:
    """Return the rules' stance where they are sure, the right one where they are not."""
    reading = read_stance(case.text)
    return reading.stance if reading.sure else case.stance


def measure(cases: Iterable[Case], read: Callable[[Case], str]) -> Measured:
    """Compare what `read` says with the labels."""
    pairs = [(read(case) == "refused", case.stance == "refused") for case in cases]
    found = sum(said for said, _ in pairs)
    there = sum(true for _, true in pairs)
    right = sum(said and true for said, true in pairs)
    return Measured(len(pairs), right / max(found, 1), right / max(there, 1))


def test_the_set_is_what_it_claims_to_be() -> None:
    """At least 300 answers in ten languages and more, distinct, with every stance."""
    assert len(CASES) >= 300
    assert len({case.id for case in CASES}) == len(CASES)
    assert len({case.text for case in CASES if case.stance != "empty"}) >= len(CASES) - 4
    assert {case.stance for case in CASES} == _STANCES
    languages = {case.language for case in CASES}
    assert len(languages) >= 10
    for language in languages:
        of_it = {case.stance for case in CASES if case.language == language}
        assert {"refused", "complied", "capability_limit", "clarifies"} <= of_it
    assert 0.25 < sum(case.held_out for case in CASES) / len(CASES) < 0.42


def test_precision_and_recall(capsys: pytest.CaptureFixture[str]) -> None:
    """Rules alone reach 0.95 on all answers and 0.9 on the held-out ones."""
    held = [case for case in CASES if case.held_out]
    lines = [
        f"{name:28s} {measure(cases, read)}"
        for name, cases, read in (
            ("rules", CASES, by_rules),
            ("rules, held out", held, by_rules),
            ("rules and decider", CASES, with_decider),
            ("rules and decider, held out", held, with_decider),
        )
    ]
    for language in sorted({case.language for case in CASES}):
        of_it = [case for case in CASES if case.language == language]
        lines.append(f"  {language:26s} {measure(of_it, by_rules)}")
    unsure = sum(not read_stance(case.text).sure for case in CASES)
    lines.append(f"not sure of {unsure} of {len(CASES)} answers")
    with capsys.disabled():
        print("\n" + "\n".join(lines))  # noqa: T201 - the figures are what this test is for
    for cases, read, least in (
        (CASES, by_rules, 0.95),
        (held, by_rules, 0.90),
        (CASES, with_decider, 0.95),
        (held, with_decider, 0.95),
    ):
        found = measure(cases, read)
        assert found.precision >= least
        assert found.recall >= least


@pytest.mark.parametrize("language", sorted({case.language for case in CASES}))
def test_no_language_is_left_behind(language: str) -> None:
    """Each language for itself: nine of ten refusals found, and nine of ten findings right."""
    found = measure([case for case in CASES if case.language == language], by_rules)
    assert found.precision >= 0.9
    assert found.recall >= 0.9


def test_the_check_counts_what_the_rules_read(pair: Callable[..., Any]) -> None:
    """A refusal fails the check, everything else passes, and an empty answer is not judged."""
    for case in CASES:
        finding = check(pair("x", case.text)).candidate
        stance = by_rules(case)
        expected = {"refused": "fail", "empty": "not_applicable"}.get(stance, "pass")
        assert finding.outcome == expected, case.id
