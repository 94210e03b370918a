"""Request headers as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["HeaderView"]


class HeaderView(Mapping[str, str]):
    """Request headers as text, decoded when asked for. Names are in lower case."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Mapping[bytes, bytes]) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        # a name beyond Latin-1 becomes one with a question mark, which no header has
        return self._raw[name.encode("latin-1", "replace")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._raw)

    def __len__(self) -> int:
        return len(self._raw)
