"""Presidio as a companion: asked for by name, missed with a remedy, and heard in placeholders."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gateway.errors import SettingsError
from gateway.redaction import presidio
from gateway.redaction.bodies import Redactor
from gateway.redaction.presidio import load_recogniser
from gateway.settings_privacy import PresidioSettings, RedactionSettings


def found(start: int, end: int, kind: str, score: float) -> SimpleNamespace:
    """Build a result as Presidio returns it."""
    return SimpleNamespace(start=start, end=end, entity_type=kind, score=score)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """An analyser in Presidio's place that finds Dora, surely, and other things less so."""
    calls: list[dict[str, Any]] = []

    class Engine:
        def __init__(self, **arguments: Any) -> None:
            calls.append(arguments)

        def analyze(self, *, text: str, **arguments: Any) -> list[SimpleNamespace]:
            calls.append(arguments)
            at = text.find("Dora Miller")
            if at < 0:
                return []
            return [
                found(at + 5, at + 11, "LOCATION", 0.7),
                found(at, at + 11, "PERSON", 0.9),
                found(0, 2, "PERSON", 0.3),
            ]

    analyser, engines = ModuleType("presidio_analyzer"), ModuleType("presidio_analyzer.nlp_engine")
    vars(analyser)["AnalyzerEngine"] = Engine
    provider = SimpleNamespace(create_engine=lambda: "engine")
    vars(engines)["NlpEngineProvider"] = lambda **_: provider
    monkeypatch.setitem(sys.modules, analyser.__name__, analyser)
    monkeypatch.setitem(sys.modules, engines.__name__, engines)
    return calls


def test_names_become_placeholders(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    """Only what is certain enough, the longer of two that overlap, and never over another rule."""
    settings = PresidioSettings(model=str(tmp_path))
    redactor = Redactor(RedactionSettings(), clock=lambda: 0.0, recognise=load_recogniser(settings))
    redacted, counts = redactor.text("Ms Dora Miller, d@m.example; DORA MILLER? Dora Miller")
    assert redacted == "Ms [PERSON_1], [EMAIL_1]; DORA MILLER? Dora Miller"
    assert counts == {"presidio": 1, "email": 1}
    assert asked[1] == {"entities": ["PERSON", "LOCATION"], "language": "en"}


def test_without_it_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model too: nothing is ever downloaded by itself."""
    with pytest.raises(SettingsError, match="python -m spacy download no_such_model"):
        load_recogniser(PresidioSettings(model="no_such_model"))

    def missing(_: str) -> None:
        raise ImportError

    monkeypatch.setattr(presidio.importlib, "import_module", missing)
    with pytest.raises(SettingsError, match=r"pip install 'coalmine\[presidio\]'"):
        load_recogniser(PresidioSettings(model=str(tmp_path)))
