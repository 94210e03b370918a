"""The command line itself: what it offers, how fast, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version

import pytest

from rollout.cli import _COMMANDS, main

EXPECTED = {
    "up",
    "demo",
    "gateway",
    "worker",
    "control",
    "simulate",
    "rollout",
    "gateways",
    "explain",
    "replay",
    "privacy",
    "token",
    "settings",
    "store",
}


@pytest.fixture
def coalmine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[object, str, str]]:
    """Runs the command line in this process: status, standard output, standard error."""

    def run(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["coalmine", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


def test_help_lists_every_command(coalmine: Callable[..., tuple[object, str, str]]) -> None:
    """The help offers all commands, each with a sentence."""
    code, out, _ = coalmine("--help")
    assert code == 0
    assert set(_COMMANDS) == EXPECTED
    for name, lazy in _COMMANDS.items():
        assert name in out
        assert lazy.help in out


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_command_exists(coalmine: Callable[..., tuple[object, str, str]], name: str) -> None:
    """What the help offers can be run: its module is there and has a help of its own."""
    code, out, err = coalmine(name, "--help")
    assert code == 0, err
    assert "Usage:" in out


def test_help_imports_no_command() -> None:
    """The help is instant: neither a web framework nor a database library is imported for it."""
    script = (
        "import sys; sys.argv = ['coalmine', '--help']\n"
        "import rollout.cli\n"
        "try: rollout.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'fastapi', 'sqlalchemy', 'sqlmodel', 'httpx', 'openai', 'numpy', 'uvicorn'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stderr.strip() == "[]"


def test_version(coalmine: Callable[..., tuple[object, str, str]]) -> None:
    """--version prints the installed version."""
    assert coalmine("--version") == (0, f"coalmine {version('coalmine')}\n", "")


def test_a_broken_command_breaks_no_other(
    coalmine: Callable[..., tuple[object, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that can't be imported is the trouble of its own command only."""
    monkeypatch.setitem(sys.modules, "rollout.cli.worker", None)
    assert coalmine("--help")[0] == 0
    assert coalmine("settings", "check", "--help")[0] == 0
    with pytest.raises(ImportError):
        import_module("rollout.cli.worker")


def test_misspelt_command_is_corrected(
    coalmine: Callable[..., tuple[object, str, str]],
) -> None:
    """A slip of the finger ends with 2 and the command that was meant."""
    code, _, err = coalmine("rolout", "list")
    assert code == 2
    assert "rollout" in err


def test_settings_check_shows_what_is_in_effect(
    coalmine: Callable[..., tuple[object, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: object,
) -> None:
    """The environment's overrides are in what is printed, and no password is."""
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setenv("COALMINE_GATEWAY__PORT", "9999")
    monkeypatch.setenv("COALMINE_STORE", "postgresql://me:very-secret@db/coalmine")
    code, out, _ = coalmine("settings", "check")
    assert code == 0
    assert "port: 9999" in out
    assert "very-secret" not in out
    document = json.loads(coalmine("settings", "check", "--json")[1])
    assert document["gateway"]["port"] == 9999
    assert document["store"] == "postgresql+psycopg://me:***@db/coalmine"


def test_settings_check_names_what_is_wrong(
    coalmine: Callable[..., tuple[object, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: object,
) -> None:
    """A wrong setting ends with 2, in one line that names it."""
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setenv("COALMINE_GATEWAY__PORT", "99999999")
    code, out, err = coalmine("settings", "check")
    assert (code, out) == (2, "")
    assert err.startswith("coalmine: gateway.port: ")
    assert err.count("\n") == 1
