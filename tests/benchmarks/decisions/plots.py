"""Plots as SVG, written by hand: nothing has to be installed for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import inf, log10

import numpy as np
from decisions.streams import Floats

__all__ = ["bars", "curves"]

_COLOURS = (
    *("#0b6e4f", "#c0392b", "#2c6fbb", "#8e6c00"),
    *("#7d3c98", "#5d6d7e", "#d35400", "#17202a"),
)
_WIDTH, _LEFT, _ROW = 890, 290, 17
_PLOT = _WIDTH - _LEFT - 90


def bars(
    title: str, groups: Mapping[str, Mapping[str, float | None]], unit: str, *, log: bool = False
) -> str:
    """Return horizontal bars, grouped; ``None`` is a rule without a metric for the group.

    With ``log`` the axis is logarithmic and 0 is drawn as nothing. Shares are given from 0 to 1.
    """
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    most = max((v for group in groups.values() for v in group.values() if v), default=1.0)
    parts: list[str] = []
    y = 48
    for group, values in groups.items():
        parts.append(_text(10, y, group, weight="bold"))
        y += 8
        for name, value in values.items():
            y += _ROW
            colour = _COLOURS[names.index(name) % len(_COLOURS)]
            length = _length(value, most, log=log)
            parts.append(_text(_LEFT - 8, y, name, anchor="end"))
            parts.append(
                f'<rect x="{_LEFT}" y="{y - 11}" width="{length:.1f}" height="13" fill="{colour}"/>'
            )
            parts.append(_text(_LEFT + length + 6, y, _label(value, unit)))
        y += 26
    return _svg(title, parts, y)


def curves(title: str, series: Mapping[str, Floats], unit: str, *, end: float) -> str:
    """Return for each series the share of values up to x, for x from 0 to ``end``."""
    top, height = 50, 320
    bottom = top + height
    parts = [f'<path d="M {_LEFT} {top} V {bottom} H {_LEFT + _PLOT}" fill="none" stroke="#444"/>']
    for share in (0.0, 0.5, 0.8, 1.0):
        y = bottom - share * height
        parts.append(f'<path d="M {_LEFT} {y} h {_PLOT}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{share:.0%}", anchor="end"))
    for tick in np.linspace(0, end, 6):
        x = _LEFT + tick / end * _PLOT
        parts.append(_text(x, bottom + 18, f"{tick:,.0f}", anchor="middle"))
    parts.append(_text(_LEFT + _PLOT / 2, bottom + 38, unit, anchor="middle"))
    for number, (name, values) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        ordered = np.sort(values[values <= end])
        marks = np.unique(np.linspace(0, max(len(ordered) - 1, 0), 120).astype(int))
        path = f"M {_LEFT} {bottom}"
        for mark in marks[: len(ordered)]:
            x = _LEFT + ordered[mark] / end * _PLOT
            path += f" L {x:.1f} {bottom - (mark + 1) / len(values) * height:.1f}"
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<rect x="10" y="{top + 20 * number}" width="12" height="12" fill="{colour}"/>'
        )
        parts.append(_text(28, top + 20 * number + 11, name))
    return _svg(title, parts, bottom + 50)


def _length(value: float | None, most: float, *, log: bool) -> float:
    if value is None or value <= 0 or value == inf:
        return 0.0
    return _PLOT * (log10(1 + value) / log10(1 + most) if log else value / most)


def _label(value: float | None, unit: str) -> str:
    if value is None:
        return "has no metric for it"
    return f"{value:.1%}" if unit == "share" else f"{value:,.0f}"


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _svg(title: str, parts: Sequence[str], height: float) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'font-family="sans-serif" font-size="12">'
    )
    back = f'<rect width="{_WIDTH}" height="{height:.0f}" fill="#fff"/>'
    heading = f'<text x="10" y="24" font-size="16" font-weight="bold">{escape(title)}</text>'
    return "\n".join([head, back, heading, *parts, "</svg>", ""])
