"""Properties of rewriting by splicing: only what is declared changes, no other byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.splice import Rewrite, members
from gateway.wire import peek

SPACE = st.text(" \t\r\n", max_size=2)
SCALARS = st.one_of(
    st.none().map(lambda _: "null"),
    st.booleans().map(lambda b: "true" if b else "false"),
    st.integers().map(str),
    st.sampled_from(["1.0", "1e5", "-0.0", "1E-7", "100000000000000000000.50"]),
    st.text(max_size=8).map(json.dumps),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8).map(
        lambda s: json.dumps(s, ensure_ascii=False)
    ),
    st.sampled_from(
        ['"model"', '"\\"model\\""', '"a\\\\"', '"]}"', '"{\\"model\\":1}"', '"\\u0041"']
    ),
)


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Draw the text of an object with odd spacing, escaped and repeated keys."""
    key = st.sampled_from(
        ['"a"', '"model"', '"mod\\u0065l"', '"\\"model\\""', '"x y"', '""', '"]"']
    )
    pair = st.tuples(SPACE, key, SPACE, SPACE, values, SPACE).map(
        lambda p: f"{p[0]}{p[1]}{p[2]}:{p[3]}{p[4]}{p[5]}"
    )
    return st.lists(pair, max_size=3).map(lambda pairs: "{" + ",".join(pairs) + "}")


def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Draw the text of an array with odd spacing."""
    return st.lists(st.tuples(SPACE, values, SPACE).map("".join), max_size=3).map(
        lambda items: "[" + ",".join(items) + "]"
    )


VALUES = st.recursive(SCALARS, lambda v: objects(v) | arrays(v), max_leaves=8)
OTHER_KEYS = st.sampled_from(
    ['"temperature"', '"tools"', '"x"', '"\\u0078"', '"Model"', '"metadata2"']
)
MODEL_KEYS = st.sampled_from(['"model"', '"mod\\u0065l"', '"\\u006dodel"'])


@st.composite
def requests(draw: st.DrawFn) -> list[tuple[str, str, str, str]]:
    """Draw the members of a request as (space, key, space, value), with one or more models."""
    rest = draw(st.lists(st.tuples(SPACE, OTHER_KEYS, SPACE, VALUES), max_size=5))
    models = draw(
        st.lists(
            st.tuples(SPACE, MODEL_KEYS, SPACE, st.text(max_size=6).map(json.dumps)),
            min_size=1,
            max_size=2,
        )
    )
    return draw(st.permutations(rest + models))


def render(parts: list[tuple[str, str, str, str]], lead: str = "") -> bytes:
    """Write the members as a document."""
    inner = ",".join(f"{a}{key}{b}:{a}{value}{b}" for a, key, b, value in parts)
    return f"{lead}{{{inner}}}{lead}".encode("utf-8", "surrogatepass")


def is_model(key: str) -> bool:
    """Say whether a key as written means ``model``."""
    return bool(json.loads(key) == "model")


@given(requests(), SPACE, st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
def test_only_the_model_changes(
    parts: list[tuple[str, str, str, str]], lead: str, name: str
) -> None:
    """Every other byte of the request reaches the deployment as the client wrote it."""
    body = render(parts, lead)
    written = json.dumps(name, ensure_ascii=False)
    expected = render([(a, k, b, written if is_model(k) else v) for a, k, b, v in parts], lead)
    assert Rewrite(name).apply(body, peek(body)) == expected


@given(requests(), SPACE)
def test_the_scanner_agrees_with_the_parser(
    parts: list[tuple[str, str, str, str]], lead: str
) -> None:
    """Keys and values found by scanning are those that a JSON parser finds, in order."""
    body = render(parts, lead)
    document = body.decode("utf-8", "surrogatepass")
    pairs: Any = json.loads(document, object_pairs_hook=lambda pairs: pairs)
    found = [(key, body[start:end]) for key, start, end in members(body, body.index(b"{"))]
    assert [key for key, _ in found] == [key for key, _ in pairs]
    for (_, raw), (_, value) in zip(found, pairs, strict=True):
        text = raw.decode("utf-8", "surrogatepass")
        assert json.loads(text, object_pairs_hook=lambda p: p) == value


@given(requests(), SPACE)
def test_declared_parameters_and_usage_are_set(
    parts: list[tuple[str, str, str, str]], lead: str
) -> None:
    """Parameters win over the client's, usage is asked for, and the document stays valid."""
    body = render(parts, lead)
    rewrite = Rewrite("up", parameters={"temperature": 0.5, "x": {"y": [1]}})
    out = rewrite.apply(body, peek(body), ask_usage=True)
    before = json.loads(body.decode("utf-8", "surrogatepass"))
    after = json.loads(out.decode("utf-8", "surrogatepass"))
    assert after == before | {
        "model": "up",
        "temperature": 0.5,
        "x": {"y": [1]},
        "stream_options": {"include_usage": True},
    }


OPTIONS = ['{"include_usage":false}', '{"x":[1]}', "{}", "null", '"no object"', "[1]"]


@given(
    requests(),
    st.lists(st.sampled_from(['"stream_options"', '"stream\\u005foptions"']), max_size=2),
    st.sampled_from(OPTIONS),
    SPACE,
    st.booleans(),
)
def test_the_short_way_writes_what_the_long_way_writes(
    parts: list[tuple[str, str, str, str]], keys: list[str], value: str, lead: str, ask: bool
) -> None:
    """Rewriting by search alone gives byte for byte what the scan of all members gives."""
    body = render([*parts, *(("", key, "", value) for key in keys)], lead)
    rewrite = Rewrite("up")
    assert rewrite.apply(body, peek(body), ask_usage=ask) == rewrite._general(
        body, peek(body), "", ask_usage=ask
    )


FILL = b'"messages":[{"role":"user","content":"' + b'tell me about \\"model\\" ' * 9 + b'"}]'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"bot",%b}', b'{"model":"up",%b}'),
        (b'{%b,"model":"bot"}', b'{%b,"model":"up"}'),
        (b'{%b,\n  "model" : "bot"\n}', b'{%b,\n  "model" : "up"\n}'),
        (b'{%b,"model":\t "b\\u006ft"}', b'{%b,"model":\t "up"}'),
        (b'{%b,"model":"b\\"o\\\\"}', b'{%b,"model":"up"}'),
        (b'{"model":"bot",%b,"model":"bot"}', b'{"model":"up",%b,"model":"up"}'),
        (b'{"model":"x",%b,"mod\\u0065l":"bot"}', b'{"model":"up",%b,"mod\\u0065l":"up"}'),
        (b'{"x":{"model":"bot"},%b,"model":"a"}', b'{"x":{"model":"bot"},%b,"model":"up"}'),
        (b'{"model":"a",%b,"x":{"model":"bot"}}', b'{"model":"up",%b,"x":{"model":"bot"}}'),
        (
            b'{"x":{"model":"b"},%b,"mod\\u0065l":"a"}',
            b'{"x":{"model":"b"},%b,"mod\\u0065l":"up"}',
        ),
        (b'{"a\\"model":"v",%b,"model":"bot"}', b'{"a\\"model":"v",%b,"model":"up"}'),
        (b'{%b,"model":"bot","a\\"model":"v"}', b'{%b,"model":"up","a\\"model":"v"}'),
        (b'{"x":"model",%b,"model":"bot"}', b'{"x":"model",%b,"model":"up"}'),
        (b'{%b,"model":"bot","x":["model"]}', b'{%b,"model":"up","x":["model"]}'),
        (b'{%b,"model":"bot","x":NaN}', b'{%b,"model":"up","x":NaN}'),
        (b'{%b,"model":"bot","x":"\\ud800"}', b'{%b,"model":"up","x":"\\ud800"}'),
    ],
)
def test_the_right_model_is_found_wherever_it_stands(body: bytes, expected: bytes) -> None:
    """First, last, repeated, escaped, beside look-alikes: only top-level models are rewritten."""
    body, expected = body.replace(b"%b", FILL), expected.replace(b"%b", FILL)
    assert Rewrite("up").apply(body, peek(body)) == expected


def test_a_request_without_a_model_gets_none_by_look_alikes() -> None:
    """What is called model further inside is not the request's model."""
    body = b'{"x":{"model":"bot"}}'
    assert Rewrite("up").apply(body, peek(body)) == body


ROLES: st.SearchStrategy[Any] = st.sampled_from(
    ["system", "developer", "user", "assistant", None, [], {"a": 1}]
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": ROLES}, optional={"content": st.text(max_size=5), "name": st.just("n")}
    ),
    max_size=4,
)


@given(MESSAGES)
def test_a_declared_system_prompt_replaces_or_leads(messages: list[dict[str, Any]]) -> None:
    """The first system or developer message gets the prompt, or a new one is put in front."""
    body = json.dumps({"messages": messages, "model": "m"}).encode()
    out = json.loads(Rewrite("up", system_prompt='be "kind"').apply(body, peek(body)))
    expected = [dict(m) for m in messages]
    for message in expected:
        if message["role"] in ("system", "developer"):
            message["content"] = 'be "kind"'
            break
    else:
        expected.insert(0, {"role": "system", "content": 'be "kind"'})
    assert out == {"messages": expected, "model": "up"}
