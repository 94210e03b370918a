"""Figures as people read them: e-values, instants, durations."""

from __future__ import annotations

__all__ = ["ago", "duration", "e_value"]


def e_value(log10_e: float) -> str:
    """Write an e-value for people: ``0.31``, ``27``, ``4.1e+12``; below 0.01 is ``<0.01``."""
    if log10_e < -2:
        return "<0.01"
    if log10_e > 250:
        return f"10^{log10_e:.0f}"
    value = 10.0**log10_e
    return f"{value:.2g}" if value < 100 or value >= 1e6 else f"{value:.0f}"


def ago(at: float, now: float) -> str:
    """Return how long before ``now`` the instant ``at`` was, both Unix seconds."""
    seconds = max(0.0, now - at)
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def duration(seconds: float) -> str:
    """Return a duration in seconds for people: ``45 s``, ``12 min``, ``6 h``, ``7 d``."""
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
