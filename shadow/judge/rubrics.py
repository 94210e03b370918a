"""Rubrics: what the judge weighs, by route, each known by a name and a hash of its words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from gateway.errors import SettingsError
from gateway.settings import Settings

BUILT_IN = "built-in"


@dataclass(frozen=True, slots=True)
class Rubric:
    """The words of a rubric, and the name under which judgments record it."""

    id: str
    text: str

    @property
    def digest(self) -> str:
        """The SHA-256 of the words: two rubrics are the same exactly when this is."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def with_criteria(self, name: str, criteria: Sequence[str]) -> Rubric:
        """Return this rubric with a route's own criteria, which weigh first where they apply."""
        lines = "\n".join(f"- {sentence.strip()}" for sentence in criteria)
        return Rubric(name, f"{self.text.rstrip()}\n\nOn this route also weigh:\n{lines}\n")


@dataclass(frozen=True, slots=True)
class Rubrics:
    """The default rubric, and those of routes that have their own."""

    default: Rubric
    routes: Mapping[str, Rubric] = field(default_factory=dict)

    def of(self, route: str | None) -> Rubric:
        """Return the rubric of a route."""
        return self.default if route is None else self.routes.get(route, self.default)


def read_rubrics(settings: Settings, default: Rubric | None = None) -> Rubrics:
    """Read every rubric that the settings name. Raises `SettingsError` with the field.

    `default` replaces the one that the settings name.
    """
    if default is None:
        path = settings.judge.rubric if settings.judge is not None else None
        default = built_in() if path is None else _read(path, "judge.rubric")
    routes = {}
    for name, route in settings.routes.items():
        rubric = default
        if route.rubric is not None:
            rubric = _read(route.rubric, f"routes.{name}.rubric")
        if route.criteria:
            rubric = rubric.with_criteria(f"{rubric.id}+{name}", route.criteria)
        if rubric is not default:
            routes[name] = rubric
    return Rubrics(default, routes)


def built_in() -> Rubric:
    """Return the rubric that the package brings."""
    text = files("shadow.judge").joinpath("rubric.md").read_text(encoding="utf-8")
    return Rubric(BUILT_IN, text)


def _read(path: str, field_name: str) -> Rubric:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"can't read {path}: {error}", field=field_name) from None
    if not text.strip():
        raise SettingsError(f"{path} is empty; write what the judge weighs", field=field_name)
    return Rubric(Path(path).stem, text)
