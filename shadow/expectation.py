"""Whether a request has to be declined, as the route declares it or its client says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

_TRUE = frozenset({"true", "1", "yes", "must_refuse", "refuse"})
_FALSE = frozenset({"false", "0", "no", "harmless"})


def must_refuse(
    source: str | None, *, body: str, segment: str | None, risk: str | None
) -> bool | None:
    """Return whether a captured request must be refused; None where nobody says.

    `source` is the route's `must_refuse`: always, never, `segment:VALUE`, `risk:VALUE` (a request
    without that label says nothing), or a place in the body with true or false there (also as
    text, or must_refuse and harmless).
    """
    if source is None:
        return None
    if source in ("always", "never"):
        return source == "always"
    kind, colon, name = source.partition(":")
    if kind in ("segment", "risk"):
        label = segment if kind == "segment" else risk
        return None if label is None else label == name
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    for part in (name if colon else source).split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    word = str(value).strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None
