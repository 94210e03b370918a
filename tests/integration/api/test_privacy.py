"""Deleting what is stored of a user, through the API and the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from gateway.batch import Batch, Capture
from gateway.intake import unpack
from gateway.observe import hash_key
from gateway.store import Store
from gateway.store.evidence import load_funnel
from gateway.store.tables import AuditRow, CaptureRow, DeletionRow, IntakeRow, PairRow
from gateway.writer import write_batch

DELETIONS = "/api/v1/privacy/deletions"
KEY = "alice-4711@shop.example"
WORDS = "what alice told the model"


@pytest.fixture
def fill(make_capture: Callable[..., Capture]) -> Callable[..., None]:
    """Stores captures of users, unpacked or still packed."""
    numbers = iter(range(1, 100))

    def write(store: Store, *users: str, packed: bool = False) -> None:
        number = next(numbers)
        batch = Batch(number=number)
        for place, user in enumerate(users):
            body = json.dumps({"messages": [{"content": f"{WORDS} {place}"}]}).encode()
            batch.captures.append(
                make_capture(id=f"{number}-{place}", key_hash=hash_key(user), request_body=body)
            )
            batch.end(1, "mirror", "pending")
        with store.write() as session:
            assert write_batch(store, session, batch, replica="g1", started_at=0.0)
        while not packed and unpack(store):
            pass

    return write


def test_a_user_is_deleted_wherever_their_captures_are(
    client: TestClient, store: Store, fill: Callable[..., None]
) -> None:
    """Rows and packets; others keep theirs; the second time there is nothing left."""
    fill(store, KEY, "bob", KEY)
    fill(store, "bob", KEY, packed=True)
    answer = client.post(DELETIONS, json={"user_key": KEY, "reason": "Art. 17"})
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert report == {
        "user": f"user:{hash_key(KEY)[:12]}",
        "packed": 1,
        "captures": 2,
        "pairs": 2,
        "judgments": 0,
        "judge_cache": 0,
        "others": 0,
    }
    again = client.post(DELETIONS, json={"user_key": KEY}).json()
    assert {**again, "user": ""} == dict.fromkeys(report, 0) | {"user": ""}
    while unpack(store):
        pass
    with store.read() as session:
        assert set(session.exec(select(CaptureRow.key_hash)).all()) == {hash_key("bob")}
        assert len(session.exec(select(PairRow)).all()) == 2
        assert load_funnel(session, 1)["mirror"] == {"eligible": 5, "pending": 2, "withheld": 3}


def test_it_is_audited_without_the_key(
    client: TestClient, store: Store, fill: Callable[..., None]
) -> None:
    """Who, why and how much; whose is a pseudonym, in what is kept for late captures too."""
    fill(store, KEY)
    client.post(DELETIONS, json={"user_key": KEY, "reason": "asked for"})
    (entry,) = client.get("/api/v1/audit").json()["entries"]
    assert (entry["action"], entry["target"]) == ("privacy.delete", f"user:{hash_key(KEY)[:12]}")
    assert entry["detail"]["reason"] == "asked for"
    assert entry["detail"]["captures"] == 1
    with store.read() as session:
        kept = repr((session.exec(select(AuditRow)).all(), session.exec(select(DeletionRow)).all()))
    assert "alice" not in kept


def test_only_an_admin_may(client: TestClient, tokens: dict[str, dict[str, str]]) -> None:
    """Deleting can't be undone."""
    for role, status in (("viewer", 403), ("reviewer", 403), ("operator", 403), ("admin", 200)):
        answer = client.post(DELETIONS, json={"user_key": KEY}, headers=tokens[role])
        assert answer.status_code == status


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user_key": ""},
        {"user_key": "x" * 5000},
        {"user_key": KEY, "secret": "s"},
        {"key": KEY},
    ],
)
def test_a_wrong_request_names_the_field_and_repeats_nothing(
    client: TestClient, body: dict[str, str]
) -> None:
    """The key that was sent is in no error."""
    answer = client.post(DELETIONS, json=body)
    assert answer.status_code == 422
    assert answer.json()["field"] in {"user_key", "secret", "key"}
    assert KEY not in answer.text
    assert "xxxx" not in answer.text


def test_nothing_is_left_in_sqlites_files(
    control: Any, fill: Callable[..., None], coalmine: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Not in pages that are free again, and not in the log."""
    monkeypatch.setenv("COALMINE_URL", control.url)
    fill(control.store, *([KEY] * 30))
    fill(control.store, KEY, packed=True)
    path = Path(control.store.path)

    def files() -> bytes:
        return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))

    assert WORDS.encode() in files()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
    done = coalmine("privacy", "delete", "--user-key", "-", "--reason", "asked for")
    assert done.code == 0, done.err
    assert "31 captures deleted, 30 pairs" in done.out
    assert KEY not in done.out
    with control.store.read() as session:
        for row in session.exec(select(IntakeRow)).all():
            assert WORDS.encode() not in row.data
    assert WORDS.encode() not in files()


def test_the_command_says_what_was_deleted(
    control: Any, coalmine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As words or as the API's document; an empty key is refused."""
    monkeypatch.setenv("COALMINE_URL", control.url)
    shown = coalmine("privacy", "delete", "--user-key", "nobody", "--json")
    assert json.loads(shown.out)["captures"] == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    refused = coalmine("privacy", "delete", "--user-key", "-")
    assert refused.code != 0
    assert "give the key of one user" in refused.err


def test_check_shows_what_redaction_would_do(
    coalmine: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the settings, without a store; for a text, a body, or the input."""
    settings = tmp_path / "coalmine.yaml"
    settings.write_text(
        json.dumps(
            {
                "deployments": {"b": {"base_url": "http://127.0.0.1:1/v1", "model": "b"}},
                "routes": {"bot": {"baseline": "b", "redaction": {"on_match": "withhold"}}},
                "redaction": {"custom": [{"name": "employee", "pattern": "EMP-[0-9]{4}"}]},
            }
        )
    )
    text = tmp_path / "mail.txt"
    text.write_text("EMP-1234 is bob@mail.example")
    shown = coalmine("privacy", "check", str(text), "--config", str(settings))
    assert (shown.code, shown.out) == (0, "[EMPLOYEE_1] is [EMAIL_1]\n")
    assert "1 email, 1 employee" in shown.err
    monkeypatch.setattr("sys.stdin", io.StringIO('{"user": "u1", "n": 4111111111111111}'))
    refused = coalmine("privacy", "check", "-", "--config", str(settings), "--json")
    assert json.loads(refused.out)["withheld"] == "number"
    kept = coalmine("privacy", "check", str(text), "--config", str(settings), "--route", "bot")
    assert "withheld: matched" in kept.err
    unknown = coalmine("privacy", "check", str(text), "--config", str(settings), "--route", "x")
    assert "no route is called 'x'; declared are: bot" in unknown.err
