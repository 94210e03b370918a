"""Randomness that belongs to a request and not to the moment it arrives.

Every draw is a hash of seed, model, canonical request and the draw's own name. Two requests that
ask the same of the same model draw the same, in any order and at any concurrency; another model
draws independently; and a changed rate leaves all other draws as they were.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from hashlib import blake2b
from statistics import NormalDist
from typing import Any

import msgspec

__all__ = ["Draws", "canonical"]

# What a client or gateway adds without asking for another answer.
_TRANSPORT = frozenset({"model", "stream", "stream_options", "user", "metadata", "store"})
_encoder = msgspec.json.Encoder(order="deterministic")
_NORMAL = NormalDist()
_TOP = 1 << 64


def canonical(body: Mapping[str, Any]) -> bytes:
    """Return the part of a request that decides its answer, with keys in one order."""
    return _encoder.encode({key: body[key] for key in body if key not in _TRANSPORT})


class Draws:
    """Named draws for one answer. ``ordinal`` tells repetitions of one request apart."""

    __slots__ = ("_key",)

    def __init__(self, seed: int, model: str, request: bytes, ordinal: int = 0) -> None:
        head = f"{seed}\0{model}\0{ordinal}\0".encode()
        self._key = blake2b(head + request, digest_size=32).digest()

    def integer(self, name: str) -> int:
        """Return a whole number below 2**64."""
        digest = blake2b(name.encode(), key=self._key, digest_size=8).digest()
        return int.from_bytes(digest, "big")

    def uniform(self, name: str) -> float:
        """Return a number in [0, 1)."""
        return (self.integer(name) >> 11) / (1 << 53)

    def normal(self, name: str) -> float:
        """Return a standard normal draw."""
        return _NORMAL.inv_cdf((self.integer(name) + 0.5) / _TOP)

    def happens(self, name: str, rate: float) -> bool:
        """Tell whether an event of this probability happens to this answer."""
        return rate > 0 and self.uniform(name) < rate

    def choice(self, name: str, count: int) -> int:
        """Return an index below ``count``."""
        return self.integer(name) % count

    def stream(self, name: str) -> random.Random:
        """Return a generator for the many small draws inside one answer."""
        return random.Random(self.integer(name))

    def hex(self, name: str, length: int) -> str:
        """Return ``length`` hexadecimal digits, for identifiers."""
        size = (length + 1) // 2
        return blake2b(name.encode(), key=self._key, digest_size=size).hexdigest()[:length]
