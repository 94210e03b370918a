"""From a pair to the rows of an export, or to the word that says why there is none. Pure."""

from __future__ import annotations

from shadow.offline.case_rows import eval_rows, regression_rows
from shadow.offline.material import Material
from shadow.offline.preference_rows import preference_rows
from shadow.offline.request import ExportRequest
from shadow.offline.row_parts import Origin, Row

__all__ = ["Origin", "Row", "rows_of"]

_MAKE = {
    "preferences": preference_rows,
    "regressions": regression_rows,
    "evalset": eval_rows,
}


def rows_of(material: Material, request: ExportRequest, origin: Origin) -> list[Row] | str:
    """Return the rows that a pair gives, or a word on why it gives none."""
    if request.segments and material.segment not in request.segments:
        return "other_segment"
    if not material.prompt.messages:
        return "no_text"
    return _MAKE[request.kind](material, request, origin)
