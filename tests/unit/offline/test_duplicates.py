"""Near duplicates and splits on examples that a person can read."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from shadow.offline.canonical import canonical, digest
from shadow.offline.duplicates import Duplicates
from shadow.offline.splits import SplitShares, split_of

LONG = "My invoice from last month shows a charge that I never agreed to, please explain it to me"


def admit(seen: Duplicates, text: str, *, group: str = "g", answer: str = "a") -> str | None:
    """Admit a case that is known by its text and answer."""
    return seen.admit(key=digest([text, answer]), prompt=digest(text), group=group, text=text)


def test_a_word_more_is_a_near_duplicate() -> None:
    """The same question with another ending is left out; another question is not."""
    seen = Duplicates(0.8)
    assert admit(seen, LONG) is None
    assert admit(seen, f"{LONG} now") == "near_duplicate"
    assert admit(seen, "Where is my parcel, it was due on Monday and nobody answers") is None


def test_without_a_limit_only_equal_ones_go() -> None:
    """near_duplicates: null keeps what is merely alike."""
    seen = Duplicates(None)
    assert admit(seen, LONG) is None
    assert admit(seen, f"{LONG} now") is None
    assert admit(seen, LONG) == "duplicate"


def test_two_answers_to_one_question_stay_in_one_group() -> None:
    """Another answer for the same user is kept; for another user it would leak, and is not."""
    seen = Duplicates(0.8)
    assert admit(seen, LONG, answer="one") is None
    assert admit(seen, LONG, answer="two") is None
    assert admit(seen, LONG, answer="three", group="other") == "duplicate"


def test_splits_have_their_shares() -> None:
    """Of many groups about as many land in each split as was asked for, by a fixed hash."""
    counts = Counter(
        split_of(f"user-{number}", salt="coalmine", shares=SplitShares())
        for number in range(10_000)
    )
    assert abs(counts["train"] - 8000) < 160
    assert abs(counts["validation"] - 1000) < 120
    assert split_of("user-1", salt="coalmine", shares=SplitShares()) == "validation"
    others = {split_of("user-1", salt=str(n), shares=SplitShares()) for n in range(50)}
    assert others == {"train", "validation", "test"}


def test_shares_must_be_whole_and_add_up() -> None:
    """Percent that do not add up, or are no whole numbers, are refused."""
    with pytest.raises(ValidationError, match="add up to 100"):
        SplitShares(train=80, validation=10, test=9)
    with pytest.raises(ValidationError, match="integer"):
        SplitShares.model_validate({"train": 0.8, "validation": 0.1, "test": 0.1})


def test_half_a_surrogate_pair_is_no_text() -> None:
    """What no file in UTF-8 can hold does not break an export."""
    assert canonical({"b": "\ud800", "a": "ü"}) == '{"a":"ü","b":"?"}'
    with pytest.raises(ValueError, match="Out of range"):
        canonical(float("nan"))
