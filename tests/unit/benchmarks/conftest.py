"""The benchmarks' modules, for tests: they are programs, not a package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def dataplane() -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of the data plane's benchmarks by its name."""
    sys.path.insert(0, str(FOLDER))
    yield lambda name: importlib.import_module(f"dataplane.{name}")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="session")
def evaluator() -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of the evaluator's benchmark by its name."""
    sys.path.insert(0, str(FOLDER))
    yield lambda name: importlib.import_module(f"evaluator.{name}")
    sys.path.remove(str(FOLDER))
