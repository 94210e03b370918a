"""Regression cases and eval cases of pairs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from shadow.checks.citation_context import normal_id, read_context
from shadow.offline.cases import (
    Assertion,
    Case,
    CheckAssertion,
    JudgeAssertion,
    Provenance,
)
from shadow.offline.conversation import Message, chat_messages, function_tools
from shadow.offline.material import Arm, Material, Preferred, broken_checks
from shadow.offline.request import ExportRequest
from shadow.offline.row_parts import (
    Origin,
    Row,
    choice_of,
    make_row,
    provenance_of,
    whole_text,
)

__all__ = ["eval_rows", "regression_rows"]

_NOT_AGAIN = frozenset({"error_rate", "timeout_rate", "boilerplate_rate", "known_failure_rate"})
"""What asking again says nothing about: answers that never came, text shared with other answers,
and failures that are a case already."""

_MARK = re.compile(r"\[([^\[\]\n]{1,64})\]")
_UNDECIDED = frozenset({"human_tie", "tie", "identical"})


def regression_rows(material: Material, request: ExportRequest, origin: Origin) -> list[Row] | str:
    """Return a case for every check that an answer failed, and for a lost comparison."""
    messages = chat_messages(material.prompt)
    if messages is None:
        return "not_text"
    rows = [
        _case_row(
            material,
            provenance_of(material, request, origin, choice),
            _case(material, origin, messages, assertion=assertion, reference=reference),
        )
        for choice, assertion, reference in _failures(material, request)
    ]
    return rows or "nothing_failed"


def _failures(
    material: Material, request: ExportRequest
) -> Iterator[tuple[Preferred, Assertion, str | None]]:
    """Yield what went wrong: who says so, what must hold from now on, and a better answer."""
    arms: tuple[Arm, Arm] = ("candidate", "baseline")
    metric = None if request.metric == "judge_win_rate" else request.metric
    if request.metric != "judge_win_rate" and "check" in (request.sources or ["check"]):
        for arm in arms:
            other: Arm = "baseline" if arm == "candidate" else "candidate"
            for name in broken_checks(material, arm, metric=metric):
                answer = material.answer(arm)
                if answer is None or name in _NOT_AGAIN:
                    continue
                reason = str(material.checks[name][arm].get("reason", ""))
                told = CheckAssertion(check=name, reason=reason, failed_answer=answer.text)
                sound = not broken_checks(material, other, metric=name)
                better = whole_text(material.answer(other)) if sound else None
                yield Preferred(other, "check", 1.0, (name,)), told, better
    if metric is not None:
        return
    choice = choice_of(material, request)
    if isinstance(choice, str) or choice.source == "check" or choice.winner == "candidate":
        return
    lost = JudgeAssertion(
        reason=str(material.comparison.get("reason") or ""),
        failed_answer=whole_text(material.candidate) or "",
    )
    yield choice, lost, whole_text(material.baseline)


def eval_rows(material: Material, request: ExportRequest, origin: Origin) -> list[Row] | str:
    """Return the one case of a request, with a reference answer where a good one is known."""
    messages = chat_messages(material.prompt)
    if messages is None:
        return "not_text"
    choice = choice_of(material, request)
    if isinstance(choice, str):
        if request.sources or request.metric:
            return choice
        # Nobody prefers the candidate's: what users got is good as far as is known.
        known = choice in _UNDECIDED and material.baseline is not None
        arm: Arm | None = "baseline" if known else None
        provenance = provenance_of(material, request, origin, None)
    else:
        arm = choice.winner
        provenance = provenance_of(material, request, origin, choice)
    reference = None if arm is None else whole_text(material.answer(arm))
    case = _case(
        material,
        origin,
        messages,
        reference=reference,
        citations=_cited(material, arm, reference),
    )
    return [_case_row(material, provenance, case)]


def _case(
    material: Material,
    origin: Origin,
    messages: list[Message],
    *,
    reference: str | None,
    assertion: Assertion | None = None,
    citations: list[str] | None = None,
) -> Case:
    prompt, wanted = material.prompt, material.prompt.response_format
    return Case.model_validate(
        {
            "messages": messages,
            "tools": function_tools(prompt),
            "schema": wanted.schema if wanted is not None else None,
            "json_object": wanted is not None and wanted.kind == "json_object",
            "contract": origin.contract,
            "category": material.segment,
            "risk": material.risk,
            "reference_answer": reference,
            "must_refuse": _must_refuse(material),
            "must_call": [] if prompt.named_tool is None else [prompt.named_tool],
            "citations": citations or [],
            "assertion": assertion,
        }
    )


def _case_row(material: Material, provenance: Provenance, case: Case) -> Row:
    full = case.model_copy(
        update={
            "group": provenance.group,
            "split": provenance.split,
            "metadata": provenance,
        }
    )
    asked = {"messages": [each.model_dump() for each in case.messages], "tools": case.tools}
    return make_row(
        material,
        provenance,
        asked=asked,
        key={"id": case.id},
        body=full.row(),
    )


def _must_refuse(material: Material) -> bool | None:
    """Return whether the route says that this has to be refused: each check is for one of them."""
    for name, must in (("over_refusal_rate", False), ("under_refusal_rate", True)):
        findings = (material.checks.get(name) or {}).values()
        if any(finding.get("outcome") in ("pass", "fail") for finding in findings):
            return must
    return None


def _cited(material: Material, arm: Arm | None, reference: str | None) -> list[str]:
    """Return the sources of the request that a sound reference answer cites."""
    finding = (material.checks.get("citation_valid") or {}).get(str(arm)) or {}
    if reference is None or finding.get("outcome") != "pass":
        return []
    marked = {normal_id(mark) for mark in _MARK.findall(reference)}
    return sorted(marked & read_context(material.prompt.messages).ids)
