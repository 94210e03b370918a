"""The parts of the README that are generated, so that they can't lie: settings and phases.

``python -m rollout.reference README.md`` writes them anew between their markers; a contract test
fails while they differ.
"""

from __future__ import annotations

import re
import sys
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway.settings import Settings
from rollout.states import mermaid

__all__ = ["blocks", "settings_table", "with_blocks"]


def settings_table() -> str:
    """Return every setting with its default and help, as a Markdown table."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    rows += [f"| `{name}` | {default} | {text} |" for name, default, text in _rows(Settings, "")]
    return "\n".join(rows) + "\n"


def blocks() -> dict[str, str]:
    """Return the generated blocks by the name in their markers."""
    return {
        "settings": settings_table(),
        "phases": f"```mermaid\n{mermaid()}```\n",
    }


def with_blocks(text: str) -> str:
    """Return ``text`` with the content of every known block replaced by what it should be.

    Raises :class:`ValueError` for a block whose markers are missing.
    """
    for name, content in blocks().items():
        pattern = rf"(?<=<!-- begin: {name} -->\n).*?(?=<!-- end: {name} -->)"
        found = re.findall(pattern, text, flags=re.DOTALL)
        if len(found) != 1:
            raise ValueError(
                f"the markers of the block {name!r} stand {len(found)} times, not once"
            )
        text = text.replace(f"{name} -->\n{found[0]}<!--", f"{name} -->\n{content}<!--")
    return text


def _rows(model: type[BaseModel], prefix: str) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for name, field in model.model_fields.items():
        inner, place = _section(field.annotation, name)
        if inner is not None:
            rows += _rows(inner, f"{prefix}{place}.")
        else:
            rows.append((prefix + name, _default(field.default), _cell(field.description or "")))
    return rows


def _section(annotation: Any, name: str) -> tuple[type[BaseModel] | None, str]:
    """Find the section behind an annotation, and how a path through it is written."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, name
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {types.UnionType, typing.Union}:
        for each in arguments:
            found, place = _section(each, name)
            if found is not None:
                return found, place
    if origin is dict and arguments:
        return _section(arguments[1], f"{name}.NAME")
    if origin is tuple and arguments:
        return _section(arguments[0], f"{name}[]")
    return None, name


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return ""
    if value is None:
        return "unset"
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    _path = Path(sys.argv[1])
    _path.write_text(with_blocks(_path.read_text(encoding="utf-8")), encoding="utf-8")
