"""A pair's two answers as a person reads them: text and calls, not the body on the wire."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from rollout.api.pairs import ArmInfo, PairInfo
from shadow.answer import Answer, read_answer
from shadow.checks.citation_context import text_parts
from shadow.pair import UnreadableRequest, read_prompt

__all__ = ["SideInfo", "sides"]


class SideInfo(BaseModel):
    """One arm's answer, and what the figure's check said of it."""

    text: str = Field(description="What a reader saw, refusals and tool calls included.")
    finding: dict[str, Any] | None = Field(description="The check's finding.")


def sides(pair: PairInfo, metric: str) -> tuple[str, SideInfo | None, SideInfo | None]:
    """Return the last message of the request, the baseline's side and the candidate's."""
    findings = (pair.checks or {}).get(metric) or {}
    captured = _side(pair.endpoint, pair.captured, findings.get(pair.variant))
    other = "candidate" if pair.variant == "baseline" else "baseline"
    mirrored = None
    if pair.mirrored is not None:
        mirrored = _side(pair.endpoint, pair.mirrored, findings.get(other))
    if pair.variant == "baseline":
        return _prompt(pair), captured, mirrored
    return _prompt(pair), mirrored, captured


def _prompt(pair: PairInfo) -> str:
    try:
        messages = read_prompt(endpoint=pair.endpoint, body=pair.request).messages
    except UnreadableRequest:
        return ""
    return "".join(text_parts(messages[-1].get("content"))) if messages else ""


def _side(endpoint: str, arm: ArmInfo, finding: dict[str, Any] | None) -> SideInfo:
    if arm.response is None:
        return SideInfo(text=arm.error or "no answer", finding=finding)
    answer = read_answer(endpoint=endpoint, body=arm.response, status=arm.status or 200)
    return SideInfo(text=_shown(answer), finding=finding)


def _shown(answer: Answer) -> str:
    if answer.error is not None:
        return f"no answer: {answer.error}"
    parts = [answer.text, answer.refusal or ""]
    parts += [f"{call.name}({call.arguments})" for call in answer.tool_calls]
    return "\n".join(part for part in parts if part)
