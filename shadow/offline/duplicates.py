"""Finding what was there before: exactly, and nearly by MinHash over three-word shingles.

MinHash: A. Broder, On the resemblance and containment of documents (1997). The share of equal
minima estimates the Jaccard similarity of the sets of shingles; bands of eight find candidates.
Everything is a function of the texts: no seed, no order of hashing.
"""

from __future__ import annotations

import re
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

__all__ = ["Duplicates", "shingles", "signature", "similarity"]

_HASHES = 64
_BAND = 8
_WORDS = 3
_PRIME = np.uint64(2**61 - 1)
_MULTIPLIERS = np.array(
    [crc32(b"multiplier %d" % index) | 1 for index in range(_HASHES)], dtype=np.uint64
)
_ADDENDS = np.array([crc32(b"addend %d" % index) for index in range(_HASHES)], dtype=np.uint64)
_MAX_CHARS = 20_000

Signature = NDArray[np.uint32]


def shingles(text: str) -> frozenset[str]:
    """Return the runs of three words of a text, in lower case; a shorter text has none.

    A text beyond 20,000 characters is known by its first 20,000.
    """
    words = re.findall(r"\w+", text[:_MAX_CHARS].lower())
    return frozenset(" ".join(words[at : at + _WORDS]) for at in range(len(words) - _WORDS + 1))


def signature(parts: frozenset[str]) -> Signature:
    """Return the MinHash signature of a set that is not empty: 64 numbers of 32 bits."""
    hashed = np.array([crc32(part.encode("utf-8", "replace")) for part in parts], dtype=np.uint64)
    # 32 by 32 bits plus 32 stays below 2^64, so nothing overflows.
    mixed = (_MULTIPLIERS[:, None] * hashed[None, :] + _ADDENDS[:, None]) % _PRIME
    least: Signature = mixed.min(axis=1).astype(np.uint32)
    return least


def similarity(one: Signature, other: Signature) -> float:
    """Return the estimated Jaccard similarity of two sets, 0 to 1."""
    return float(np.mean(one == other))


class Duplicates:
    """What was admitted so far. ``near`` is the similarity that is too near; None: not looked at.

    Holds two hashes and about a kilobyte for each case that was admitted.
    """

    def __init__(self, near: float | None) -> None:
        self._near = near
        self._keys: set[str] = set()
        self._prompts: dict[str, str] = {}
        self._signatures: list[Signature] = []
        self._bands: dict[tuple[int, bytes], list[int]] = {}

    def admit(self, *, key: str, prompt: str, group: str, text: str) -> str | None:
        """Admit a case, or return why not: `duplicate` or `near_duplicate`.

        `key` is what makes it the same case, `prompt` the hash of its conversation: the same
        conversation in another group would leak from one split into another. `text` is what is
        compared for nearness.
        """
        if key in self._keys or self._prompts.get(prompt, group) != group:
            return "duplicate"
        parts = shingles(text) if self._near is not None else frozenset()
        # The same conversation again, with other answers, is no near duplicate: it is the same.
        if parts and prompt not in self._prompts:
            minima = signature(parts)
            if self._is_near(minima):
                return "near_duplicate"
            self._remember(minima)
        self._keys.add(key)
        self._prompts[prompt] = group
        return None

    def _is_near(self, minima: Signature) -> bool:
        near = self._near or 1.0
        seen: set[int] = set()
        for place in _places(minima):
            seen.update(self._bands.get(place, ()))
        return any(similarity(minima, self._signatures[number]) >= near for number in seen)

    def _remember(self, minima: Signature) -> None:
        number = len(self._signatures)
        self._signatures.append(minima)
        for place in _places(minima):
            self._bands.setdefault(place, []).append(number)


def _places(minima: Signature) -> list[tuple[int, bytes]]:
    return [(at, minima[at : at + _BAND].tobytes()) for at in range(0, _HASHES, _BAND)]
