"""Compiling the hot path, with stand-ins for the compiler: what is put where, and taken away."""

from __future__ import annotations

import ast
import json
import logging
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import compile as compile_module
from gateway.compile import HOT, clean, compile_hot, log_state, main, state

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
MADE = [f"gateway/http1/body{SUFFIX}", f"gateway/serving{SUFFIX}", f"group__mypyc{SUFFIX}"]
COMPILER = f"""#!/bin/sh
set -e
test "$1 $2 $3" = "-m mypyc gateway/answers.py"
test -f mypy.ini
mkdir build
for name in {" ".join(MADE)} build/left{SUFFIX}; do echo code > "$name"; done
"""
BROKEN = """#!/bin/sh
echo "gateway/serving.py:7: error: nonsense"
: > gateway/serving.so
exit 3
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder in which a distribution with the gateway's sources is installed."""
    folder = tmp_path / "site-packages"
    for name in HOT:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    installed = folder / "coalmine-0.1.0.dist-info"
    installed.mkdir()
    (installed / "RECORD").write_text("gateway/serving.py,sha256=x,1\n")
    return folder


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a script in the place of the Python that runs mypyc."""

    def use(text: str) -> None:
        script = tmp_path / "python"
        script.write_text(text)
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return use


def files(root: Path) -> dict[str, bytes]:
    """Return all files below a folder with what they hold."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_compiled_modules_are_put_beside_their_sources_and_removed(
    root: Path, compiler: Callable[[str], None]
) -> None:
    """Compiling adds its modules and a record, and cleaning leaves what was there before."""
    before = files(root)
    assert state(root) == "pure"
    compiler(COMPILER)
    compile_hot(root)
    assert state(root) == "compiled"
    record = "coalmine-0.1.0.dist-info/RECORD"
    after = files(root)
    assert after.keys() - before.keys() == {*MADE, "gateway/compiled.json"}
    assert {name for name in before if after[name] != before[name]} == {record}
    clean(root)
    assert state(root) == "pure"
    assert files(root) == before
    clean(root)
    assert files(root) == before


def test_an_upgrade_removes_compiled_modules(root: Path, compiler: Callable[[str], None]) -> None:
    """The installed distribution lists them once, in a new file: installers link to their cache."""
    record = root / "coalmine-0.1.0.dist-info" / "RECORD"
    cached = root.parent / "RECORD"
    cached.hardlink_to(record)
    compiler(COMPILER)
    compile_hot(root)
    compile_hot(root)
    listed = [f"{name},," for name in [*MADE, "gateway/compiled.json"]]
    assert record.read_text().splitlines() == ["gateway/serving.py,sha256=x,1", *listed]
    assert cached.read_text() == "gateway/serving.py,sha256=x,1\n"


def test_compiled_modules_are_stale_once_a_source_has_changed(
    root: Path, compiler: Callable[[str], None]
) -> None:
    """So they are when one of them is missing; compiling again mends both."""
    compiler(COMPILER)
    compile_hot(root)
    (root / HOT[-1]).write_text("# other\n")
    assert state(root) == "stale"
    compile_hot(root)
    assert state(root) == "compiled"
    (root / MADE[1]).unlink()
    assert state(root) == "stale"
    compile_hot(root)
    assert state(root) == "compiled"


def test_what_another_python_compiled_does_not_serve(root: Path) -> None:
    """A record of modules that this Python does not load says nothing about what serves."""
    name = "gateway/serving.cpython-30-pdp11.so"
    (root / name).write_text("code")
    (root / "gateway/compiled.json").write_text(json.dumps({"sources": "x", "files": [name]}))
    assert state(root) == "pure"
    clean(root)
    assert not (root / name).exists()


@pytest.mark.parametrize("compiled_before", [False, True])
def test_a_compiler_that_fails_changes_nothing(
    root: Path,
    compiler: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    compiled_before: bool,
) -> None:
    """The exit status is 1, and the message has the compiler's words and what it takes."""
    if compiled_before:
        compiler(COMPILER)
        compile_hot(root)
    before = files(root)
    compiler(BROKEN)
    assert main(["--root", str(root)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "gateway/serving.py:7: error: nonsense" in said.err
    assert "nothing has changed" in said.err
    assert "coalmine[compile]" in said.err
    assert files(root) == before


def test_a_full_disk_leaves_the_sources_alone(
    root: Path,
    compiler: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Never a part of the modules, for those would not fit the others: all go, or all serve."""
    before = files(root)
    compiler(COMPILER)
    copy = shutil.copyfile

    def fail_at_the_last(source: Path, target: Path, **options: bool) -> None:
        if target == root / MADE[-1]:
            raise OSError(28, "No space left on device")
        copy(source, target, **options)

    monkeypatch.setattr(shutil, "copyfile", fail_at_the_last)
    assert main(["--root", str(root)]) == 1
    assert "No space left" in capsys.readouterr().err
    assert files(root) == before


def test_the_command_says_the_state(
    root: Path, compiler: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """After each action it prints what serves now."""
    compiler(COMPILER)
    for options, expected in (("--state", "pure"), ("", "compiled"), ("--state", "compiled")):
        assert main(["--root", str(root), *options.split()]) == 0
        assert capsys.readouterr().out == f"{expected}\n"
    assert main(["--root", str(root), "--clean"]) == 0
    assert capsys.readouterr().out == "pure\n"


def test_a_folder_without_a_gateway_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong --root is one sentence, not a traceback."""
    assert main(["--root", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        ("pure", logging.INFO, "the hot path is not compiled"),
        ("compiled", logging.INFO, "the hot path is compiled"),
        ("stale", logging.WARNING, "compiled from other sources"),
    ],
)
def test_the_gateways_log_says_what_serves(
    found: str,
    level: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An operator sees it in the log, as a warning where older code serves."""
    monkeypatch.setattr(compile_module, "state", lambda: found)
    with caplog.at_level(logging.INFO, logger="test"):
        log_state(logging.getLogger("test"))
    [line] = caplog.records
    assert line.levelno == level
    assert words in line.getMessage()


@pytest.mark.parametrize("name", HOT)
def test_the_hot_path_has_nothing_that_can_not_be_compiled(name: str) -> None:
    """No msgspec structs, and no name that holds two kinds of exceptions in one function.

    mypyc takes the first for ordinary classes, and gives the second the first one's type. It tells
    of neither.
    """
    tree = ast.parse((Path(compile_module.__file__).parents[1] / name).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            assert not any("Struct" in ast.unparse(base) for base in node.bases), node.name
        if isinstance(node, ast.FunctionDef):
            caught: dict[str, str] = {}
            for part in ast.walk(node):
                if isinstance(part, ast.ExceptHandler) and part.name and part.type:
                    kind = ast.unparse(part.type)
                    assert caught.setdefault(part.name, kind) == kind, f"line {part.lineno}"
