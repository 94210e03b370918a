"""Reading the targeting key, the segment and the risk tier of a request.

Where they stand is declared per route as text (``header:x-user-id``, ``metadata.category``). That
text is taken apart once, when a route's table is built: reading it anew for each request would
cost more than the assignment itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from gateway.headers import HeaderView
from gateway.inbound import Inbound
from gateway.split import Eligibility, targeting_key
from gateway.wire import Peek, document, lookup

__all__ = ["Targeting"]

_MAX_LABEL = 100
_PEEKED = frozenset({"model", "user", "metadata"})

Body = Callable[[Peek], object]
Source = tuple[bytes | None, Body]
"""A header's name, or ``None`` and what reads a value of the body."""


class Targeting:
    """What a route's rollout wants to know of each request, and where that stands.

    ``sources`` are those of the targeting key, tried in order (:func:`gateway.split.targeting_key`
    says what counts as one); ``segment`` and ``risk`` are sources of labels
    (:func:`gateway.wire.lookup`). What a source finds is the same as with those functions.
    """

    __slots__ = ("_document", "_eligible", "_key", "_limited", "_risk", "_segment", "_sources")

    def __init__(
        self,
        sources: tuple[str, ...],
        eligible: Eligibility,
        *,
        segment: str | None = None,
        risk: str | None = None,
    ) -> None:
        self._sources = sources
        self._eligible = eligible
        self._limited = eligible.risk is not None or bool(eligible.headers)
        self._key = tuple(_key_source(source) for source in sources)
        self._segment = None if segment is None else (segment, _label_source(segment))
        self._risk = None if risk is None else (risk, _label_source(risk))
        declared = (*sources, segment or "", risk or "")
        self._document = any(
            source.startswith("body:") and source.removeprefix("body:").split(".")[0] not in _PEEKED
            for source in declared
        )
        """Whether a source stands in the body where the peek does not look."""

    def describe(self, inbound: Inbound) -> None:
        """Fill in the request's targeting key, segment, risk tier and whether it is eligible."""
        raw = inbound.raw
        peeked = inbound.peeked
        if self._document and inbound.inference:
            self._read_document(inbound)
        else:
            if self._segment is not None:
                inbound.segment = _label(_find(self._segment[1], raw, peeked))
            if self._risk is not None:
                inbound.risk = _label(_find(self._risk[1], raw, peeked))
            for header, body in self._key:
                if header is None:
                    value = body(peeked)
                    if isinstance(value, str):
                        if value:
                            inbound.targeting_key = _clean(value)
                            break
                    elif isinstance(value, int) and not isinstance(value, bool):
                        inbound.targeting_key = str(value)
                        break
                elif found := raw.get(header):
                    inbound.targeting_key = _clean(found.decode("latin-1"))
                    break
            else:
                inbound.targeting_key = None
        inbound.partakes = (
            not peeked.stateful
            and b"x-coalmine-mirror" not in raw  # another gateway's shadow is no user
        )
        inbound.eligible = inbound.partakes and (
            not self._limited or self._eligible.allows(inbound.risk, HeaderView(raw))
        )

    def _read_document(self, inbound: Inbound) -> None:
        view = HeaderView(inbound.raw)
        fields = document(inbound.body)
        if self._segment is not None:
            inbound.segment = _label(lookup(self._segment[0], view, fields))
        if self._risk is not None:
            inbound.risk = _label(lookup(self._risk[0], view, fields))
        key = targeting_key(self._sources, view, fields)
        inbound.targeting_key = None if key is None else _clean(key)


def _key_source(source: str) -> Source:
    kind, _, name = source.partition(":")
    return (_header(name), _nothing) if kind == "header" else (None, _body(name))


def _label_source(source: str) -> Source:
    kind, colon, name = source.partition(":")
    if kind == "header":
        return _header(name), _nothing
    return None, _body(name if colon else source)


def _header(name: str) -> bytes:
    # a header's name is in Latin-1 and has no question mark: what is beyond it is never found
    return name.lower().encode("latin-1", "replace")


def _nothing(_: Peek) -> object:
    return None


def _body(path: str) -> Body:
    root, *rest = path.split(".")
    if root not in _PEEKED:
        return _nothing
    top: Body = attrgetter(root)
    if not rest:
        return top

    def read(peeked: Peek) -> object:
        value: Any = top(peeked)
        for part in rest:
            value = value.get(part) if isinstance(value, dict) else None
        return value

    return read


def _find(source: Source, raw: Mapping[bytes, bytes], peeked: Peek) -> str | None:
    header, body = source
    if header is not None:
        return raw.get(header, b"").decode("latin-1") or None
    value = body(peeked)
    if isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


def _label(value: str | None) -> str | None:
    return None if value is None else _clean(value[:_MAX_LABEL])


def _clean(value: str) -> str:
    # JSON can spell what UTF-8 and PostgreSQL can't hold
    if value.isascii() and "\0" not in value:
        return value
    return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
