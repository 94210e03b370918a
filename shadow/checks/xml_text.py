"""Whether a text is one well-formed XML element, told without resolving anything."""

from __future__ import annotations

from typing import NoReturn
from xml.parsers import expat

MAX_DEPTH = 64
MAX_BYTES = 4 * 1024 * 1024


class _Refused(Exception):
    """What is well formed and refused all the same."""


def xml_fault(text: str, root: str | None = None) -> str:
    """Return what is wrong with a text as XML, empty where it is one well-formed element.

    `root` is the name that the element must have. A document type is refused: it could define
    entities that grow without end, or name files.
    """
    depth = 0
    first = ""

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal depth, first
        depth += 1
        first = first or name
        if depth > MAX_DEPTH:
            raise _Refused(f"nested deeper than {MAX_DEPTH}")

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    data = text.strip().encode("utf-8", "replace")
    if len(data) > MAX_BYTES:
        return f"not XML: longer than {MAX_BYTES} bytes"
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = _refuse_document_type
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        return f"not XML: {expat.ErrorString(error.code)}, line {error.lineno}"
    except _Refused as error:
        return f"not XML: {error}"
    if root is not None and first != root:
        return f"the root element is not {root}"
    return ""


def _refuse_document_type(*_: object) -> NoReturn:
    raise _Refused("it has a document type")
