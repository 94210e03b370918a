"""Reviewing on the command line, against a running control."""

from __future__ import annotations

import io
import json
import os
import pty
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlmodel import select

from gateway.store.evidence import load_evidence
from gateway.store.tables import ReviewLeaseRow, ReviewRow
from rollout.audit import Actor
from rollout.cli.client import AdminClient
from rollout.cli.keys import END, keys
from rollout.cli.reviewing import item_view, review
from rollout.reviews import settle_items

FAR = 1e12
"""An instant at which nothing can be corrected any more."""

SPEC: dict[str, Any] = {
    "kind": "Rollout",
    "name": "canary",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
    "analysis": {"metrics": [{"name": "judge_win_rate", "min_human_labels": 60}]},
}


@pytest.fixture
def items(control: Any, items_in: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A rollout in a running control, and what adds items to it."""
    monkeypatch.delenv("COALMINE_TOKEN", raising=False)
    monkeypatch.setenv("COALMINE_URL", control.url)
    control.service.apply(SPEC, actor=Actor("local", "admin"), start=True)
    return items_in(control.store)


def verdicts(items: Any) -> list[tuple[str, list[str], str]]:
    """What was said, in its order."""
    with items.store.read() as session:
        rows = session.exec(select(ReviewRow).order_by(ReviewRow.id)).all()
    return [(row.verdict, row.categories, row.note) for row in rows]


def test_each_key_is_a_verdict_and_the_answers_stand_side_by_side(items: Any, control: Any) -> None:
    """Arrows and letters, a note, categories, and what no key is; then the queue is empty."""
    for _ in range(6):
        items.item()
    pressed = ["x", "left", "right", "t", "b", "n", "s", "c", "1", "5", "1", "9", "l", "q"]
    shown = io.StringIO()
    with AdminClient(control.url) as client:
        given = review(
            client,
            "canary",
            read_key=iter(pressed).__next__,
            ask=lambda _prompt: "not my field",
            console=Console(file=shown, width=120),
        )
    assert given == 6
    assert verdicts(items) == [
        ("left", [], ""),
        ("right", [], ""),
        ("tie", [], ""),
        ("both_bad", [], ""),
        ("skip", [], "not my field"),
        ("left", ["accuracy", "safety"], ""),
    ]
    text = shown.getvalue()
    assert any("GOOD answer" in line and "plain answer" in line for line in text.splitlines())
    assert "user: help me" in text
    assert "you have reviewed them" in text
    assert "v7" not in text


def test_a_slip_is_corrected_by_one_key(items: Any, control: Any) -> None:
    """The last item comes back, its verdict is replaced, and reviewing goes on where it was."""
    for _ in range(2):
        items.item()
    pressed = ["u", "left", "u", "right", "tie"[0], "u", "b", "q"]
    shown = io.StringIO()
    with AdminClient(control.url) as client:
        given = review(
            client,
            "canary",
            read_key=iter(pressed).__next__,
            ask=str,
            console=Console(file=shown, width=120),
        )
    assert given == 2
    assert "there is nothing to correct yet" in shown.getvalue()
    with items.store.read() as session:
        rows = session.exec(select(ReviewRow).order_by(ReviewRow.id)).all()
    assert [(row.item_id, row.verdict, row.superseded) for row in rows] == [
        (1, "left", True),
        (1, "right", False),
        (2, "tie", True),
        (2, "both_bad", False),
    ]


def test_quitting_gives_the_item_back(items: Any, control: Any) -> None:
    """Somebody else is given it at once."""
    items.item()
    with AdminClient(control.url) as client:
        given = review(
            client,
            "canary",
            read_key=lambda: "q",
            ask=str,
            console=Console(file=io.StringIO()),
        )
    assert given == 0
    with items.store.read() as session:
        assert session.exec(select(ReviewLeaseRow)).all() == []


def test_an_answer_does_not_steer_the_terminal() -> None:
    """Escape sequences and markup in an answer are shown as text."""
    item = {
        "id": 1,
        "segment": None,
        "conversation": [{"role": "user", "text": "\x1b[2Jhi"}],
        "tools": [],
        "left": "\x1b]0;owned\x07 [bold]x[/bold]\n\tkept",
        "right": "é ünï 漢字",
    }
    shown = io.StringIO()
    Console(file=shown, width=100).print(item_view(item, waiting=1))
    text = shown.getvalue()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold]x[/bold]" in text
    assert "é ünï 漢字" in text


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (b"l", "l"),
        (b"\x1b[D", "left"),
        (b"\x1bOC", "right"),
        (b"\x1b", "\x1b"),
        (b"\x1b[A", "\x1b"),
        (b"\x04", END),
    ],
    ids=["letter", "left", "right", "escape", "up", "end"],
)
def test_a_terminal_gives_single_keys(sent: bytes, read: str) -> None:
    """Without Enter, arrows as one key, and the terminal's mode comes back afterwards."""
    import termios

    leader, follower = pty.openpty()
    try:
        with open(follower, closefd=False) as terminal:
            before = termios.tcgetattr(follower)
            with keys(terminal) as read_key:
                os.write(leader, sent)
                assert read_key() == read
            assert termios.tcgetattr(follower)[3] == before[3]
    finally:
        os.close(leader)
        os.close(follower)


def test_verdicts_can_be_piped_in(
    items: Any, coalmine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal each line is a key; the end of the lines quits."""
    items.item()
    items.item()
    monkeypatch.setattr("sys.stdin", io.StringIO("n\nfine words\nleft\n"))
    ran = coalmine("review", "canary")
    assert ran.code == 0, ran.err
    assert ran.out.endswith("1 verdict given\n")
    assert verdicts(items) == [("left", [], "fine words")]


def test_a_terminal_session_by_pty(items: Any, control: Any) -> None:
    """The command in a terminal of its own: keys in, boxes out, status 0."""
    items.item()
    read = b""
    pid, leader = pty.fork()
    if pid == 0:  # pragma: no cover - the child becomes the command
        os.environ.update(COALMINE_URL=control.url, TERM="xterm", COLUMNS="100")
        import sys

        os.execv(sys.executable, [sys.executable, "-m", "rollout.cli", "review", "canary"])
    pressed = False
    stop = threading.Timer(60, os.kill, (pid, 9))
    stop.start()
    try:
        while True:
            try:
                got = os.read(leader, 4096)
            except OSError:
                break  # the other end has closed
            if not got:
                break
            read += got
            if not pressed and b"q quit" in read:
                os.write(leader, b"\x1b[C")
                pressed = True
            if b"any other key ends" in read:
                os.write(leader, b"q")
    finally:
        stop.cancel()
        os.close(leader)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, read.decode()
    assert b"1 verdict given" in read
    assert verdicts(items) == [("right", [], "")]


def test_status_and_agreement_are_readable(items: Any, coalmine: Callable[..., Any]) -> None:
    """What waits, the quota, the claim; and how far judge and people agree."""
    first, _ = items.item(), items.item(source="disagreement", expert_only=True)
    with AdminClient(os.environ["COALMINE_URL"]) as client:
        client.send("POST", f"/reviews/{first}", {"verdict": "left"})
    settle_items(items.store, now=FAR)
    status = coalmine("review", "status", "canary")
    assert status.code == 0, status.err
    assert "1 open, 1 done, 0 withdrawn" in status.out
    assert "1 at random, 1 where judges disagree" in status.out
    assert "1 wait for an expert" in status.out
    assert "no blind label yet" in status.out  # the controller, which folds it, does not run here
    assert json.loads(coalmine("review", "status", "canary", "--json").out)["labels"] == 1
    agreement = coalmine("review", "agreement", "canary")
    assert agreement.code == 0, agreement.err
    assert "100%" in agreement.out
    assert "Krippendorff" in agreement.out
    assert json.loads(coalmine("review", "agreement", "canary", "--json").out)["people"]


def test_label_studio_there_and_back(
    items: Any, coalmine: Callable[..., Any], tmp_path: Path
) -> None:
    """Exported blind, annotated, imported once: twice changes nothing, refused rows are named."""
    numbers = [items.item() for _ in range(3)]
    expert = items.item(expert_only=True)
    tasks, config = tmp_path / "tasks.json", tmp_path / "config.xml"
    ran = coalmine(
        "review", "export", "canary", "-o", str(tasks), "--labelling-config", str(config)
    )
    assert (ran.code, ran.out) == (0, f"4 tasks in {tasks}\n")
    exported = json.loads(tasks.read_text())
    assert [each["data"]["coalmine_item"] for each in exported] == [*numbers, expert]
    for word in ("v6", "v7", "baseline", "candidate"):
        assert word not in tasks.read_text()
    assert "<Pairwise" in config.read_text()

    def annotated(side: str, who: str) -> dict[str, Any]:
        result = {"type": "pairwise", "from_name": "better", "to_name": "left,right"}
        return {
            "completed_by": {"id": 3, "email": who},
            "result": [{**result, "value": {"selected": side}}],
            "lead_time": 9.5,
            "was_cancelled": False,
        }

    done = tmp_path / "export.json"
    exported[0]["annotations"] = [annotated("left", "ann@x.org")]
    exported[1]["annotations"] = [
        annotated("right", "bob@x.org"),
        {"completed_by": 1, "result": []},
    ]
    exported[2]["annotations"] = []
    exported[3]["annotations"] = [annotated("left", "dr@x.org")]
    foreign = {"data": {"coalmine_item": 999}, "annotations": [annotated("left", "ann@x.org")]}
    done.write_text(json.dumps([*exported, foreign, {"data": {}}]))
    ran = coalmine("review", "import", "canary", str(done), "--expert", "dr@x.org")
    assert ran.code == 1
    assert "6 annotations: 3 new, 0 known, 0 corrected, 3 refused" in ran.out
    verdictless, foreign_item, broken = ran.err.splitlines()
    assert verdictless.startswith("tasks.1.annotations.1.result: has no verdict, or two: choose")
    assert foreign_item == "tasks.4.annotations.0: item 999 does not belong to rollout 'canary'"
    assert broken == "tasks.5: is no task; export the project as JSON, not JSON-MIN or CSV"
    again = coalmine("review", "import", "canary", str(done), "--expert", "dr@x.org")
    assert "0 new, 3 known, 0 corrected" in again.out
    settle_items(items.store, now=FAR)
    with items.store.read() as session:
        facts = [f for _, f in load_evidence(session, 1, after=0) if f.kind == "label"]
        rows = session.exec(select(ReviewRow).order_by(ReviewRow.id)).all()
    assert [fact.payload["label"] for fact in facts] == [1.0, 0.0, 1.0]
    assert [(row.reviewer, row.via, row.seconds, row.expert) for row in rows] == [
        ("label-studio:ann@x.org", "label_studio", 9.5, False),
        ("label-studio:bob@x.org", "label_studio", 9.5, False),
        ("label-studio:dr@x.org", "label_studio", 9.5, True),
    ]


def test_an_import_that_is_none_says_what_would_be_one(
    items: Any, coalmine: Callable[..., Any], tmp_path: Path
) -> None:
    """A missing file, no JSON, no list."""
    for text, words in ((None, "can't read"), ("{", "is not JSON"), ("{}", "no list of tasks")):
        file = tmp_path / "export.json"
        if text is not None:
            file.write_text(text)
        ran = coalmine("review", "import", "canary", str(file))
        assert (ran.code, words in ran.err) == (1, True)


def test_large_imports_go_in_parts_and_keep_their_places(
    items: Any, coalmine: Callable[..., Any], tmp_path: Path
) -> None:
    """More tasks than one request takes, and a project far over its size: places are the file's."""
    padding = "x" * 8000
    tasks = [
        {"data": {"coalmine_item": 900 + n, "left": padding}, "annotations": [
            {"completed_by": 1, "result": [
                {"from_name": "better", "value": {"selected": "left"}}
            ]}
        ]}
        for n in range(250)
    ]  # fmt: skip
    file = tmp_path / "export.json"
    file.write_text(json.dumps(tasks))
    assert file.stat().st_size > 1024**2
    ran = coalmine("review", "import", "canary", str(file))
    assert ran.err.splitlines()[249].startswith(
        "tasks.249.annotations.0: item 1149 does not belong"
    )


def test_an_experts_token_is_made_and_shown(items: Any, coalmine: Callable[..., Any]) -> None:
    """Who may review what is for experts is seen in the list; a viewer can't be one."""
    admin = coalmine("token", "create", "boss", "--role", "admin").out.strip()
    made = coalmine("token", "create", "dr-x", "--role", "reviewer", "--expert", "--token", admin)
    assert made.code == 0, made.err
    listed = coalmine("token", "list", "--token", admin).out
    assert "reviewer, expert" in next(line for line in listed.splitlines() if "dr-x" in line)
    refused = coalmine("token", "create", "v", "--role", "viewer", "--expert", "--token", admin)
    assert (refused.code, "viewers review nothing" in refused.err) == (1, True)
    item = items.item(expert_only=True)
    with AdminClient(os.environ["COALMINE_URL"], made.out.strip()) as client:
        handed = client.send("POST", "/rollouts/canary/reviews/next", {})
    assert handed["item"]["id"] == item
