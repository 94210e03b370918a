"""Answers in the shape of ``/v1/embeddings``: texts that share words lie close."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from gateway.errors import RequestError
from gateway.simulator.draws import Draws
from gateway.simulator.terms import content_words

__all__ = ["embedding_document"]

_WORDS = 64


def _vector(text: str, model: str, seed: int, dimensions: int) -> np.ndarray[Any, Any]:
    total = np.zeros(dimensions, dtype=np.float32)
    for word in sorted(set(content_words(text)))[:_WORDS] or [text]:
        draws = Draws(seed, model, word.encode())
        total += np.random.default_rng(draws.integer("embedding")).standard_normal(
            dimensions, dtype=np.float32
        )
    return total / np.float32(np.linalg.norm(total) or 1.0)


def embedding_document(
    body: Mapping[str, Any], *, model: str, seed: int, dimensions: int
) -> dict[str, Any]:
    """Return the embeddings of ``input``, unit length, as floats or base64 as asked.

    Raises :class:`RequestError` that names the parameter.
    """
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise RequestError("must be a string or a list of strings", param="input")
    if all(isinstance(entry, int) for entry in texts):
        texts = [texts]
    asked = body.get("dimensions")
    if asked is not None and (not isinstance(asked, int) or not 1 <= asked <= 8192):
        raise RequestError("must be between 1 and 8192", param="dimensions")
    plain = [text if isinstance(text, str) else str(text) for text in texts]
    vectors = [_vector(text, model, seed, asked or dimensions) for text in plain]
    packed = body.get("encoding_format") == "base64"
    tokens = sum(len(text) // 4 + 1 for text in plain)
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": (
                    base64.b64encode(vector.astype("<f4").tobytes()).decode()
                    if packed
                    else [float(number) for number in vector]
                ),
            }
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
