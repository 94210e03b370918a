"""Properties of the peek: it agrees with a JSON parser and refuses what none accepts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.wire import peek, read_answer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {"model": st.text(max_size=6)},
        optional={"stream": JSON, "user": JSON, "metadata": JSON, "n": JSON, "other": JSON},
    )
)
def test_peek_reads_what_a_parser_reads(document: dict[str, object]) -> None:
    """Whatever the other fields hold, the fields read are those of the document."""
    text = json.dumps(document)
    read = peek(text.encode())
    same = json.loads(text)
    assert read.model == same["model"]
    assert read.streams is (same.get("stream") is True)
    assert json.dumps(read.user) == json.dumps(same.get("user"))
    assert json.dumps(read.metadata) == json.dumps(same.get("metadata"))


@given(st.binary(max_size=40))
def test_peek_never_fails_otherwise_than_with_a_400(body: bytes) -> None:
    """Any bytes are either an object or refused in words that a client can read."""
    refusal: RequestError | None = None
    try:
        peek(body)
    except RequestError as error:
        refusal = error
    assert refusal is None or (refusal.status == 400 and refusal.message.endswith("."))


@given(st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode()))
def test_read_answer_never_raises(body: bytes) -> None:
    """An upstream may answer anything."""
    read_answer(body)


@pytest.mark.parametrize("depth", [10, 100_000])
def test_depth_is_refused_not_crashed_on(depth: int) -> None:
    """A deeply nested body is a client's error, never a crash."""
    body = b'{"model":"m","x":' + b"[" * depth + b"]" * depth + b"}"
    if depth == 10:
        assert peek(body).model == "m"
    else:
        with pytest.raises(RequestError, match="nested"):
            peek(body)
