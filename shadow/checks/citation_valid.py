"""Whether what the answer cites is in what it was given."""

from __future__ import annotations

import re
from functools import cached_property

from shadow.answer import Choice
from shadow.checks.abstention_rate import abstains
from shadow.checks.citation_context import (
    Context,
    normal_url,
    read_context,
    text_parts,
    well_formed,
)
from shadow.checks.citation_marks import read_citations, verbatim
from shadow.checks.format_valid import worst
from shadow.checks.refusal_rate import stance
from shadow.checks.result import PASS, CheckResult, Finding, both
from shadow.pair import Arm, Pair, Prompt

NAME = "citation_valid"

_NOT_CITED = Finding("not_applicable", "no citation")
_NO_SOURCES = Finding("not_applicable", "nothing to cite")

_SIGNS = ("[", "\u3010", "://", "(", "ource", "uelle", "uente", '"cit')
_ASKS = re.compile(
    r"\bcit(?:e|es|ing|ations?)\b|\bfootnotes?\b|\bwith (?:sources|references)\b|\bzitier|"
    r"quellenangabe|\bquellen (?:an|nenn)|\bcite[zr]\b|\bcita(?:r|s)?\b|\b(?:tes|vos|"
    r"les) sources\b|\b(?:tus|sus|las) fuentes\b"
)
_HINTS = ("cit", "footnote", "source", "reference", "zitier", "quelle", "fuente")
_ASKS_NOT = re.compile(
    r"\b(?:not|never|n't|without|no|avoid)\b[^.\n]{0,30}(?:\bcit|footnote)|\b(?:nicht|keine)\b"
    r"[^.\n]{0,30}(?:zitier|quellen)|\bne \w+ pas\b[^.\n]{0,20}\bcit|\bsin\b[^.\n]{0,10}\bcita"
)
_MANY_WORDS = 20
"""An answer with fewer words may well have nothing to cite."""


class _Sources:
    """A request's context, read when it is first needed."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt

    @cached_property
    def context(self) -> Context:
        return read_context(self._prompt.messages)

    @cached_property
    def asked(self) -> bool:
        """Whether the instructions or the last message ask for citations."""
        messages = self._prompt.messages
        wanted = [each for each in messages if each.get("role") in ("system", "developer")]
        for message in (*wanted, *messages[-1:]):
            words = " ".join(text_parts(message.get("content"))).lower()
            if (
                any(hint in words for hint in _HINTS)
                and _ASKS.search(words)
                and not _ASKS_NOT.search(words)
            ):
                return True
        return False


def check(pair: Pair) -> CheckResult:
    """Fail where the answer cites a source, a URL or a quotation that the request does not hold.

    Sources are what tool results, system text and the client's messages declare: `[doc3] …`,
    `<document id="x">`, `Source 3: …`, `id:` and `title:` lines and fields, URLs. A mark in the
    answer is a citation where it looks like those identifiers (`[3]`, `[doc3]`, `(source: X)`), so
    that brackets of other kinds are left alone. A quotation beside a citation must stand in the
    context word for word, apart from case, white space and marked omissions; a URL must be well
    formed and one of the context's. A longer answer without any citation fails where citations were
    asked for, unless it refuses or does not know. Flags: `unknown_source`, `unknown_url`,
    `malformed_url`, `not_verbatim`, `no_citation`. Does not catch: a source that exists and does
    not say so, a quotation credited to the wrong source, claims that should have been cited.
    """
    sources = _Sources(pair.prompt)

    def examine(arm: Arm) -> Finding:
        return worst([_examine(choice, sources) for choice in arm.answer.choices])

    return both(NAME, pair, examine)


def _examine(choice: Choice, sources: _Sources) -> Finding:
    text = choice.text
    if not any(sign in text for sign in _SIGNS) and not sources.asked:
        return _NOT_CITED
    context = sources.context
    if not context.sourced:
        return _NO_SOURCES
    cited = read_citations(text, context)
    if not cited.anything:
        return _silent(choice, sources)
    reasons: list[str] = []
    flags: list[str] = []
    if cited.unknown:
        reasons.append(f"{cited.unknown} of {cited.unknown + cited.known} sources are not given")
        flags.append("unknown_source")
    strangers = [url for url in cited.urls if not _given(url, context)]
    malformed = sum(not well_formed(url) for url in strangers)
    strange = len(strangers) - malformed
    if malformed:
        reasons.append(f"{malformed} of {len(cited.urls)} URLs are malformed")
        flags.append("malformed_url")
    if strange:
        reasons.append(f"{strange} of {len(cited.urls)} URLs are not given")
        flags.append("unknown_url")
    invented = sum(not verbatim(quotation, context) for quotation in cited.quotations)
    if invented:
        reasons.append(f"{invented} of {len(cited.quotations)} quotations are not verbatim")
        flags.append("not_verbatim")
    if reasons:
        return Finding("fail", "; ".join(reasons), flags=tuple(flags))
    return PASS


def _given(url: str, context: Context) -> bool:
    """Whether the context has this URL, or, for the front page of a site, one of that site."""
    plain = normal_url(url)
    return plain in context.urls or plain in context.hosts


def _silent(choice: Choice, sources: _Sources) -> Finding:
    if choice.tool_calls or choice.refusal or len(choice.text.split()) < _MANY_WORDS:
        return _NOT_CITED
    if not sources.context.ids or not sources.asked:
        return _NOT_CITED
    if stance(choice.text) != "complied" or abstains(choice.text):
        return _NOT_CITED
    return Finding("fail", "no citation, and some were asked for", flags=("no_citation",))
