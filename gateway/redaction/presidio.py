"""Names and places by Microsoft Presidio, an optional companion, loaded when it is asked for.

A text takes milliseconds with its models, against microseconds for the rules that come along, and
so does each string of a capture: it suits routes of which a share is captured.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

from gateway.errors import SettingsError
from gateway.settings_privacy import PresidioSettings

__all__ = ["load_recogniser"]

Found = Iterable[tuple[int, int, str]]


def load_recogniser(settings: PresidioSettings) -> Callable[[str], Found]:
    """Return what finds the entities of the settings in a text.

    Raises :class:`~gateway.errors.SettingsError` where Presidio, or its model for the language, is
    not installed.
    """
    field, language = "redaction.presidio", settings.language
    if not _is_there(settings.model):  # Presidio itself would download it
        raise SettingsError(
            f"the spaCy model {settings.model} is not installed; "
            f"python -m spacy download {settings.model}, or name the folder of one",
            field=f"{field}.model",
        )
    try:
        presidio = importlib.import_module("presidio_analyzer")
        provider = importlib.import_module("presidio_analyzer.nlp_engine").NlpEngineProvider
    except ImportError:
        raise SettingsError(
            "Presidio is not installed; pip install 'coalmine[presidio]'", field=field
        ) from None
    models = [{"lang_code": language, "model_name": settings.model}]
    configuration = {"nlp_engine_name": "spacy", "models": models}
    try:
        analyser = presidio.AnalyzerEngine(
            nlp_engine=provider(nlp_configuration=configuration).create_engine(),
            supported_languages=[language],
        )
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"Presidio can't load {settings.model} for the language {language!r} "
            f"({type(error).__name__})",
            field=field,
        ) from None
    entities, least = list(settings.entities), settings.min_score

    def recognise(text: str) -> Found:
        results = analyser.analyze(text=text, entities=entities, language=language)
        last = 0
        for each in sorted(results, key=lambda found: (found.start, -found.end)):
            if each.score >= least and each.start >= last:
                yield each.start, each.end, each.entity_type
                last = each.end

    return recognise


def _is_there(model: str) -> bool:
    return Path(model).exists() or (model.isidentifier() and find_spec(model) is not None)
