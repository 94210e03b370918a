"""Prometheus queries: what is asked, and what the answers are taken for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.queries import ARMS, Answer, Counter, Reading, advance, fill, read_answer, read_number


def vector(*values: str, labels: str = "instance") -> dict[str, Any]:
    """An answer with these values, each of a series of its own."""
    result = [
        {"metric": {labels: str(index)} if len(values) > 1 else {}, "value": [0, value]}
        for index, value in enumerate(values)
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def reading(
    at: float,
    baseline: Sequence[float],
    candidate: Sequence[float],
) -> Reading:
    """A reading of requests and failures by arm, each the sum over one series."""
    both = {"baseline": baseline, "candidate": candidate}
    return Reading(
        at,
        {arm: {"{}": both[arm][0]} for arm in ARMS},
        {arm: {"{}": both[arm][1]} for arm in ARMS},
    )


def test_variables_are_replaced() -> None:
    """Each variable stands for its value, wherever and however often it is named."""
    values = {"variant": "candidate", "deployment": "v7", "route": "bot", "rollout": "bot-v7"}
    query = 'sum(r{v="$variant",d=~"$deployment|x$",n="$rollout/$variant"})'
    assert fill(query, values) == 'sum(r{v="candidate",d=~"v7|x$",n="bot-v7/candidate"})'
    assert fill('a{b="$variants"}', values) == 'a{b="$variants"}'


@given(st.text(max_size=20))
def test_no_value_ends_a_literal(value: str) -> None:
    """Whatever a name contains, the query has no quote, backtick or line that it had not before."""
    query = fill('a{b="$variant"}', {"variant": value})
    inside = query.removeprefix('a{b="').removesuffix('"}')
    assert not set(inside) & set("\"'`\n\r{}$")
    decoded = inside.encode("ascii").decode("unicode_escape")
    assert decoded == value


def test_vectors_and_scalars_are_read() -> None:
    """A sum, several series and a scalar give their values."""
    assert list(read_answer(vector("3")).series.values()) == [3.0]
    assert sorted(read_answer(vector("3", "4.5")).series.values()) == [3.0, 4.5]
    scalar = {"status": "success", "data": {"resultType": "scalar", "result": [0, "0.25"]}}
    assert read_number(read_answer(scalar)) == (0.25, None)


@pytest.mark.parametrize(
    ("document", "word"),
    [
        (vector("NaN"), "finite"),
        (vector("1", "+Inf"), "finite"),
        ({"status": "error", "error": "parse error at char 3"}, "parse error at char 3"),
        ({"status": "success", "data": {"resultType": "matrix", "result": []}}, "matrix"),
        ({"status": "success", "data": {}}, "not that of Prometheus"),
        (vector("many"), "not that of Prometheus"),
        (["nothing"], "refused"),
        (None, "refused"),
    ],
)
def test_what_is_no_number_is_an_error(document: Any, word: str) -> None:
    """Nothing that is not a finite number is taken for one, and the reason is told."""
    answer = read_answer(document)
    assert answer.series == {}
    assert word in str(answer.error)
    assert read_number(answer) == (None, answer.error)


def test_a_threshold_is_one_value() -> None:
    """No series and several are errors, not 0 and not a sum."""
    assert read_number(Answer({}))[1] == "the query gives no data"
    value, error = read_number(read_answer(vector("1", "2")))
    assert value is None
    assert "2 series" in str(error)


def test_increase_since_the_last_reading_counts_once() -> None:
    """What both counters grew by is counted for each arm, and not again."""
    counter = Counter.start(reading(0, (1000, 10), (100, 5)))
    counter, counts = advance(counter, reading(15, (1090, 11), (110, 8)))
    assert counts is not None
    assert (counts.seconds, counts.arms) == (15, {"baseline": (90, 1), "candidate": (10, 3)})
    _, counts = advance(counter, reading(30, (1090, 11), (110, 8)))
    assert counts is None


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("which", [0, 1])
def test_a_reset_cuts_the_interval_of_both_arms(arm: str, which: int) -> None:
    """A counter that is smaller than before says nothing about the time in between."""
    now = {"baseline": [1090.0, 11.0], "candidate": [110.0, 8.0]}
    now[arm][which] = 1.0
    first = Counter.start(reading(0, (1000, 10), (100, 5)))
    counter, counts = advance(first, reading(15, now["baseline"], now["candidate"]))
    assert counts is None
    after = {name: (a + 5, b + 1) for name, (a, b) in now.items()}
    _, counts = advance(counter, reading(30, after["baseline"], after["candidate"]))
    assert counts is not None
    assert counts.arms == {"baseline": (5, 1), "candidate": (5, 1)}


def test_a_gap_is_passed_over() -> None:
    """Requests that are missing for a while were not reset: they count when they are back."""
    first = Counter.start(reading(0, (1000, 10), (100, 5)))
    gone = Reading(15, {"baseline": {"{}": 1050}, "candidate": {}}, {arm: {} for arm in ARMS})
    counter, counts = advance(first, gone)
    assert counts is None
    _, counts = advance(counter, reading(30, (1090, 11), (110, 6)))
    assert counts is not None
    assert (counts.seconds, counts.arms["candidate"]) == (30, (10, 1))


def test_first_failures_count_though_their_series_is_new() -> None:
    """Applications often export a counter of failures with the first failure."""
    requests = {"baseline": {"{}": 50.0}, "candidate": {"{}": 10.0}}
    counter = Counter.start(Reading(0, requests, {arm: {} for arm in ARMS}))
    later = {"baseline": {"{}": 60.0}, "candidate": {"{}": 14.0}}
    counter, counts = advance(
        counter, Reading(15, later, {"baseline": {}, "candidate": {"{}": 3.0}})
    )
    assert counts is not None
    assert counts.arms == {"baseline": (10, 0), "candidate": (4, 3)}
    _, counts = advance(counter, Reading(30, later, {"baseline": {}, "candidate": {"{}": 3.0}}))
    assert counts is None


def test_a_newly_found_instance_does_not_bring_its_past() -> None:
    """An instance that is scraped for the first time has counted before it was looked at."""
    one = {"baseline": {"a": 50.0}, "candidate": {"a": 10.0}}
    none: Mapping[str, Mapping[str, float]] = {arm: {"a": 0.0} for arm in ARMS}
    counter = Counter.start(Reading(0, one, none))
    two = {"baseline": {"a": 60.0}, "candidate": {"a": 20.0, "b": 9000.0}}
    failed = {"baseline": {"a": 0.0}, "candidate": {"a": 1.0, "b": 800.0}}
    counter, counts = advance(counter, Reading(15, two, failed))
    assert counts is not None
    assert counts.arms == {"baseline": (10, 0), "candidate": (10, 1)}
    three = {"baseline": {"a": 60.0}, "candidate": {"a": 20.0, "b": 9005.0}}
    _, counts = advance(counter, Reading(30, three, failed))
    assert counts is not None
    assert counts.arms["candidate"] == (5, 0)


def test_failures_seen_before_their_requests_wait_for_them() -> None:
    """Never more failures than requests, though they may be scraped at different moments."""
    counter = Counter.start(reading(0, (0, 0), (0, 0)))
    counter, counts = advance(counter, reading(15, (10, 0), (0, 2)))
    assert counts is not None
    assert counts.arms["candidate"] == (0, 0)
    _, counts = advance(counter, reading(30, (10, 0), (4, 2)))
    assert counts is not None
    assert counts.arms["candidate"] == (4, 2)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 50).map(lambda value: round(value, 2)),
            st.floats(0, 1),
            st.integers(0, 20),
        ),
        max_size=30,
    )
)
def test_nothing_is_counted_twice(steps: list[tuple[float, float, int]]) -> None:
    """Over any readings the counts add up to no more than the counters grew, and to all but one."""
    requests = failures = other = 0.0
    counter = Counter.start(reading(0, (0, 0), (0, 0)))
    counted = failed = others = 0
    for index, (more, share, baseline) in enumerate(steps):
        requests, failures, other = requests + more, failures + more * share, other + baseline
        counter, counts = advance(
            counter, reading(15.0 * (index + 1), (other, 0), (requests, failures))
        )
        if counts is not None:
            counted += counts.arms["candidate"][0]
            failed += counts.arms["candidate"][1]
            others += counts.arms["baseline"][0]
            assert all(bad <= all_ for all_, bad in counts.arms.values())
    assert others == other
    assert requests - 1.01 < counted <= requests + 0.01
    assert failed <= failures + 0.01
    assert failed <= counted
