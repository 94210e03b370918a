"""Exports through the API and the command line: made, listed, downloaded, compared; by whom."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from fastapi.testclient import TestClient
from sqlmodel import col, delete, select

from gateway.store import Store
from gateway.store.tables import AuditRow, PairRow
from rollout.cli.export import parse_instant
from shadow.offline.cases import Case

EXPORTS = "/api/v1/exports"
SPEC = {
    "kind": "Rollout",
    "name": "bot-v7",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
}
WANTED = {"kind": "preferences", "rollout": "bot-v7"}
QUESTIONS = (
    "Where is the parcel that I ordered on Monday?",
    "How long does a refund of my last order take?",
    "Why was I charged twice for the same invoice?",
)

Finish = Callable[..., int]


@pytest.fixture
def pairs(client: TestClient, store: Store, finish_pair: Finish) -> list[int]:
    """A rollout with three losses of three users; the ids of the pairs."""
    answer = client.post("/api/v1/rollouts", json=SPEC)
    assert answer.status_code == 201, answer.text
    return [
        finish_pair(store, 1, said, "A good answer.", "A bad answer.", result="loss", user=said)
        for said in QUESTIONS
    ]


def test_an_export_is_made_once(client: TestClient, store: Store, pairs: list[int]) -> None:
    """201 the first time and 200 after that; who did it is in the audit log."""
    made = client.post(EXPORTS, json=WANTED)
    assert made.status_code == 201, made.text
    dataset = made.json()["dataset"]
    assert (dataset["name"], dataset["version"], dataset["items"]) == ("bot-v7-preferences", 1, 3)
    manifest = dataset["manifest"]
    assert (manifest["created_by"], manifest["created_at"]) == ("local", 1_800_000_000.0)
    origin = manifest["origin"]
    assert (origin["candidate"], len(origin["rubric_hash"])) == ("support-v7", 64)
    assert origin["candidate_revision"]
    again = client.post(EXPORTS, json=WANTED)
    assert (again.status_code, again.json()["created"]) == (200, False)
    assert again.json()["dataset"] == dataset
    with store.read() as session:
        written = session.exec(select(AuditRow).where(AuditRow.action == "export")).all()
    assert [(row.actor, row.target) for row in written] == [("local", "bot-v7-preferences@1")]


def test_a_download_is_lines_of_json_with_the_hash_that_is_told(
    client: TestClient, pairs: list[int]
) -> None:
    """The bytes have the SHA-256 of the manifest; each line is a row; a split is a part of it."""
    dataset = client.post(EXPORTS, json=WANTED).json()["dataset"]
    answer = client.get(f"{EXPORTS}/bot-v7-preferences@1/items")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert 'filename="bot-v7-preferences@1.jsonl"' in answer.headers["content-disposition"]
    assert hashlib.sha256(answer.content).hexdigest() == dataset["sha256"]
    schema = client.get("/api/v1/export-schemas/preferences").json()
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["prompt"][0]["content"] for row in rows] == list(QUESTIONS)
    for row in rows:
        jsonschema_rs.validate(schema, row)
    parts = [
        client.get(f"{EXPORTS}/bot-v7-preferences/items", params={"split": split}).text
        for split in ("train", "validation", "test")
    ]
    assert sorted("".join(parts).splitlines()) == sorted(answer.text.splitlines())


def test_a_deleted_pair_is_told(client: TestClient, store: Store, pairs: list[int]) -> None:
    """The row is gone from the download, and the dataset says that one is missing."""
    client.post(EXPORTS, json=WANTED)
    with store.write() as session:
        session.exec(delete(PairRow).where(col(PairRow.id) == pairs[0]))
    shown = client.get(f"{EXPORTS}/bot-v7-preferences").json()
    assert (shown["items"], shown["deleted"]) == (3, 1)
    lines = client.get(f"{EXPORTS}/bot-v7-preferences/items").text.splitlines()
    assert len(lines) == 2


def test_versions_are_listed_and_compared(
    client: TestClient, store: Store, pairs: list[int], finish_pair: Finish
) -> None:
    """A new pair makes a new version; the list shows both, the difference one row."""
    client.post(EXPORTS, json=WANTED)
    finish_pair(store, 1, "A fourth question of its own kind?", "Good.", "Bad.", result="loss")
    assert client.post(EXPORTS, json=WANTED).json()["dataset"]["version"] == 2
    listed = client.get(EXPORTS).json()["datasets"]
    assert [each["version"] for each in listed] == [2, 1]
    path = f"{EXPORTS}/bot-v7-preferences@1/diff/bot-v7-preferences@2"
    difference = client.get(path).json()
    counts = {name: difference[name] for name in ("same", "changed", "added", "removed")}
    assert counts == {"same": 3, "changed": 0, "added": 1, "removed": 0}
    assert len(difference["examples"]["added"]) == 1


@pytest.mark.parametrize(
    ("changed", "field", "says"),
    [
        ({"kind": "poems"}, "kind", "preferences"),
        ({"metric": "charm"}, "metric", "'charm' is no check of an answer's content"),
        ({"metric": "latency"}, "metric", "'latency' is no check of an answer's content"),
        ({"since": 5, "until": 5}, "", "since must be before until"),
        ({"splits": {"train": 50}}, "splits", "add up to 100"),
        ({"min_score": 0}, "min_score", "greater than 0"),
        ({"dataset": "a/b"}, "dataset", "pattern"),
        ({"kind": "evalset", "format": "text"}, "", "belongs to preferences"),
        ({"colour": "red"}, "colour", "not known here"),
    ],
)
def test_a_wrong_request_names_its_field(
    client: TestClient, pairs: list[int], changed: dict[str, Any], field: str, says: str
) -> None:
    """What can't be meant is refused with the field and what would be right."""
    answer = client.post(EXPORTS, json={**WANTED, **changed})
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert answer.json().get("field", "").startswith(field)


def test_nothing_to_export_says_why(client: TestClient, pairs: list[int]) -> None:
    """An export without rows is refused with the reasons, and no dataset is left."""
    answer = client.post(EXPORTS, json={**WANTED, "sources": ["human"]})
    assert answer.status_code == 422
    assert "no pair of 'bot-v7' gives a row: other_source 3" in answer.json()["detail"]
    assert client.get(EXPORTS).json()["datasets"] == []
    assert client.post(EXPORTS, json={**WANTED, "rollout": "none"}).status_code == 404
    assert client.get(f"{EXPORTS}/none").status_code == 404
    assert client.get(f"{EXPORTS}/none/items").status_code == 404


def test_roles(client: TestClient, pairs: list[int], tokens: dict[str, dict[str, str]]) -> None:
    """Viewers see what there is, reviewers download texts, operators export."""
    for role, status in (("viewer", 403), ("reviewer", 403), ("operator", 201), ("admin", 200)):
        answer = client.post(EXPORTS, json=WANTED, headers=tokens[role])
        assert answer.status_code == status, role
    path = f"{EXPORTS}/bot-v7-preferences"
    for role, status in (("viewer", 403), ("reviewer", 200)):
        assert client.get(f"{path}/items", headers=tokens[role]).status_code == status, role
    assert client.get(path, headers=tokens["viewer"]).status_code == 200
    assert client.get(EXPORTS).status_code == 401


@pytest.fixture
def running(control: Any, finish_pair: Finish, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A running control over SQLite that the command line finds, with losses and a refusal."""
    monkeypatch.delenv("COALMINE_TOKEN", raising=False)
    monkeypatch.setenv("COALMINE_URL", control.url)
    from rollout.audit import Actor

    control.service.apply(SPEC, actor=Actor("local", "admin"), reason="", start=True)
    for said in QUESTIONS:
        finish_pair(control.store, 1, said, "A good one.", "I can't help with that.", result="loss")
    return control


def test_the_command_line_exports_to_a_file(
    running: Any, coalmine: Callable[..., Any], tmp_path: Path
) -> None:
    """The file holds the rows, the manifest lies beside it, and the summary says what is in it."""
    out = tmp_path / "pairs.jsonl"
    done = coalmine("export", "preferences", "bot-v7", "--out", str(out))
    assert done.code == 0, done.err
    assert "bot-v7-preferences@1" in done.out
    assert "judge 3" in done.out
    assert len(out.read_text().splitlines()) == 3
    manifest = json.loads((tmp_path / "pairs.jsonl.manifest.json").read_text())
    assert manifest["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    again = coalmine("export", "preferences", "bot-v7")
    assert "the same rows were exported before" in again.out
    words = ("--metric", "refusal_rate", "--text", "--dataset", "plain")
    long_ago = ("--splits", "100/0/0", "--since", "2000-01-01", "--until", "1w")
    none = coalmine("export", "preferences", "bot-v7", *words, *long_ago)
    assert (none.code, "gives a row: there is none" in none.err) == (1, True)
    by_check = coalmine("export", "preferences", "bot-v7", *words)
    assert "check 3" in by_check.out


def test_cases_and_eval_sets_are_read_back(
    running: Any, coalmine: Callable[..., Any], tmp_path: Path
) -> None:
    """What the command line writes is an eval set as `Case` reads it, and fits its schema."""
    for kind in ("regressions", "evalset"):
        out = tmp_path / f"{kind}.jsonl"
        done = coalmine("export", kind, "bot-v7", "--out", str(out), "--json")
        assert json.loads(done.out)["dataset"]["items"] == 3
        schema = json.loads(coalmine("dataset", "schema", kind).out)
        for text in out.read_text().splitlines():
            jsonschema_rs.validate(schema, json.loads(text))
            case = Case.model_validate_json(text)
            assert case.reference_answer == "A good one."
            assert (case.assertion is None) == (kind == "evalset")


def test_datasets_on_the_command_line(
    running: Any, coalmine: Callable[..., Any], tmp_path: Path
) -> None:
    """List, show, download and diff do what their names say."""
    coalmine("export", "preferences", "bot-v7")
    coalmine("export", "preferences", "bot-v7", "--max-items", "2")
    listed = coalmine("dataset", "list")
    assert "bot-v7-preferences@2" in listed.out
    shown = coalmine("dataset", "show", "bot-v7-preferences@1")
    assert "3 rows" in shown.out
    out = tmp_path / "down.jsonl"
    got = coalmine("dataset", "download", "bot-v7-preferences@2", "--out", str(out))
    assert "2 rows of bot-v7-preferences@2" in got.out
    compared = coalmine("dataset", "diff", "bot-v7-preferences@1", "bot-v7-preferences@2", "--json")
    assert json.loads(compared.out)["removed"] == 1
    words = coalmine("dataset", "diff", "bot-v7-preferences@1", "bot-v7-preferences@2")
    assert "removed        1" in words.out
    for wrong in (("show", "none"), ("download", "none", "--out", str(tmp_path / "x"))):
        refused = coalmine("dataset", *wrong)
        assert (refused.code, "no dataset 'none'" in refused.err) == (1, True)
    assert list(tmp_path.glob("x*")) == []


def test_the_panel_on_the_command_line(running: Any, coalmine: Callable[..., Any]) -> None:
    """The panel names what to read next; with --metric both answers stand side by side."""
    shown = coalmine("rollout", "panel", "bot-v7")
    assert shown.code == 0, shown.err
    assert "refusal_rate" in shown.out
    assert "3 pairs, intervals at 95% at all looks together" in shown.out
    samples = coalmine("rollout", "panel", "bot-v7", "--metric", "refusal_rate", "--samples", "2")
    assert samples.out.count("I can't help with that.") == 2
    assert samples.out.count("A good one.") == 2
    assert "judge: loss" in samples.out
    document = coalmine("rollout", "panel", "bot-v7", "--live", "--json")
    assert json.loads(document.out)["source"] == "live"
    unknown = coalmine("rollout", "panel", "bot-v7", "--metric", "charm")
    assert (unknown.code, "no figure called 'charm'" in unknown.err) == (1, True)


def test_instants() -> None:
    """A date begins at midnight UTC; a length of time is so long ago; anything else is refused."""
    import typer

    assert parse_instant("1970-01-02", now=0) == 86_400
    assert parse_instant("1970-01-01T01:00+01:00", now=0) == 0
    assert parse_instant("2d", now=200_000) == 200_000 - 172_800
    with pytest.raises(typer.BadParameter, match="no instant"):
        parse_instant("yesterday", now=0)
