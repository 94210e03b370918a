"""One text for one JSON value, and hashes of it: key order and spacing make no difference."""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["canonical", "digest"]


def canonical(value: Any) -> str:
    """Return a value as JSON with sorted keys and no spaces, on one line.

    Half of a surrogate pair, which no UTF-8 file can hold, becomes a question mark. Raises
    ValueError for a number that is not finite and TypeError for what is no JSON value.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
