"""What makes a request the same request again: its messages, and nothing about how it was sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from gateway.settings import KnownFailure

_PARTS = ("role", "content", "name", "tool_calls", "tool_call_id", "type", "output", "arguments")


def fingerprint(messages: Iterable[Mapping[str, Any]]) -> str:
    """Return the SHA-256 (hex) of the messages as canonical JSON: sorted keys, no spaces.

    Model, sampling parameters, metadata and tools are left out, so that the same question is known
    again when it is asked through another client.
    """
    kept = [{key: each[key] for key in _PARTS if each.get(key) is not None} for each in messages]
    return hashlib.sha256(msgspec.json.encode(kept, order="sorted")).hexdigest()


Messages = Iterable[Mapping[str, Any]]


def by_fingerprint(
    cases: Iterable[KnownFailure], as_captured: Callable[[Messages], Messages] = lambda given: given
) -> dict[str, tuple[KnownFailure, ...]]:
    """Return known failures by the fingerprint of their request; two may be of the same one.

    ``as_captured`` gives the messages that a case declares as a capture holds them.
    """
    found: dict[str, tuple[KnownFailure, ...]] = {}
    for case in cases:
        key = case.fingerprint or fingerprint(as_captured(case.messages or ()))
        found[key] = (*found.get(key, ()), case)
    return found
