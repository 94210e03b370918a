"""The command line against a running control."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.store.tables import RolloutRow
from rollout.audit import Actor

SPEC = """
kind: Rollout
name: v7
route: support-bot
candidate: {deployment: support-v7}   # the new one
steps:
  - mirror: {min_pairs: 100}
  - set_weight: 100
"""
LOCAL = Actor("local", "admin")


@pytest.fixture(autouse=True)
def _address(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The command line finds the running control by COALMINE_URL, as a user would set it."""
    monkeypatch.delenv("COALMINE_TOKEN", raising=False)
    if "control" in request.fixturenames:
        monkeypatch.setenv("COALMINE_URL", request.getfixturevalue("control").url)


@pytest.fixture
def spec(tmp_path: Path) -> str:
    """A file with a spec."""
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return str(path)


def _enter(control: Any, phase: str) -> None:
    with control.store.write() as session:
        row = session.get(RolloutRow, 1)
        row.phase = phase
        session.add(row)


def test_apply_list_status(control: Any, coalmine: Callable[..., Any], spec: str) -> None:
    """A user applies a spec, finds it in the list, and reads where it is and what is next."""
    applied = coalmine("rollout", "apply", spec, "--reason", "new tune")
    assert applied.code == 0, applied.err
    assert applied.out.startswith("v7 #1 is preflight, step 1 of 2, weight 0%, revision 1")
    listed = coalmine("rollout", "list")
    assert listed.code == 0
    assert "support-v7" in listed.out
    shown = coalmine("rollout", "status", "v7")
    assert shown.code == 0
    for words in ("route support-bot", "support-v6 → support-v7", "step 1 of 2", "format_valid"):
        assert words in shown.out
    assert "then step 2 of 2: 100%" in shown.out
    again = coalmine("rollout", "apply", spec)
    assert (again.code, "nothing changed" in again.out) == (0, True)


def test_apply_reads_standard_input(
    control: Any, coalmine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spec can be piped in, as YAML or JSON, and held back from starting."""
    monkeypatch.setattr("sys.stdin", io.StringIO(SPEC))
    held = coalmine("rollout", "apply", "-", "--no-start")
    assert "is pending" in held.out
    document = {"kind": "Rollout", "name": "j", "route": "support-bot"}
    text = json.dumps({**document, "candidate": {"deployment": "support-v7"}}, indent="\t")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert coalmine("rollout", "apply", "-").out.startswith("j #1 is preflight")
    assert "v7 #1 is preflight" in coalmine("rollout", "start", "v7").out


def test_json_is_the_apis_document(control: Any, coalmine: Callable[..., Any], spec: str) -> None:
    """--json prints exactly what the API answers, so that scripts need one description."""
    assert json.loads(coalmine("rollout", "apply", spec, "--json").out)["created"] is True
    for command, path in (
        (("list",), ""),
        (("status", "v7"), "/v7"),
        (("explain", "v7"), "/v7/explain"),
    ):
        printed = json.loads(coalmine("rollout", *command, "--json").out)
        served = httpx.get(f"{control.url}/api/v1/rollouts{path}").json()
        for document in (printed, served):
            document.pop("progress", None)  # time goes by between the two
        assert printed == served, command
    paused = json.loads(coalmine("rollout", "pause", "v7", "--json").out)
    assert paused["phase"] == "paused"


def test_operations(control: Any, coalmine: Callable[..., Any], spec: str) -> None:
    """Each decision of a person is one command that prints where it led."""
    coalmine("rollout", "apply", spec)
    _enter(control, "shadowing")
    steps = [
        (("weight", "v7", "12.5", "--reason", "try"), "paused, step 1 of 2, weight 12.5%"),
        (("resume", "v7"), "is shadowing"),
        (("pause", "v7", "--reason", "lunch"), "lunch"),
        (("promote", "v7", "--reason", "sure"), "is succeeded"),
        (("rollback", "v7"), "is rolling_back"),
        (("abort", "v7"), "is aborted"),
        (("retry", "v7"), "v7 #2 is preflight"),
    ]
    for words, expected in steps:
        done = coalmine("rollout", *words)
        assert done.code == 0, (words, done.err)
        assert expected in done.out, words


def test_explain_shows_the_receipt(control: Any, coalmine: Callable[..., Any], spec: str) -> None:
    """explain, also as the short command, says why, who decided, and on which spec."""
    coalmine("rollout", "apply", spec)
    coalmine("rollout", "abort", "v7", "--reason", "it swears")
    for words in (("rollout", "explain", "v7"), ("explain", "v7")):
        explained = coalmine(*words)
        assert explained.code == 0
        for part in ("why    it swears", "abort → aborted", "(local)", "Receipt", "retry"):
            assert part in explained.out, part


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("rollout", "status", "nope"), 1, "name: there is no rollout called 'nope'"),
        (("rollout", "resume", "v7"), 1, "possible: "),
        (("rollout", "abort", "v7", "--if-revision", "99"), 1, "if_revision"),
        (("rollout", "weight", "v7", "101"), 2, "100"),
        (("rollout", "weight", "v7", "much"), 2, "percent"),
        (("rollout", "apply", "no-such-file"), 2, "No such file"),
        (("rollout", "frobnicate"), 2, "No such command"),
        (("rollout", "status"), 2, "name"),
        (("rollout", "list", "--url", "nonsense"), 1, "http://127.0.0.1:8081"),
        (("rollout", "list", "--url", "http://127.0.0.1:1"), 1, "is it running?"),
    ],
)
def test_errors_are_one_line_with_a_remedy(
    control: Any,
    coalmine: Callable[..., Any],
    spec: str,
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    """What is refused ends with 1, what is mistyped with 2; never a traceback."""
    coalmine("rollout", "apply", spec)
    ended = coalmine(*words)
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert said in ended.err
    assert "Traceback" not in ended.err
    if code == 1:
        assert ended.err.count("\n") == 1


def test_wrong_spec_names_the_field(
    control: Any, coalmine: Callable[..., Any], tmp_path: Path
) -> None:
    """A mistake in a spec is named by its path, with what would be right."""
    path = tmp_path / "wrong.yaml"
    path.write_text(SPEC.replace("min_pairs: 100", "min_pair: 100"))
    ended = coalmine("rollout", "apply", str(path))
    assert ended.code == 1
    assert "steps.0.mirror.min_pair" in ended.err
    assert "did you mean min_pairs" in ended.err


def test_another_server_is_recognised(
    control: Any, coalmine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address where something else answers is said to be wrong, not shown as garbage."""
    ended = coalmine("rollout", "list", "--url", f"{control.url}/elsewhere")
    assert ended.code == 1
    assert "elsewhere" in ended.err


def test_tokens(
    control: Any, coalmine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    """After the first token a command needs one: from the environment or given, by its role."""
    created = coalmine("token", "create", "me", "--role", "admin")
    secret = created.out.strip()
    assert secret.startswith("cm_")
    assert "not shown again" in created.err
    refused = coalmine("rollout", "list")
    assert (refused.code, "COALMINE_TOKEN" in refused.err) == (1, True)
    assert coalmine("rollout", "list", "--token", secret).code == 0
    monkeypatch.setenv("COALMINE_TOKEN", secret)
    viewer = coalmine("token", "create", "eyes", "--role", "viewer").out.strip()
    denied = coalmine("rollout", "apply", spec, "--token", viewer)
    assert (denied.code, "operator" in denied.err) == (1, True)
    assert coalmine("token", "revoke", "eyes").out == "eyes is revoked\n"
    listed = coalmine("token", "list")
    assert listed.out.count("revoked") == 1
    assert secret not in listed.out
    assert coalmine("rollout", "list", "--token", viewer).code == 1


def test_first_token_without_control(
    coalmine: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first token can be made before control ever ran, which beyond loopback it must be."""
    monkeypatch.delenv("COALMINE_URL", raising=False)
    (tmp_path / "coalmine.yaml").write_text(f"store: sqlite:///{tmp_path / 'new.db'}\n")
    created = coalmine("token", "create", "root", "--role", "admin", "--local", "--json")
    assert created.code == 0, created.err
    assert json.loads(created.out)["secret"].startswith("cm_")
    twice = coalmine("token", "create", "root", "--role", "admin", "--local")
    assert (twice.code, "exists" in twice.err) == (1, True)


@pytest.mark.parametrize(
    ("phase", "operation", "code"),
    [("shadowing", "promote", 0), ("shadowing", "abort", 1)],
)
def test_watch_ends_with_the_rollout(
    control: Any,
    coalmine: Callable[..., Any],
    spec: str,
    phase: str,
    operation: str,
    code: int,
) -> None:
    """Watching prints every transition as it falls; status 0 only when the rollout succeeded."""
    coalmine("rollout", "apply", spec)
    _enter(control, phase)
    seen = threading.Event()
    real = httpx.Client.request

    def request(self: httpx.Client, *arguments: Any, **options: Any) -> httpx.Response:
        answer = real(self, *arguments, **options)
        seen.set()
        return answer

    def decide() -> None:
        assert seen.wait(20), "watch never looked"
        getattr(control.service, operation)("v7", actor=LOCAL, reason="decided")

    deciding = threading.Thread(target=decide)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "request", request)
        deciding.start()
        watched = coalmine("rollout", "watch", "v7", "--interval", "0.05", "--json")
    deciding.join(20)
    assert watched.code == code, watched.err
    events = [json.loads(line)["event"] for line in watched.out.splitlines()]
    assert events == ["start", operation]
