"""What a route's prepared sources find in a request is what the plain functions find."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.headers import HeaderView
from gateway.http1 import read_request
from gateway.inbound import Inbound
from gateway.split import Eligibility, targeting_key
from gateway.targeting import Targeting
from gateway.wire import lookup, peek

SOURCES = st.sampled_from(
    [
        "header:x-user-id",
        "header:X-User-Id",
        "header:x-risk",
        "header:ü",
        "header:日本",
        "header:",
        "body:user",
        "body:user.id",
        "body:model",
        "body:metadata",
        "body:metadata.tenant",
        "body:metadata.tenant.id",
        "body:",
        "metadata.tenant",
        "metadata",
        "user",
        "other",
    ]
)
DEEP = st.sampled_from(["body:extra", "body:extra.id", "body:messages"])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "u", "ü", "a\0b", "\ud800", "日本", "x" * 300]),
    st.lists(st.integers(), max_size=1),
)
BODIES = st.fixed_dictionaries(
    {"model": st.just("bot")},
    optional={
        "user": VALUES | st.fixed_dictionaries({"id": VALUES}),
        "metadata": VALUES
        | st.fixed_dictionaries({"tenant": VALUES | st.fixed_dictionaries({"id": VALUES})}),
        "extra": VALUES | st.fixed_dictionaries({"id": VALUES}),
    },
)
HEADERS = st.dictionaries(
    st.sampled_from([b"x-user-id", b"x-risk"]),
    st.sampled_from([b"", b"u", b"low", b"\xfc", b"a b", b"y" * 300]),
)


def inbound(headers: dict[bytes, bytes], body: dict[str, Any]) -> Inbound:
    """Build a request."""
    lines = [b"POST /v1/chat/completions HTTP/1.1", b"host: x"]
    lines += [name + b": " + value for name, value in headers.items()]
    made = Inbound(read_request(b"\r\n".join(lines)), "key")
    made.body = json.dumps(body).encode()
    made.peeked = peek(made.body)
    return made


def cleaned(value: str | None, limit: int | None = None) -> str | None:
    """Return what a store can hold of a value."""
    if value is None:
        return None
    return value[:limit].encode("utf-8", "replace").decode().replace("\0", "\ufffd")


@given(
    st.lists(SOURCES, max_size=3),
    st.none() | SOURCES,
    st.none() | SOURCES,
    st.none() | DEEP,
    HEADERS,
    BODIES,
)
def test_prepared_sources_find_what_plain_ones_find(
    sources: list[str],
    segment: str | None,
    risk: str | None,
    deep: str | None,
    headers: dict[bytes, bytes],
    body: dict[str, Any],
) -> None:
    """Key, segment and risk tier are the same for any sources, headers and bodies."""
    keys = (*sources, *([] if deep is None else [deep]))
    request = inbound(headers, body)
    Targeting(keys, Eligibility(), segment=segment, risk=risk).describe(request)
    view = {**HeaderView(request.raw)}
    fields = json.loads(request.body)
    assert request.targeting_key == cleaned(targeting_key(keys, view, fields))
    for found, source in ((request.segment, segment), (request.risk, risk)):
        assert found == (None if source is None else cleaned(lookup(source, view, fields), 100))
    assert request.eligible


@given(
    st.none() | st.lists(st.sampled_from(["low", "u", "unknown"]), max_size=2).map(tuple),
    st.lists(
        st.tuples(
            st.sampled_from(["x-user-id", "x-risk", "日本"]), st.sampled_from(["u", "ü", ""])
        ),
        max_size=2,
    ).map(tuple),
    HEADERS,
)
def test_eligible_is_who_the_split_allows(
    tiers: tuple[str, ...] | None,
    wanted: tuple[tuple[str, str], ...],
    headers: dict[bytes, bytes],
) -> None:
    """Risk tiers and headers limit a rollout just as its split says."""
    request = inbound(headers, {"model": "bot"})
    eligible = Eligibility(tiers, wanted)
    Targeting((), eligible, risk="header:x-risk").describe(request)
    assert request.eligible is eligible.allows(request.risk, HeaderView(request.raw))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({b"x-coalmine-mirror": b"1"}, {}),
        ({}, {"previous_response_id": "r"}),
        ({}, {"conversation": "c"}),
        ({}, {"background": True}),
    ],
)
def test_some_requests_are_never_eligible(
    headers: dict[bytes, bytes], body: dict[str, Any]
) -> None:
    """Another gateway's mirror, and requests that lean on one deployment's state."""
    request = inbound(headers, {"model": "bot", **body})
    Targeting(("header:x-user-id",), Eligibility()).describe(request)
    assert not request.eligible
