"""Compiling the hot path: ``python -m gateway.compile`` makes machine code of it with mypyc.

The modules named here do all that is done for every request. They are ordinary typed Python and
serve as they are; compiled, they take about half the time. Nothing else changes: the sources stay
beside the compiled modules, which Python prefers, and :func:`state` says which of the two it is.

Needs mypy and a C compiler (``pip install coalmine[compile]``). Made for an installation, not for a
checkout that is worked on: compiled modules hide later changes of their sources, which
:func:`state` notices.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

__all__ = ["HOT", "State", "clean", "compile_hot", "log_state", "state"]

HOT = (
    "gateway/answers.py",
    "gateway/batch.py",
    "gateway/breaker.py",
    "gateway/capture.py",
    "gateway/clients.py",
    "gateway/decide.py",
    "gateway/http1/__init__.py",
    "gateway/http1/body.py",
    "gateway/http1/head.py",
    "gateway/inbound.py",
    "gateway/metering.py",
    "gateway/metrics.py",
    "gateway/observe.py",
    "gateway/protocol.py",
    "gateway/proxy.py",
    "gateway/relay.py",
    "gateway/routes.py",
    "gateway/serving.py",
    "gateway/splice.py",
    "gateway/split.py",
    "gateway/sse.py",
    "gateway/targeting.py",
    "gateway/upstream/connection.py",
    "gateway/upstream/pool.py",
)
"""The modules of the hot path."""

State = Literal["pure", "compiled", "stale"]

_RECORD = "gateway/compiled.json"
_ROOT = Path(__file__).resolve().parents[1]
# What the rest imports need not be clean, nor typed: only what is compiled has to be. The types of
# the standard library are those of the Python that compiles, as it is the one that will run it.
_SETTINGS = f"""\
[mypy]
python_version = {sys.version_info.major}.{sys.version_info.minor}
follow_imports = silent
ignore_missing_imports = true
"""


def _digest(root: Path) -> str:
    together = hashlib.sha256()
    for name in HOT:
        together.update(name.encode())
        together.update((root / name).read_bytes())
    return together.hexdigest()


def state(root: Path = _ROOT) -> State:
    """Say what serves below ``root``: sources, what was compiled from them, or from older ones.

    What was compiled by another version of Python does not serve. A part of what was compiled
    counts as ``"stale"`` too.
    """
    try:
        record = json.loads((root / _RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "pure"
    files, suffix = record["files"], sysconfig.get_config_var("EXT_SUFFIX")
    serving = [name for name in files if name.endswith(suffix) and (root / name).exists()]
    if not serving:
        return "pure"
    return "compiled" if serving == files and record["sources"] == _digest(root) else "stale"


def log_state(log: logging.Logger) -> None:
    """Say in the log what serves in this process; older code than what is installed is a warning.

    Reads the sources, so not for every request.
    """
    found = state()
    if found == "stale":
        advice = "run python -m gateway.compile again, or with --clean"
        log.warning("the hot path was compiled from other sources than these: %s", advice)
    else:
        log.info("the hot path is %s", "compiled" if found == "compiled" else "not compiled")


def clean(root: Path = _ROOT) -> None:
    """Remove the compiled modules below ``root``, so that the sources serve again."""
    record = root / _RECORD
    if record.exists():
        files = json.loads(record.read_text(encoding="utf-8"))["files"]
        for name in files:
            (root / name).unlink(missing_ok=True)
        _list_as_installed(root, files, listed=False)
        record.unlink()


def compile_hot(root: Path = _ROOT) -> None:
    """Compile the hot path of the ``gateway`` package below ``root``, in place.

    Takes about half a minute. Raises :class:`subprocess.SubprocessError` with the compiler's output
    where it can't be compiled, and nothing is changed then; ``OSError`` where the files can't be
    read or written.
    """
    with tempfile.TemporaryDirectory(prefix="coalmine-compile-") as scratch:
        work = Path(scratch)
        ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
        shutil.copytree(root / "gateway", work / "gateway", ignore=ignored)
        (work / "mypy.ini").write_text(_SETTINGS, encoding="utf-8")
        subprocess.run(  # noqa: S603 - our own interpreter and our own file names
            [sys.executable, "-m", "mypyc", *HOT],
            cwd=work,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        shutil.rmtree(work / "build", ignore_errors=True)
        made = [path for path in work.rglob("*") if path.suffix in (".so", ".pyd")]
        _install(work, sorted(path.relative_to(work).as_posix() for path in made), root)


def _install(work: Path, files: Sequence[str], root: Path) -> None:
    clean(root)  # a process that runs keeps the files that it has open
    _note(root, files, sources="")  # whatever happens now, it is known what is to be removed
    try:
        for name in files:
            shutil.copyfile(work / name, root / name)
        _list_as_installed(root, files, listed=True)
    except OSError:
        clean(root)
        raise
    _note(root, files, sources=_digest(work))


def _note(root: Path, files: Sequence[str], *, sources: str) -> None:
    text = json.dumps({"sources": sources, "files": files}, indent=2)
    (root / _RECORD).write_text(f"{text}\n", encoding="utf-8")


def _list_as_installed(root: Path, files: Sequence[str], *, listed: bool) -> None:
    """Have what upgrades or removes the installed distribution remove these files with it.

    Left behind by an upgrade, they would hide its sources.
    https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    """
    rows = [f"{name},," for name in (*files, _RECORD)]
    for record in root.glob("coalmine-*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8").splitlines()
        lines = [line for line in lines if line not in rows]
        fresh = record.with_name("RECORD.new")  # the old one may be a link into a cache
        fresh.write_text("\n".join([*lines, *(rows if listed else ())]) + "\n", encoding="utf-8")
        fresh.replace(record)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, or clean up; the exit status is 1 where that failed."""
    parser = argparse.ArgumentParser(prog="python -m gateway.compile", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--root", type=Path, default=_ROOT, help="folder that holds gateway/")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--clean", action="store_true", help="remove what was compiled")
    chosen.add_argument("--state", action="store_true", help="say pure, compiled or stale")
    options = parser.parse_args(arguments)
    try:
        if options.clean:
            clean(options.root)
        elif not options.state:
            compile_hot(options.root)
        sys.stdout.write(f"{state(options.root)}\n")
    except subprocess.SubprocessError as failure:
        sys.stderr.write(f"{getattr(failure, 'stdout', None) or ''}\n{_hint(failure)}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _hint(failure: subprocess.SubprocessError) -> str:
    return (
        f"The hot path was not compiled, and nothing has changed: {failure}\n"
        "It takes mypy (pip install 'coalmine[compile]') and a C compiler."
    )


if __name__ == "__main__":
    sys.exit(main())
