"""The compiled hot path is the same gateway: its tests pass on machine code too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.heavy

_ROOT = Path(__file__).parents[2]
_COPIED = ("gateway", "shadow", "rollout", "tests")
_SUITES = (
    "tests/unit/gateway",
    "tests/integration/gateway",
    "tests/acceptance/test_openai_client.py",
    "tests/acceptance/test_candidate_faults.py",
    *(
        f"tests/properties/test_{subject}.py"
        for subject in ("http1", "pipelining", "splice", "split", "sse", "targeting", "wire")
    ),
)
_STAND_INS = "it has stand-ins for classes of the hot path, which compiled code does not take"
_LEFT_OUT = {
    "tests/unit/gateway/test_observation.py": _STAND_INS,
    "tests/properties/test_pipelining.py::test_pipelined_requests": _STAND_INS,
    "tests/properties/test_pipelining.py::test_clients_noise": _STAND_INS,
    "tests/unit/gateway/test_entrance.py::test_keys_are_known_by_their_hash": (
        "it looks into an object's __dict__, which a compiled class does not have"
    ),
    "tests/unit/gateway/test_compile.py": "it compiles nothing",
    "tests/integration/gateway/test_reload_processes.py": (
        "it takes long, and is about processes that the hot path does not know of"
    ),
}
_WHERE = """
import importlib, json
from gateway.compile import HOT
names = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in HOT]
print(json.dumps({name: importlib.import_module(name).__file__ for name in names}))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in a folder of its own, with the hot path compiled."""
    root = tmp_path_factory.mktemp("compiled")
    ignored = shutil.ignore_patterns("*.so", "compiled.json", "__pycache__", ".*")
    for name in _COPIED:
        shutil.copytree(_ROOT / name, root / name, ignore=ignored)
    shutil.copyfile(_ROOT / "pyproject.toml", root / "pyproject.toml")
    assert _run(root, "-m", "gateway.compile", within=300) == "compiled\n"
    return root


def _run(root: Path, *arguments: str, within: float) -> str:
    """Run this Python in the copy and return what it says. Fails unless it ends well in time."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=within,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_every_module_of_the_hot_path_is_served_compiled(compiled: Path) -> None:
    """Python takes the compiled module of each, and the compiled one of the copy."""
    taken = json.loads(_run(compiled, "-c", _WHERE, within=60))
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    assert str(compiled / f"gateway/serving{suffix}") == taken["gateway.serving"]
    for name, path in taken.items():
        assert path.startswith(str(compiled)), name
        assert path.endswith(suffix), name


def test_the_gateways_tests_pass_compiled(compiled: Path) -> None:
    """Requests, failures, streams, connections and captures: nothing has changed."""
    left_out = [f"--deselect={each}" for each in _LEFT_OUT]
    for each in (*_SUITES, *_LEFT_OUT):
        assert (compiled / each.split("::")[0]).exists()
    said = _run(
        compiled, "-m", "pytest", "-q", "-p", "no:cacheprovider", *left_out, *_SUITES, within=900
    )
    assert " passed" in said
