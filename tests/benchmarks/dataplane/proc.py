"""Reading ``/proc/PID/stat``: pure."""

from __future__ import annotations

__all__ = ["cpu_seconds", "parent_of"]


def cpu_seconds(stat: str, ticks_per_second: int) -> float:
    """Return the CPU seconds (user and system) of a ``/proc/PID/stat`` line.

    The program's name stands in brackets and may itself hold spaces and brackets.
    """
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / ticks_per_second


def parent_of(stat: str) -> int:
    """Return the parent's process id of a ``/proc/PID/stat`` line."""
    return int(stat[stat.rindex(")") + 2 :].split()[1])
