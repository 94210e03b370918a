"""Whether the answer has the form that the client or the route asked for."""

from __future__ import annotations

import re
from typing import Any

from gateway.settings import Contract
from shadow.answer import Choice
from shadow.checks.numbered import list_fault
from shadow.checks.result import CheckResult, Finding, both
from shadow.checks.schema import BadSchema, NotJson, parse_json, violations
from shadow.checks.words import count_words
from shadow.checks.xml_text import xml_fault
from shadow.pair import Arm, Pair, ResponseFormat

NAME = "format_valid"

_NOT_DECLARED = Finding("not_applicable", "no format is declared")

_DECLARED = tuple(name for name in Contract.model_fields if name not in ("escalation", "language"))

_FENCE = re.compile(r"\A\s*(```|~~~)[a-zA-Z0-9_-]*[ \t]*\n(?P<body>.*?)\n?\1\s*\Z", re.DOTALL)


def check(pair: Pair) -> CheckResult:
    """Check the whole answer against `response_format` and the route's contract.

    JSON and XML must parse as they are: an answer that parses only without its code fence fails,
    and is flagged `json_after_fences` or `xml_after_fences` so that the share can be reported
    apart. No schema's remote reference and no XML entity is ever resolved. A pure tool call and an
    explicit refusal have no format to check. Does not catch: wrong values in the right shape,
    formats that were asked for only in prose, duplicate keys, and XML against a schema of its own.
    """
    wanted = pair.prompt.response_format
    contract = pair.contract
    declared = wanted is not None or any(
        getattr(contract, name) not in (None, False) for name in _DECLARED
    )

    def examine(arm: Arm) -> Finding:
        if not declared:
            return _NOT_DECLARED
        findings = [_examine(choice, wanted, contract) for choice in arm.answer.choices]
        return worst(findings)

    return both(NAME, pair, examine)


def worst(findings: list[Finding]) -> Finding:
    """Return the finding that decides among several choices: a failure before anything else."""
    if len(findings) == 1:
        return findings[0]
    order = ("fail", "error", "pass", "not_applicable")
    ranked = sorted(findings, key=lambda finding: order.index(finding.outcome))
    return ranked[0] if ranked else Finding("not_applicable", "no choices")


def _examine(choice: Choice, wanted: ResponseFormat | None, contract: Contract) -> Finding:
    if choice.refusal:
        return Finding("not_applicable", "refused")
    if choice.tool_calls and not choice.text.strip():
        return Finding("not_applicable", "a tool call")
    try:
        reasons, flags = _broken(choice.text, wanted, contract)
    except BadSchema as error:
        return Finding("error", str(error))
    if reasons:
        return Finding("fail", "; ".join(reasons)[:500], flags=flags)
    return Finding("pass", flags=flags)


def _broken(
    text: str, wanted: ResponseFormat | None, contract: Contract
) -> tuple[list[str], tuple[str, ...]]:
    reasons: list[str] = []
    flags: tuple[str, ...] = ()
    schemas: list[dict[str, Any] | bool] = []
    if wanted is not None and wanted.schema is not None:
        schemas.append(wanted.schema)
    if contract.json_schema is not None:
        schemas.append(contract.json_schema)
    needs_object = contract.json_object or (wanted is not None and wanted.kind == "json_object")
    if schemas or needs_object or wanted is not None:
        reasons = _json_reasons(text, schemas, needs_object)
        fenced = _FENCE.match(text)
        if reasons and fenced and not _json_reasons(fenced["body"], schemas, needs_object):
            flags = ("json_after_fences",)
    if contract.xml:
        fault = xml_fault(text, contract.xml_root)
        fenced = _FENCE.match(text)
        if fault and fenced and not xml_fault(fenced["body"], contract.xml_root):
            flags = ("xml_after_fences",)
        reasons += [fault] if fault else []
    return reasons + _text_reasons(text, contract), flags


def _json_reasons(text: str, schemas: list[dict[str, Any] | bool], needs_object: bool) -> list[str]:
    try:
        document = parse_json(text)
    except NotJson as error:
        return [f"not JSON: {error}"]
    if needs_object and not isinstance(document, dict):
        return ["not a JSON object"]
    return [reason for schema in schemas for reason in violations(schema, document)]


def _text_reasons(text: str, contract: Contract) -> list[str]:
    reasons = []
    if contract.regex is not None and violations(
        {"type": "string", "pattern": contract.regex}, text
    ):
        reasons.append("does not match the route's regex")
    if contract.numbered_list and (
        fault := list_fault(text, contract.min_items, contract.max_items)
    ):
        reasons.append(fault)
    limited = contract.max_words is not None or contract.min_words is not None
    words = count_words(text) if limited else 0
    if contract.max_words is not None and words > contract.max_words:
        reasons.append(f"{words} words, more than {contract.max_words}")
    if contract.min_words is not None and words < contract.min_words:
        reasons.append(f"{words} words, fewer than {contract.min_words}")
    if contract.required_text is not None and contract.required_text not in text:
        reasons.append("the required text is missing")
    return reasons
