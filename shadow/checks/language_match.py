"""Whether the answer is in the language that was asked for."""

from __future__ import annotations

import re

from shadow.answer import Choice
from shadow.checks.citation_context import text_parts
from shadow.checks.format_valid import worst
from shadow.checks.languages import detect
from shadow.checks.result import PASS, CheckResult, Finding, both
from shadow.checks.wording import opening
from shadow.pair import Arm, Pair, Prompt

NAME = "language_match"

_NOT_WANTED = Finding("not_applicable", "no language is known to be wanted")

_OTHER_WANTED = re.compile(
    r"translat|übersetz|tradu[izc]|vertaal|przetłumacz|перевед|çevir|翻译|翻譯|翻訳|번역|"
    r"\b(?:in|auf|en|em|på|po|на) (?:english|german|french|spanish|italian|portuguese|dutch|polish|"
    r"russian|chinese|japanese|korean|turkish|swedish|arabic|hindi|deutsch|englisch|französisch|"
    r"spanisch|italienisch|anglais|allemand|français|espagnol|inglés|alemán|francés|español|inglese|"
    r"tedesco|francese|inglês|alemão|francês|engels|duits|angielsk\w+|niemieck\w+|английск\w+|"
    r"немецк\w+|русск\w+)\b",
    re.IGNORECASE,
)


def check(pair: Pair) -> CheckResult:
    """Fail where an answer is clearly in another language than the contract's `language`.

    `request` means that of the last message of the user; where that or the instructions speak of a
    translation or name a language, nothing is judged. Short texts, code, quotations and texts in
    languages that the library does not know are not judged, and nothing is without the extra
    `language` (`lingua-language-detector`). Looks at an answer's start. Does not catch: a change of
    language further on, single foreign words, and dialects.
    """
    wanted = pair.contract.language
    if wanted == "request":
        wanted = _of_request(pair.prompt)

    def examine(arm: Arm) -> Finding:
        if wanted is None:
            return _NOT_WANTED
        return worst([_examine(choice, wanted) for choice in arm.answer.choices])

    return both(NAME, pair, examine)


def _examine(choice: Choice, wanted: str) -> Finding:
    found = detect(opening(choice.text)) if choice.text else None
    if found is None:
        return Finding("not_applicable", "too short or unclear")
    return PASS if found == wanted else Finding("fail", f"in {found}, not in {wanted}")


def _of_request(prompt: Prompt) -> str | None:
    system: list[str] = []
    last = ""
    for message in prompt.messages:
        text = " ".join(text_parts(message.get("content")))
        if message.get("role") == "user":
            last = text
        elif message.get("role") in ("system", "developer"):
            system.append(text)
    if any(_OTHER_WANTED.search(text) for text in (last, *system)):
        return None
    return detect(last)
