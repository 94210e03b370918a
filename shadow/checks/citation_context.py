"""What a request gives an answer to cite: identifiers, URLs and the text itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import msgspec

WORD = (
    r"(?:sources?|documents?|docs?|passages?|chunks?|articles?|references?|refs?|excerpts?|"
    r"snippets?|results?|citations?|quellen?|dokumente?|fuentes?|documentos?|fontes?|fonti|bron)"
)
"""What a numbered document is commonly called; "doc 3", "Source 3" and "3" name the same one."""

URL = re.compile(r"https?://[^\s<>\"'\]\[)}{|\\^`\u3001\u3002\uff0c\uff09]+", re.IGNORECASE)

_BRACKET = r"[\[\u3010]\^?([^\[\]\u3010\u3011\n]{1,64})[\]\u3011]"
# Of a text with a line break in front: `\n` is found much faster than `^`.
_LINE_START = re.compile(rf"\n[ \t>*#-]{{0,8}}{_BRACKET}(?!\()")
_NUMBERED = re.compile(
    rf"\n[ \t>*#=<-]{{0,8}}{WORD}[ _#-]{{0,2}}(\d{{1,6}})(?=[\s:.)\]>*=(-]|$)", re.IGNORECASE
)
_ELEMENT = re.compile(
    r"<(?:document|doc|source|passage|chunk|article|result|item|snippet|context|file|excerpt)\b"
    r"([^<>]{1,300})>",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(
    r"\b(?:id|index|name|source|title|number|n|ref)\s*=\s*(?:\"([^\"]{1,128})\"|'([^']{1,128})'|"
    r"([^\s\"'>]{1,128}))",
    re.IGNORECASE,
)
_CHILD = re.compile(
    r"<(id|index|source|title|name|doc_?id|document_?id)>\s*([^<\n]{1,128}?)\s*</\1>", re.IGNORECASE
)
_LINE = re.compile(
    r"^[ \t>*#-]{0,8}(?:id|(?:doc|document|source|chunk|article)[ _-]?id|source|title|file|"
    r"filename)\**\s*[:=]\s*\**\s*(\S[^\n]{0,120}?)\s*$",
    re.MULTILINE | re.IGNORECASE,
)
_URL_LINE = re.compile(
    r"^[ \t>*#-]{0,8}(?:url|link|source)\**\s*[:=]\s*<?https?://", re.IGNORECASE | re.MULTILINE
)
_KEYS = frozenset(
    {"id", "doc_id", "docid", "document_id", "source_id", "chunk_id", "passage_id", "article_id",
     "source", "ref", "title", "file", "filename", "file_name", "index"}
)  # fmt: skip
_MAX_NODES = 20_000

_PREFIX = re.compile(rf"^{WORD}(?:[\s_#:.-]+(?=\w)|(?=\d))", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s_:#-]+")
_PUNCTUATION = str.maketrans(
    {"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-",
     "\u2011": "-", "\u00a0": " ", "*": None, "`": None, "\u00ad": None}
)  # fmt: skip


@dataclass(frozen=True)
class Context:
    """What may be cited. `ids` are in the form of `normal_id`, `urls` in that of `normal_url`.

    `sourced` says whether there is anything to cite at all. A URL or a title in the user's own
    words may be named, but does not make a request one with sources.
    """

    ids: frozenset[str] = frozenset()
    urls: frozenset[str] = frozenset()
    texts: tuple[str, ...] = field(default=(), repr=False)
    sourced: bool = False

    @cached_property
    def shapes(self) -> frozenset[str]:
        """What the identifiers look like, so that an invented one is known as a citation."""
        return frozenset(map(shape, self.ids))

    @cached_property
    def hosts(self) -> frozenset[str]:
        """The hosts of the URLs."""
        return frozenset(url.partition("/")[0].partition("?")[0] for url in self.urls)

    @cached_property
    def words(self) -> str:
        """The whole text in the form of `normal_text`."""
        return normal_text("\n".join(self.texts))


def read_context(messages: Iterable[dict[str, Any]]) -> Context:
    """Read what is given to cite; what the assistant itself said earlier is not."""
    ids: set[str] = set()
    urls: set[str] = set()
    texts: list[str] = []
    sourced = False
    for message in messages:
        role = message.get("role") or message.get("type")
        if role in ("assistant", "function_call", "reasoning"):
            continue
        returned = role in ("tool", "function", "function_call_output")
        for raw in text_parts(message.get("content", message.get("output"))):
            text = raw
            named: set[str] = set()
            if returned and raw.lstrip()[:1] in ("{", "["):
                text = _flat(raw, named)
            marked = set(_marked(text))
            named.update(_named(text))
            found = [normal_url(url) for url in URL.findall(text)] if "://" in text else []
            ids |= marked | named
            urls.update(found)
            texts.append(text)
            sourced = sourced or bool(marked)
            sourced = sourced or ("://" in text and _URL_LINE.search(text) is not None)
            sourced = sourced or (role != "user" and bool(named or found))
    ids.discard("")
    return Context(frozenset(ids), frozenset(urls), tuple(texts), sourced)


def normal_id(text: str) -> str:
    """Return an identifier in one form: "[Doc 03]", "doc_3" and "3" are the same document."""
    plain = text.strip(" \t\"'^#*`.").casefold()
    plain = _SEPARATORS.sub("-", _PREFIX.sub("", plain)).strip("-")
    return str(int(plain)) if plain.isascii() and plain.isdigit() and len(plain) < 12 else plain


def shape(identifier: str) -> str:
    """Return what an identifier looks like: runs of digits are one, names of files their ending."""
    name, dot, ending = identifier.rpartition(".")
    if name and dot and 1 < len(ending) < 6 and ending.isalpha():
        return f".{ending}"
    return re.sub(r"\d+", "0", identifier)


def normal_url(url: str) -> str:
    """Return a URL without scheme, `www.`, fragment, closing punctuation and slash."""
    plain = url.replace("&amp;", "&").rstrip(".,;:!?*_").partition("#")[0].partition("://")[2]
    host, slash, path = plain.partition("/")
    return (host.casefold().removeprefix("www.") + slash + path).rstrip("/")


def well_formed(url: str) -> bool:
    """Say whether a URL could be opened: a host with a dot (or this machine), a sensible port."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    labels = host.split(".")
    return host == "localhost" or (len(labels) > 1 and all(labels))


def normal_text(text: str) -> str:
    """Return text as quotations are compared: case, white space, emphasis, kinds of quotes."""
    return " ".join(text.translate(_PUNCTUATION).casefold().split())


def scalar(value: Any) -> str | None:
    """Return a JSON value as an identifier's text; None for what is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 2**63 else None
    return value if isinstance(value, str) and len(value) <= 128 else None


def _marked(text: str) -> Iterator[str]:
    """Yield identifiers that documents are set off with."""
    lines = f"\n{text}"
    if "[" in text or "\u3010" in text:
        for content in _LINE_START.findall(lines):
            if any(char.isdigit() for char in content) or shape(content).startswith("."):
                yield normal_id(content)
    yield from map(normal_id, _NUMBERED.findall(lines))
    if "<" in text:
        for attributes in _ELEMENT.findall(text):
            for found in _ATTRIBUTE.findall(attributes):
                yield normal_id("".join(found))
        for _, content in _CHILD.findall(text):
            yield normal_id(content)


def _named(text: str) -> Iterator[str]:
    """Yield what lines such as `title: …` name."""
    for content in _LINE.findall(text):
        if not content.startswith(("http://", "https://")):
            yield normal_id(content)


def text_parts(content: Any) -> Iterator[str]:
    """Yield the texts of a message's content: a string, or a list of parts."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, str):
                yield part
            elif isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]


def _flat(raw: str, ids: set[str]) -> str:
    """Return the strings of a JSON document as text and collect the identifiers it declares."""
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return raw
    texts: list[str] = []
    waiting = [document]
    for _ in range(_MAX_NODES):
        if not waiting:
            break
        node = waiting.pop()
        if isinstance(node, dict):
            for key, value in node.items():
                if key.casefold() in _KEYS and (name := scalar(value)) is not None:
                    ids.add(normal_id(name))
            waiting += list(node.values())[::-1]
        elif isinstance(node, list):
            waiting += node[::-1]
        elif isinstance(node, str):
            texts.append(node)
    return "\n".join(texts)
