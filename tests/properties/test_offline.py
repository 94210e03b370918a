"""Splits and duplicates: nothing leaks from one split into another, whatever the order of keys."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shadow.offline.canonical import canonical, digest
from shadow.offline.duplicates import Duplicates, shingles, signature, similarity
from shadow.offline.splits import SplitShares, group_of, split_of

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": VALUES}
    ),
    min_size=1,
    max_size=5,
)
WORDS = st.lists(
    st.sampled_from(["refund", "order", "invoice", "late", "broken", "where"]), max_size=12
)
SHARES = SplitShares()


def shuffled(value: Any) -> Any:
    """The same document with the keys of every object in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    return [shuffled(each) for each in value] if isinstance(value, list) else value


@given(VALUES)
def test_canonical_json_knows_no_order_of_keys(value: Any) -> None:
    """Equal documents have one text, on one line, and it is the same document."""
    text = canonical(value)
    assert text == canonical(shuffled(value))
    assert "\n" not in text
    assert canonical(json.loads(text)) == text


@given(MESSAGES, st.text(min_size=1, max_size=8))
def test_a_conversation_stays_in_its_split(messages: list[dict[str, Any]], salt: str) -> None:
    """Keys in another order, and later turns of the same conversation, are in the same split."""
    group = group_of(None, messages)
    split = split_of(group, salt=salt, shares=SHARES)
    assert split_of(group_of(None, shuffled(messages)), salt=salt, shares=SHARES) == split
    if any(message["role"] == "user" for message in messages):
        later = [*messages, {"role": "assistant", "content": "Yes."}]
        assert group_of(None, [*later, {"role": "user", "content": "And?"}]) == group


@given(st.text(min_size=1), MESSAGES, MESSAGES)
def test_a_user_stays_in_one_split(
    user: str, one: list[dict[str, Any]], other: list[dict[str, Any]]
) -> None:
    """Whatever a known user asks, it is one group."""
    assert group_of(user, one) == group_of(user, other)


@given(st.text(min_size=1), st.integers(0, 100), st.integers(0, 100))
def test_shares_are_whole_numbers(group: str, train: int, validation: int) -> None:
    """No share of a percent is lost or added by floating point: 0 takes nobody, 100 everybody."""
    everybody = SplitShares(train=100, validation=0, test=0)
    nobody = SplitShares(train=0, validation=0, test=100)
    assert split_of(group, salt="s", shares=everybody) == "train"
    assert split_of(group, salt="s", shares=nobody) == "test"
    if train + validation <= 100:
        shares = SplitShares(train=train, validation=validation, test=100 - train - validation)
        wider = SplitShares(train=100 - validation, validation=validation, test=0)
        if split_of(group, salt="s", shares=shares) == "train":
            assert split_of(group, salt="s", shares=wider) == "train"


@given(st.lists(st.tuples(WORDS, st.sampled_from("abc"), st.sampled_from("xy")), max_size=30))
def test_taking_duplicates_out_twice_changes_nothing(
    cases: list[tuple[list[str], str, str]],
) -> None:
    """What was admitted once is admitted again by fresh eyes, and nothing equal is left."""

    def kept(rows: list[tuple[list[str], str, str]]) -> list[tuple[list[str], str, str]]:
        seen = Duplicates(0.8)
        return [
            (words, group, answer)
            for words, group, answer in rows
            if seen.admit(
                key=digest([words, answer]), prompt=digest(words), group=group,
                text=" ".join(words),
            ) is None
        ]  # fmt: skip

    once = kept(cases)
    assert kept(once) == once
    assert len({digest([words, answer]) for words, _, answer in once}) == len(once)
    groups: dict[str, str] = {}
    for words, group, _ in once:
        assert groups.setdefault(digest(words), group) == group


@given(WORDS, WORDS)
def test_similarity_is_that_of_the_shingles(one: list[str], other: list[str]) -> None:
    """Equal sets are wholly similar; the estimate is near the Jaccard index."""
    first, second = shingles(" ".join(one)), shingles(" ".join(other))
    if not first or not second:
        return
    exact = len(first & second) / len(first | second)
    estimate = similarity(signature(first), signature(second))
    assert abs(estimate - exact) <= 0.35  # 5.6 standard errors of 64 hashes
    if first == second:
        assert estimate == 1
