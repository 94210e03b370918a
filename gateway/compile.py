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
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

__all__ = ["HOT", "clean", "compile_hot", "state"]

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
    "gateway/serving.py",
    "gateway/splice.py",
    "gateway/split.py",
    "gateway/sse.py",
    "gateway/targeting.py",
    "gateway/upstream/connection.py",
)
"""The modules of the hot path."""

_RECORD = "gateway/compiled.json"
_ROOT = Path(__file__).resolve().parents[1]


def _digest(root: Path) -> str:
    together = hashlib.sha256()
    for name in HOT:
        together.update((root / name).read_bytes())
    return together.hexdigest()


def state(root: Path = _ROOT) -> Literal["pure", "compiled", "stale"]:
    """Say what serves below ``root``: sources, what was compiled from them, or from older ones."""
    try:
        record = json.loads((root / _RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "pure"
    return "compiled" if record.get("sources") == _digest(root) else "stale"


def clean(root: Path = _ROOT) -> None:
    """Remove the compiled modules below ``root``, so that the sources serve again."""
    record = root / _RECORD
    if record.exists():
        for name in json.loads(record.read_text(encoding="utf-8"))["files"]:
            (root / name).unlink(missing_ok=True)
        record.unlink()


def compile_hot(root: Path = _ROOT) -> None:
    """Compile the hot path of the ``gateway`` package below ``root``, in place.

    Takes about half a minute. Raises :class:`subprocess.CalledProcessError` with the compiler's
    output where it can't be compiled; nothing is changed then.
    """
    with tempfile.TemporaryDirectory(prefix="coalmine-compile-") as scratch:
        work = Path(scratch)
        ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "build", "tests")
        for package in ("gateway",):
            shutil.copytree(root / package, work / package, ignore=ignored)
        (work / "mypy.ini").write_text("[mypy]\npython_version = 3.11\n", encoding="utf-8")
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
        made = [
            path.relative_to(work) for path in work.rglob("*") if path.suffix in (".so", ".pyd")
        ]
        clean(root)
        for path in made:
            shutil.copyfile(work / path, root / path)
        record = {"sources": _digest(root), "files": sorted(map(str, made))}
        (root / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Compile, or clean up; the exit status is 1 where that failed."""
    parser = argparse.ArgumentParser(prog="python -m gateway.compile", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--root", type=Path, default=_ROOT, help="folder that holds gateway/")
    parser.add_argument("--clean", action="store_true", help="remove what was compiled")
    parser.add_argument("--state", action="store_true", help="say pure, compiled or stale")
    options = parser.parse_args(arguments)
    if options.clean:
        clean(options.root)
    elif not options.state:
        try:
            compile_hot(options.root)
        except (subprocess.SubprocessError, OSError) as error:
            sys.stderr.write(f"{getattr(error, 'stdout', None) or ''}\ncan't compile: {error}\n")
            return 1
    sys.stdout.write(f"{state(options.root)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
