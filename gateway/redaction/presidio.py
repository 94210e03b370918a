"""Names and places by Microsoft Presidio, an optional companion, loaded when it is asked for.

A text takes milliseconds with its models, against microseconds for the rules that come along, and
so does each string of a capture: it suits routes of which a share is captured.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable

from gateway.errors import SettingsError
from gateway.settings_privacy import PresidioSettings

__all__ = ["load_recogniser"]

Found = Iterable[tuple[int, int, str]]


def load_recogniser(settings: PresidioSettings) -> Callable[[str], Found]:
    """Return what finds the entities of the settings in a text.

    Raises :class:`~gateway.errors.SettingsError` where Presidio, or its model for the language, is
    not installed.
    """
    field = "redaction.presidio"
    try:
        analyser = importlib.import_module("presidio_analyzer").AnalyzerEngine()
    except ImportError:
        raise SettingsError(
            "Presidio is not installed; pip install 'coalmine[presidio]'", field=field
        ) from None
    except (OSError, ValueError, SystemExit) as error:
        raise SettingsError(
            f"Presidio can't load its model ({type(error).__name__}); "
            "python -m spacy download en_core_web_lg",
            field=field,
        ) from None
    entities, least = list(settings.entities), settings.min_score

    def recognise(text: str) -> Found:
        results = analyser.analyze(text=text, entities=entities, language=settings.language)
        last = 0
        for each in sorted(results, key=lambda found: (found.start, -found.end)):
            if each.score >= least and each.start >= last:
                yield each.start, each.end, each.entity_type
                last = each.end

    return recognise
