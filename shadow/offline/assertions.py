"""Whether an answer holds what a regression case asserts. Pure."""

from __future__ import annotations

from gateway.settings import Contract
from shadow.answer import CHAT, Answer
from shadow.checks import CHECKS, Finding, run_checks
from shadow.offline.canonical import canonical
from shadow.offline.cases import Case, CheckAssertion
from shadow.pair import Arm, Pair, Prompt, read_prompt

__all__ = ["hold", "prompt_of"]

_CHECKS = {check.name: check for check in CHECKS}


def prompt_of(case: Case) -> Prompt:
    """Return what a case asks, as the checks read it."""
    wanted: dict[str, object] | None = {"type": "json_object"} if case.json_object else None
    if case.json_schema is not None:
        wanted = {"type": "json_schema", "json_schema": {"schema": case.json_schema}}
    body = {
        "messages": [message.model_dump() for message in case.messages],
        "tools": case.tools or None,
        "response_format": wanted,
    }
    return read_prompt(endpoint=CHAT, body=canonical(body))


def hold(case: Case, answer: Answer) -> Finding:
    """Return whether an answer passes the check that an earlier one failed, with the reason.

    An answer that did not come fails. An assertion for the judge is `not_applicable` here, and a
    check that this version does not have is an `error`.
    """
    told = case.assertion
    if not isinstance(told, CheckAssertion):
        return Finding("not_applicable", "no check is asserted")
    check = _CHECKS.get(told.check)
    if check is None:
        return Finding("error", f"no check is called {told.check!r}")
    if answer.error is not None:
        return Finding("fail", f"no answer: {answer.error}")
    pair = Pair(
        prompt_of(case),
        None,
        Arm(answer),
        case.contract or Contract(),
        must_refuse=case.must_refuse,
    )
    [found] = run_checks(pair, (check,))
    return found.candidate
