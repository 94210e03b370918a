"""A dataset as it grows: what is taken, what is skipped and why, and what its manifest says.

Nothing here touches the store; memory grows by some hashes a row.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shadow.offline.duplicates import Duplicates
from shadow.offline.material import Material
from shadow.offline.request import ExportRequest
from shadow.offline.rows import Origin, Row, rows_of

__all__ = ["Build", "Made"]

Made = tuple[Material, Row]


@dataclass(slots=True)
class Build:
    """Rows of one export. `hashed` runs over its lines as they are written."""

    request: ExportRequest
    origin: Origin
    duplicates: Duplicates
    hashed: Any = field(default_factory=hashlib.sha256)
    items: int = 0
    taken: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    segments: Counter[str] = field(default_factory=Counter)

    @classmethod
    def start(cls, request: ExportRequest, origin: Origin) -> Build:
        """Return a build without rows."""
        return cls(request, origin, Duplicates(request.near_duplicates))

    @property
    def full(self) -> bool:
        """Whether there are as many rows as were asked for."""
        return self.taken >= self.request.max_items

    def make(self, page: Sequence[Material | str]) -> list[Made]:
        """Return the rows that a page of pairs gives."""
        made: list[Made] = []
        for material in page:
            if isinstance(material, str):
                self.skipped[material] += 1
                continue
            rows = rows_of(material, self.request, self.origin)
            if isinstance(rows, str):
                self.skipped[rows] += 1
                continue
            for row in rows:
                why = self._refused(row)
                if why is None:
                    self.taken += 1
                    self.segments[row.segment or ""] += 1
                    made.append((material, row))
                else:
                    self.skipped[why] += 1
        return made

    def written(self, row: Row) -> int:
        """Count a row that is written next, and return its number."""
        self.items += 1
        self.hashed.update(f"{row.body}\n".encode())
        self.splits[row.split] += 1
        self.sources[row.source] += 1
        return self.items

    def lost(self, row: Row) -> None:
        """Count a row whose pair was deleted before it could be written."""
        self.skipped["deleted"] += 1
        self.segments[row.segment or ""] -= 1

    def nothing(self) -> str:
        """Say why there is no row."""
        reasons = ", ".join(f"{why} {count}" for why, count in sorted(self.skipped.items()))
        return f"no pair of {self.request.rollout!r} gives a row: {reasons or 'there is none'}"

    def manifest(self) -> dict[str, Any]:
        """Return what goes with the file: what is in it, from where, and what is not and why."""
        origin = self.origin
        return {
            "kind": self.request.kind,
            "sha256": self.hashed.hexdigest(),
            "items": self.items,
            "splits": dict(sorted(self.splits.items())),
            "sources": dict(sorted(self.sources.items())),
            "segments": {name: count for name, count in sorted(self.segments.items()) if count},
            "skipped": dict(sorted(self.skipped.items())),
            "request": self.request.model_dump(mode="json"),
            "origin": {
                "rollout": origin.rollout,
                "generation": origin.generation,
                "baseline": origin.baseline,
                "baseline_revision": origin.baseline_revision,
                "candidate": origin.candidate,
                "candidate_revision": origin.candidate_revision,
                "rubric_hash": origin.rubric_hash,
                "code_version": origin.code_version,
            },
        }

    def _refused(self, row: Row) -> str | None:
        most = self.request.max_per_segment
        if self.full:
            return "over_max_items"
        if most is not None and self.segments[row.segment or ""] >= most:
            return "over_max_per_segment"
        return self.duplicates.admit(
            key=row.key, prompt=row.prompt, group=row.group, text=row.words
        )
