"""Whether the client could execute the tool calls as they stand."""

from __future__ import annotations

from collections import Counter
from typing import Any

from shadow.answer import Choice, ToolCall
from shadow.checks.format_valid import worst
from shadow.checks.result import CheckResult, Finding, both
from shadow.checks.schema import BadSchema, NotJson, parse_json, violations
from shadow.pair import Arm, Pair, Prompt, Tool

NAME = "tool_contract"

_NO_CALL = Finding("not_applicable", "no tool call")


def check(pair: Pair) -> CheckResult:
    """Check every call: the tool exists, arguments parse, required are there, the schema holds.

    Unknown arguments fail, also where the schema forgot to forbid them (an explicit
    `additionalProperties` that allows them is honoured). A call against `tool_choice: none` or
    without any tools fails and is flagged `unwanted_call`; a call that `required` asked for and
    that is missing is flagged `missing_call`; the same call twice in one answer is flagged
    `repeated_call`. Does not catch: the wrong tool for the question, or plausible but wrong values.
    """

    def examine(arm: Arm) -> Finding:
        return worst([_examine(choice, pair.prompt) for choice in arm.answer.choices])

    return both(NAME, pair, examine)


def call_multiset(calls: tuple[ToolCall, ...]) -> Counter[str]:
    """Return the calls as a multiset of name and canonical arguments; order does not count."""
    return Counter(f"{call.name}({_canonical(call.arguments)})" for call in calls)


def _canonical(arguments: str) -> str:
    try:
        return repr(_sorted(parse_json(arguments or "{}")))
    except NotJson:
        return f"unparsed {arguments}"


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, _sorted(value[key])) for key in sorted(value)]
    if isinstance(value, list):
        return ["list", *map(_sorted, value)]
    return value


def _examine(choice: Choice, prompt: Prompt) -> Finding:
    calls = choice.tool_calls
    if not calls:
        if prompt.tool_choice == "required" and not choice.refusal:
            return Finding("fail", "no tool was called, one is required", flags=("missing_call",))
        return _NO_CALL
    if prompt.tool_choice == "none" or not prompt.raw_tools:
        return Finding("fail", "called a tool where none is allowed", flags=("unwanted_call",))
    reasons: list[str] = []
    tools = {tool.name: tool for tool in prompt.tools}
    try:
        for call in calls:
            reasons += _call_reasons(call, tools, prompt)
    except BadSchema as error:
        return Finding("error", str(error))
    if len(calls) > 1 and not prompt.parallel_tool_calls:
        reasons.append(f"{len(calls)} calls where parallel calls are off")
    repeated = max(call_multiset(calls).values()) > 1
    flags = ("repeated_call",) if repeated else ()
    if reasons:
        return Finding("fail", "; ".join(reasons)[:500], flags=flags)
    return Finding("pass", flags=flags)


def _call_reasons(call: ToolCall, tools: dict[str, Tool], prompt: Prompt) -> list[str]:
    tool = tools.get(call.name)
    if tool is None:
        return ["the called tool does not exist"]
    if prompt.named_tool is not None and call.name != prompt.named_tool:
        return [f"called {call.name}, asked for was {prompt.named_tool}"]
    try:
        # Some upstreams send nothing at all for a call without arguments.
        arguments = parse_json(call.arguments if call.arguments.strip() else "{}")
    except NotJson as error:
        return [f"{call.name}: arguments do not parse: {error}"]
    if not isinstance(arguments, dict):
        return [f"{call.name}: arguments are not an object"]
    if tool.parameters is None:
        return []
    reasons = [f"{call.name}: {reason}" for reason in violations(tool.parameters, arguments)]
    if unknown := _unknown(tool.parameters, arguments):
        reasons.append(f"{call.name}: {unknown} unknown argument(s)")
    return reasons


def _unknown(schema: dict[str, Any], arguments: dict[str, Any]) -> int:
    """Count arguments that the schema does not name, where it is plain enough to know."""
    plain = not schema.keys() & {
        "$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties", "additionalProperties",
        "dependentSchemas", "unevaluatedProperties",
    }  # fmt: skip
    named = schema.get("properties", {})
    if not plain or not isinstance(named, dict):
        return 0
    return len(arguments.keys() - named.keys())
