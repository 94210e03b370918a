"""The pair: one production request, what each arm answered to it, and what the route promises.

Everything a check or the judge may look at is in these values; they read no store and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from gateway.settings import Contract, KnownFailure
from shadow.answer import RESPONSES, Answer, endpoint_of
from shadow.prices import Prices


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the client offered; `parameters` is its JSON Schema, None when undeclared."""

    name: str
    parameters: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """What the client asked the answer to be: `kind` is json_object or json_schema."""

    kind: str
    schema: dict[str, Any] | bool | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the client wrote it, in one form for every endpoint.

    `messages` are the client's own objects (images and other parts stay opaque), `tool_choice` is
    auto, none, required or the name of one function (`named_tool`).
    """

    endpoint: str
    messages: tuple[dict[str, Any], ...] = ()
    tools: tuple[Tool, ...] = ()
    raw_tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str = "auto"
    named_tool: str | None = None
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm's side of the pair. `latency_s` and `ttft_s` are seconds; None where unknown.

    `timed_out` means that no whole answer came within the limit; `latency_s` is then the limit.
    `prices` are those of the deployment that answered, None where they are not declared. `stances`
    are a model's readings of choices that the refusal rules were not sure of, by choice; None, or
    nothing: the rules' reading stands.
    """

    answer: Answer
    status: int | None = 200
    latency_s: float | None = None
    ttft_s: float | None = None
    timed_out: bool = False
    prices: Prices | None = None
    stances: tuple[str | None, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the arm gave no answer that could be judged."""
        return self.timed_out or self.answer.error is not None


@dataclass(frozen=True, slots=True)
class Pair:
    """One request and both arms; a live answer has one arm only. `slo_s` is seconds.

    `must_refuse` says whether the request has to be declined, None where that is not known. `known`
    holds the route's past failures by the fingerprint of their request (`shadow.fingerprint`).
    """

    prompt: Prompt
    baseline: Arm | None
    candidate: Arm | None
    contract: Contract = field(default_factory=Contract)
    slo_s: float | None = None
    must_refuse: bool | None = None
    known: Mapping[str, tuple[KnownFailure, ...]] = field(default_factory=dict)

    def swapped(self) -> Pair:
        """Return the same pair with the arms exchanged."""
        return replace(self, baseline=self.candidate, candidate=self.baseline)


class UnreadableRequest(ValueError):
    """The captured request is not a JSON object, so nothing can be compared."""


def read_prompt(*, endpoint: str, body: str) -> Prompt:
    """Read a captured request body. Raises `UnreadableRequest`."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise UnreadableRequest("the request body is not JSON") from None
    if not isinstance(document, dict):
        raise UnreadableRequest("the request body is not a JSON object")
    name = endpoint_of(endpoint)
    raw_tools = _dicts(document.get("tools"))
    raw_tools += [{"type": "function", "function": f} for f in _dicts(document.get("functions"))]
    choice, named = _tool_choice(document.get("tool_choice", document.get("function_call")))
    return Prompt(
        endpoint=name,
        messages=tuple(_messages(name, document)),
        tools=tuple(tool for raw in raw_tools if (tool := _tool(raw)) is not None),
        raw_tools=tuple(raw_tools),
        tool_choice=choice,
        named_tool=named,
        parallel_tool_calls=document.get("parallel_tool_calls") is not False,
        response_format=_response_format(name, document),
    )


def _messages(endpoint: str, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    if endpoint == RESPONSES:
        given = document.get("input")
        system = document.get("instructions")
        first = [{"role": "system", "content": system}] if isinstance(system, str) else []
        rest = [{"role": "user", "content": given}] if isinstance(given, str) else _dicts(given)
        return first + rest
    if "prompt" in document:
        return [{"role": "user", "content": document["prompt"]}]
    return _dicts(document.get("messages"))


def _tool(raw: Mapping[str, Any]) -> Tool | None:
    function = raw.get("function")
    if not isinstance(function, dict):
        function = raw if raw.get("type") == "function" else None  # the responses API is flat
    if function is None or not isinstance(function.get("name"), str):
        return None
    parameters = function.get("parameters")
    return Tool(function["name"], parameters if isinstance(parameters, dict) else None)


def _tool_choice(raw: Any) -> tuple[str, str | None]:
    if isinstance(raw, str):
        return raw, None
    if isinstance(raw, dict):
        function = raw.get("function", raw)
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str):
            return "required", name
    return "auto", None


def _response_format(endpoint: str, document: Mapping[str, Any]) -> ResponseFormat | None:
    raw = document.get("response_format")
    if endpoint == RESPONSES:
        text = document.get("text")
        raw = text.get("format") if isinstance(text, dict) else None
    if not isinstance(raw, dict):
        return None
    if raw.get("type") == "json_object":
        return ResponseFormat("json_object")
    if raw.get("type") == "json_schema":
        inner = raw.get("json_schema", raw)
        schema = inner.get("schema") if isinstance(inner, dict) else None
        return ResponseFormat("json_schema", schema if isinstance(schema, dict | bool) else None)
    return None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
