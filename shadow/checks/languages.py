"""Telling languages apart, with the optional library `lingua`, loaded when it is first needed."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

KNOWN = (
    "ar", "cs", "de", "el", "en", "es", "fi", "fr", "he", "hi", "hu", "it", "ja", "ko", "nl", "pl",
    "pt", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh",
)  # fmt: skip
"""ISO 639-1 codes of the languages that are told apart; text in any other is not judged."""

LEAST_LETTERS = 60
"""Shorter texts are not judged: a line of names and numbers has no language."""

LEAST_CJK = 15
_LOOKED_AT_CHARS = 700
_CLEARLY = 0.05
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NO_LANGUAGE = re.compile(r"https?://\S+|[\w.+-]+@[\w.-]+|[0-9_|#*=<>{}\[\]/\\-]+")


def available() -> bool:
    """Say whether the library is installed (the extra `language`)."""
    return find_spec("lingua") is not None


def preload() -> None:
    """Load the models now, so that no pair waits for them."""
    _detector()


def detect(text: str) -> str | None:
    """Return a text's language, None where it is too short, unclear, or no library is there."""
    plain = _NO_LANGUAGE.sub(" ", text)[:_LOOKED_AT_CHARS]
    letters = sum(map(str.isalpha, plain))
    if letters < LEAST_LETTERS and len(_CJK.findall(plain)) < LEAST_CJK:
        return None
    detector = _detector()
    found = None if detector is None else detector.detect_language_of(plain)
    return None if found is None else str(found.iso_code_639_1.name).lower()


@lru_cache(maxsize=1)
def _detector() -> Any:
    """Load the models: some 0.3 s and 40 MB, once a process."""
    if not available():
        return None
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, code.upper()) for code in KNOWN]
    builder = LanguageDetectorBuilder.from_iso_codes_639_1(*codes)
    return builder.with_low_accuracy_mode().with_minimum_relative_distance(_CLEARLY).build()
