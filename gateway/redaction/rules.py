"""The rules that come with Coalmine: each finds spans of one kind in a text; pure.

Every rule looks for a literal or a run of digits first, so that a text without any costs little,
and starts at most once at each place, so that its time is linear in the text's length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick, Implementation

from gateway.redaction.checksums import IBAN_LENGTHS, is_card, is_iban

__all__ = ["BUILT_IN", "NumberInTheWay", "Rule", "Span", "has_digits", "has_literals"]


class Span(NamedTuple):
    """Where something to be replaced stands; the same ``value`` gets the same placeholder."""

    start: int
    end: int
    value: str


class Rule(NamedTuple):
    """A named finder; ``label`` is what placeholders are called."""

    name: str
    label: str
    find: Callable[[str], Iterator[Span]]


class NumberInTheWay(ValueError):
    """A card's number stands as a JSON number, which no placeholder can take the place of."""


_DIGITS = re.compile(r"\d(?:[ \u00a0().\-/]{0,3}\d){6}", re.ASCII)
_OTHERS = bytes(each for each in range(256) if each not in b"0123456789")
_LONG = 64


def has_digits(text: str) -> bool:
    """Say whether there is a run of digits that could be a phone, a card or an account."""
    if len(text) > _LONG and len(text.encode("utf-8", "replace").translate(None, _OTHERS)) < 7:
        return False  # too few in all of it, which is seen much sooner
    return _DIGITS.search(text) is not None


_MARKS = ("%40", "eyJ", "xox", "AKIA", "ASIA", "AIza", "SG.")
_DASHED = ("-----BEGIN ", "sk-", "glpat-")
_UNDERSCORED = (
    "sk_", "rk_", "pk_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "hf_", "npm_",
)  # fmt: skip


def marked(text: str) -> bool:
    """Say whether a text holds a literal that one of the rules looks for."""
    if "@" in text or any(mark in text for mark in _MARKS):
        return True
    if "-" in text and any(mark in text for mark in _DASHED):
        return True
    return "_" in text and any(mark in text for mark in _UNDERSCORED)


def _anchored(text: str, literals: tuple[str, ...], pattern: re.Pattern[str]) -> Iterator[Span]:
    """Yield what ``pattern`` matches where one of ``literals`` begins."""
    for literal in literals:
        position = text.find(literal)
        while position >= 0:
            match = pattern.match(text, position)
            if match is not None:
                yield Span(match.start(), match.end(), match[0])
            position = text.find(literal, match.end() if match else position + 1)


_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")


def private_keys(text: str) -> Iterator[Span]:
    """Find PEM private keys, up to their end line or, where that is missing, the text's end."""
    position = text.find("-----BEGIN ")
    while position >= 0:
        end = position + 11
        if _PEM.match(text, position):
            last = _PEM_END.search(text, position)
            end = len(text) if last is None else last.end()
            yield Span(position, end, text[position:end])
        position = text.find("-----BEGIN ", end)


_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{6,}+(?:\.[\w-]++){1,4}", re.ASCII)


def web_tokens(text: str) -> Iterator[Span]:
    """Find JSON web tokens, signed or encrypted."""
    return _anchored(text, ("eyJ",), _JWT)


_KEYS = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"sk-[\w-]{16,}+|[srp]k_(?:live|test)_\w{10,}+|(?:AKIA|ASIA)[A-Z0-9]{16}(?!\w)"
    r"|gh[pousr]_[A-Za-z0-9]{20,}+|github_pat_\w{20,}+|glpat-[\w-]{20,}+|xox[abeoprs]-[\w-]{10,}+"
    r"|AIza[\w-]{35}(?![\w-])|hf_[A-Za-z0-9]{20,}+|npm_[A-Za-z0-9]{36}(?!\w)"
    r"|SG\.[\w-]{16,}+\.[\w-]{16,}+)",
    re.ASCII,
)
_KEY_STARTS = ("sk-", "glpat-", "xox", "AKIA", "ASIA", "AIza", "SG.", *_UNDERSCORED)
_BEARER = re.compile(r"(?:bearer|basic)[ \t]{1,4}([\w.~+/=-]{16,}+)", re.ASCII | re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?:pass(?:word|wd|phrase)|pwd|api[ _-]?key|[_-]token"
    r"|secret(?:[_-]?access)?(?:[_-]?key)?|private[_-]?key)"
    r"[\"'\\]{0,2}[ \t]{0,3}(?P<sign>[:=]|=>|\bis\b)[ \t]{0,3}[\"'\\]{0,2}"
    r"(?P<value>[^\s\"'\\,;<>{}\[\]()]{6,200})",
    re.IGNORECASE,
)
_ASSIGNED_STARTS = (
    "password", "passwd", "passphrase", "pwd", "apikey", "api_key", "api-key", "api key", "_token",
    "-token", "secret", "private_key", "private-key", "privatekey",
)  # fmt: skip
_BEARER_STARTS = ("bearer", "basic")


def lowered(text: str) -> str:
    """Return the text in small letters, each in its place."""
    low = text.lower()
    if len(low) != len(text):  # a few letters grow when they are made small
        low = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    return low


def named(low: str) -> bool:
    """Say whether a text in small letters calls something a secret."""
    return any(
        start in low and (start not in _TOKEN or low.count(start) > low.count(f"{start}s"))
        for start in (*_BEARER_STARTS, *_ASSIGNED_STARTS)
    )


_TOKEN = ("_token", "-token")
"""In the plural they are no secrets: answers count `prompt_tokens`."""
_COUNTED = frozenset([*_TOKEN, *(f"{each}s" for each in _TOKEN)])
_LITERALS = AhoCorasick(
    [
        *("@", *(each.lower() for each in (*_MARKS, *_DASHED, *_UNDERSCORED))),
        *{*_BEARER_STARTS, *_ASSIGNED_STARTS, *_COUNTED},
    ],
    implementation=Implementation.DFA,
)


def has_literals(text: str) -> bool:
    """Say whether a text holds a literal that one of the rules looks for, or that names a secret.

    All are looked for in one pass, whatever the case of their letters; few texts hold any.
    """
    low = lowered(text)
    try:
        found = _LITERALS.find_matches_as_strings(low, overlapping=True)
    except UnicodeEncodeError:  # half of a surrogate pair, which only Python's own strings hold
        found = [""]
    if all(each in _COUNTED for each in found):
        return any(found.count(each) > found.count(f"{each}s") for each in _TOKEN)
    return marked(text) or named(low)


def secrets(text: str) -> Iterator[Span]:
    """Find keys of known forms, bearer tokens, and what is assigned to a password or a secret."""
    if "-" in text or "_" in text or "A" in text or "SG." in text:
        yield from _anchored(text, _KEY_STARTS, _KEYS)
    low = lowered(text)
    if not named(low):
        return
    for start in _BEARER_STARTS:
        for match in _matches(low, start, _BEARER, text):
            yield Span(match.start(1), match.end(1), match[1])
    for start in _ASSIGNED_STARTS:
        for match in _matches(low, start, _ASSIGNED, text):
            value = match["value"].rstrip(".!?:")
            plain = value.isalpha()  # a word, as in prose, unless it is assigned like a value
            if not plain or (match["sign"] != "is" and start in {"password", "passwd", "pwd"}):
                begin = match.start("value")
                yield Span(begin, begin + len(value), value)


def _matches(
    low: str, literal: str, pattern: re.Pattern[str], text: str
) -> Iterator[re.Match[str]]:
    position = low.find(literal)
    while position >= 0:
        match = pattern.match(text, position)
        if match is not None:
            yield match
        position = low.find(literal, match.end() if match else position + 1)


_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?=[ \u00a0-]?[A-Z0-9])", re.ASCII | re.IGNORECASE
)
_IBAN_REST = re.compile(r"(?:[ \u00a0-]?[A-Z0-9]){1,31}", re.ASCII | re.IGNORECASE)


def accounts(text: str) -> Iterator[Span]:
    """Find IBANs, in groups or not, by their country's length and their checksum."""
    if not has_digits(text):
        return
    for match in _IBAN.finditer(text):
        length = IBAN_LENGTHS.get(match[0][:2].upper())
        rest = _IBAN_REST.match(text, match.end())
        if length is None or rest is None:
            continue
        compact, end = match[0].upper(), match.end()
        for each in rest[0]:
            if len(compact) == length:
                break
            end += 1
            compact += each.upper() if each.isalnum() else ""
        if is_iban(compact) and not text[end : end + 1].isalnum():
            yield Span(match.start(), end, compact)


_CARD = re.compile(r"(?<![\w.])\d(?:[ \u00a0-]?\d)++(?!\w)", re.ASCII)
_GROUP = re.compile(r"\d++", re.ASCII)
_MEMBER_BEFORE = re.compile(r"\"\s{0,8}:\s{0,8}\Z")


def cards(text: str) -> Iterator[Span]:
    """Find payment cards, in groups of three to seven digits or in one.

    Raises :class:`NumberInTheWay` where one stands as a number in JSON.
    """
    if not has_digits(text):
        return
    for match in _CARD.finditer(text):
        if match.end() - match.start() < 13:
            continue
        groups = [(m.start(), m.end()) for m in _GROUP.finditer(text, match.start(), match.end())]
        first = 0
        while first < len(groups):
            last = _card_from(text, groups, first)
            if last is None:
                first += 1
                continue
            start, end = groups[first][0], groups[last][1]
            before = _MEMBER_BEFORE.search(text, max(0, start - 20), start)
            if first == last and before is not None:
                raise NumberInTheWay
            yield Span(start, end, "".join(text[s:e] for s, e in groups[first : last + 1]))
            first = last + 1


def _card_from(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    digits = ""
    for index in range(first, min(first + 7, len(groups))):
        start, end = groups[index]
        size = end - start
        if index > first and not 3 <= size <= 7:
            return None
        if size > 19 or len(digits) + size > 19:
            return None
        digits += text[start:end]
        if len(digits) >= 13 and is_card(digits):
            return index
        if index == first and size > 7:
            return None
    return None


_STOP = r"\s\"'(),:;<>\[\]\\@{}/=?&|\x00"
_LOCAL = re.compile(rf"[^{_STOP}]{{1,64}}+")
_DOMAIN = re.compile(r"(?:[\w-]{1,63}+\.){1,8}(?:xn--[\w-]{2,59}|[^\W\d_]{2,24})")


def emails(text: str) -> Iterator[Span]:
    """Find e-mail addresses, also where a URL writes the sign as ``%40``."""
    for sign in ("@", "%40"):
        position = text.find(sign)
        while position >= 0:
            after = position + len(sign)
            domain = _DOMAIN.match(text, after)
            if domain is not None:
                window = text[max(0, position - 64) : position][::-1]
                local = _LOCAL.match(window)
                if local is not None:
                    start = position - local.end()
                    while start < position and text[start] in ".*_`~!":
                        start += 1
                    if start < position:
                        address = f"{text[start:position]}@{domain[0]}".lower()
                        yield Span(start, domain.end(), address)
            position = text.find(sign, after)


_SEPARATORS = r"[ \u00a0().\-/]{0,2}"
_INTERNATIONAL = re.compile(rf"(?<![\w+])\+[ ]?[1-9](?:{_SEPARATORS}\d){{7,14}}(?!\d)", re.ASCII)
_DOUBLE_ZERO = re.compile(
    r"(?<![\w.,-])(?<!\d )00[1-9]\d{0,2}[ \-/]\(?\d(?:[ \-/()]{0,2}\d){6,12}(?!\w)"
)
_NORTH_AMERICA = re.compile(
    r"(?<![\w.,-])(?:1[ .-])?(?:\([2-9]\d{2}\)[ -]?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}(?![\w-])",
    re.ASCII,
)
_TRUNK = re.compile(
    r"(?<![\w.,/-])(?<!\d )(?:\(0[1-9]\d{0,4}\)|0[1-9]\d{0,4})[ \-/.]?"
    r"(?:\d{2,8}[ \-/.]){0,4}\d{2,8}(?!\w)",
    re.ASCII,
)
_DATE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})(?!\d)|\d{4}-\d{2}-\d{2}", re.ASCII)
_NAMED = re.compile(
    r"\b(?:phone|tel(?:ephone|efon)?|mobile|cell|whatsapp|fax|handy|rufnummer)\b"
    r"[\"'\\]{0,2}(?:[ .:=#(]|number\b|no\b|nr\b|is\b){1,12}[\"'\\]{0,2}"
    r"(\+?\d(?:[ .()\-/]{0,2}\d){6,14})(?!\d)",
    re.ASCII | re.IGNORECASE,
)


def phones(text: str) -> Iterator[Span]:
    """Find phone numbers: with a country's code, in national forms, or called a phone's."""
    if not has_digits(text):
        return
    found: list[tuple[int, int]] = []
    for pattern, sign in ((_INTERNATIONAL, "+"), (_DOUBLE_ZERO, "00"), (_NORTH_AMERICA, "")):
        if sign in text:
            found += [match.span() for match in pattern.finditer(text)]
    for match in _TRUNK.finditer(text):
        groups = re.findall(r"\d+", match[0])
        size = sum(map(len, groups))
        if len(groups) > 1 and 9 <= size <= 12 and not _DATE.match(match[0]):
            found.append(match.span())
    found += [match.span(1) for match in _NAMED.finditer(text)]
    last = 0
    for start, end in sorted(found):
        if start >= last:
            yield Span(start, end, re.sub(r"\D", "", text[start:end]))
            last = end


BUILT_IN = (
    Rule("private_key", "PRIVATE_KEY", private_keys),
    Rule("jwt", "JWT", web_tokens),
    Rule("secret", "SECRET", secrets),
    Rule("iban", "IBAN", accounts),
    Rule("card", "CARD", cards),
    Rule("email", "EMAIL", emails),
    Rule("phone", "PHONE", phones),
)
"""In the order in which they are applied: what one has found, the next do not see."""
