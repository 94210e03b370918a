"""Answers in the language that was asked for, told with the real library, and without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.settings import Contract, Settings
from shadow.checks import language_match, languages
from shadow.evaluate import _prepare_languages

Build = Callable[..., Any]

TEXTS = {
    "en": "The invoice arrived this morning, and the amount is the same as in the last month.",
    "de": "Die Rechnung kam heute Morgen an, und der Betrag ist derselbe wie im vergangenen Monat.",
    "fr": "La facture est arrivée ce matin, et le montant est le même que celui du mois dernier.",
    "es": "La factura llegó esta mañana y el importe es el mismo que el del mes pasado.",
    "ru": "Счёт пришёл сегодня утром, и сумма такая же, как и в прошлом месяце, без изменений.",
    "ja": "請求書は今朝届きました。金額は先月と同じで、変わりはありません。",
}


def _bits(pair: Build, question: str, answer: str, language: str | None) -> int | None:
    made = pair(
        "x", answer, contract=Contract(language=language),
        messages=[{"role": "user", "content": question}],
    )  # fmt: skip
    bit: int | None = language_match.check(made).candidate.bit()
    return bit


@pytest.mark.parametrize("code", list(TEXTS))
def test_languages_are_told_apart(pair: Build, code: str) -> None:
    """The declared one passes, every other one fails."""
    for other, text in TEXTS.items():
        assert languages.detect(text) == other
        assert _bits(pair, "x", text, code) == int(other != code)


def test_the_language_of_the_request(pair: Build) -> None:
    """`request` means that of the last message, unless it asks for another one."""
    assert _bits(pair, TEXTS["de"], TEXTS["de"], "request") == 0
    assert _bits(pair, TEXTS["de"], TEXTS["en"], "request") == 1
    assert _bits(pair, "Bitte übersetze: " + TEXTS["de"], TEXTS["en"], "request") is None
    assert _bits(pair, TEXTS["en"] + " Answer in French.", TEXTS["fr"], "request") is None
    assert _bits(pair, "ok?", TEXTS["fr"], "request") is None
    assert _bits(pair, TEXTS["de"], TEXTS["en"], None) is None


@pytest.mark.parametrize(
    "text",
    ["Paris.", "42", "", "https://example.com/a/long/path/that/goes/on/and/on",
     "```python\nfor each in range(10):\n    print(each, each ** 2, sum(range(each)))\n```"],
)  # fmt: skip
def test_short_texts_links_and_code_are_not_judged(pair: Build, text: str) -> None:
    """They have no language that could be told."""
    assert _bits(pair, "x", text, "de") is None


def test_without_the_library_nothing_is_judged(
    pair: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a pass: a guardrail on it then has no data."""
    languages._detector.cache_clear()
    monkeypatch.setattr(languages, "available", lambda: False)
    try:
        assert _bits(pair, "x", TEXTS["en"], "de") is None
    finally:
        languages._detector.cache_clear()


def test_a_route_that_needs_the_library_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, when the worker starts, with what to install; and nothing where no route asks."""
    monkeypatch.setattr(languages, "available", lambda: False)
    monkeypatch.setattr(languages, "preload", lambda: None)
    deployments = {"v6": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}}
    for contract, warned in (({"max_words": 5}, False), ({"language": "de"}, True)):
        settings = Settings.model_validate(
            {
                "deployments": deployments,
                "routes": {"bot": {"baseline": "v6", "contract": contract}},
            }
        )
        _prepare_languages(settings)
        assert ("coalmine[language]" in caplog.text) == warned
