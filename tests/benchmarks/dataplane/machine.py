"""The machine that a benchmark runs on."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["in_words", "two_cores", "whereabouts"]


def two_cores() -> tuple[int, int] | None:
    """Return a core for the load and one for the subject; ``None`` without those or without cc."""
    cpus = sorted(os.sched_getaffinity(0))
    if shutil.which("cc") is None or len(cpus) < 2:
        return None
    return cpus[0], cpus[-1]


def whereabouts(cores: tuple[int, int]) -> dict[str, Any]:
    """Return what of the machine a reader of the numbers wants to know."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": model[1] if model else platform.machine(),
        "cpus": os.cpu_count(),
        "load_core": cores[0],
        "subject_core": cores[1],
        "load_average": os.getloadavg()[0],
    }


def in_words(environment: Mapping[str, Any]) -> str:
    """Return the line that a benchmark begins with."""
    return (
        f"Python {environment['python']} on {environment['cpu']}, {environment['cpus']} CPUs; "
        f"load on core {environment['load_core']}, subject on core {environment['subject_core']}; "
        f"load average {environment['load_average']:.2f}"
    )
