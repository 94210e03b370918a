"""Finding what was there before: exactly, and nearly by MinHash over three-word shingles.

MinHash: A. Broder, On the resemblance and containment of documents (1997). The share of equal
minima estimates the Jaccard similarity of the sets of shingles; bands of eight find candidates.
The hashes are BLAKE2b's of a shingle, mixed with 64 offsets by the finaliser of SplitMix64
(G. Steele, D. Lea, C. Flood, OOPSLA 2014): a function of the texts alone.
"""

from __future__ import annotations

import re
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

__all__ = ["Duplicates", "shingles", "signature", "similarity"]

_HASHES = 64
_BAND = 8
_WORDS = 3
_OFFSETS = np.arange(1, _HASHES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
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
    text = b"".join(
        blake2b(part.encode("utf-8", "replace"), digest_size=8).digest() for part in parts
    )
    mixed = np.frombuffer(text, dtype="<u8")[None, :] + _OFFSETS[:, None]  # wraps, as it should
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    least: Signature = (mixed.min(axis=1) >> np.uint64(32)).astype(np.uint32)
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
