"""Exports of what a worker really finished: rows, versions, hashes, deletions."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import event
from sqlmodel import col, delete, func, select

from gateway.errors import NotFound, RequestError
from gateway.store import Store
from gateway.store.erasure import remove_bodies
from gateway.store.evidence import load_funnel
from gateway.store.tables import (
    CaptureRow,
    DatasetItemRow,
    DatasetRow,
    JudgeWindowRow,
    JudgmentRow,
    PairRow,
    ReviewItemRow,
)
from shadow.metrics import WorkerMetrics
from shadow.offline import export as export_module
from shadow.offline import reading
from shadow.offline.datasets import compare, find_dataset, list_datasets, read_lines
from shadow.offline.export import Exported, export_pairs
from shadow.offline.request import ExportRequest
from shadow.offline.rows import Origin
from shadow.serve import build_worker

ORIGIN = Origin("r1", 1, "v6", "rev6", "v7", "rev7", "rubric", "1.0")
JSON = {"response_format": {"type": "json_object"}}

# What the user said: the baseline's answer, the candidate's, and the request.
SCENES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "win": ("plain words", "GOOD words", {}),
    "loss": ("GOOD words", "plain words", {}),
    "tie": ("plain words", "other words", {}),
    "inconsistent": ("one FLIP", "two FLIP", {}),
    "judge_error": ("one MUMBLE", "two MUMBLE", {}),
    "identical": ("the same", "the same", {}),
    "broken": ('{"a": 1}', "a is one", JSON),
    "both broken": ("a is 1", "a is one", JSON),
    "empty": ("plain words", "", {}),
}


@pytest.fixture
def finished(
    serving: Any, reply_with: Any, chat_document: Any, fair_judge: Any, rows: Any,
    store: Store, settings_for: Any,
) -> tuple[int, dict[str, int]]:  # fmt: skip
    """A rollout, and its pairs by scene, each of a user of its own, finished by a worker."""
    rollout = rows.rollout()
    pairs = {
        scene: rows.pair(
            rollout,
            baseline,
            request={"messages": [{"role": "user", "content": scene}], **request},
            key_hash=f"user of {scene}",
            segment="billing" if len(scene) < 5 else "orders",
            created_at=float(number),
        )
        for number, (scene, (baseline, _, request)) in enumerate(SCENES.items())
    }

    def upstream(request: Any) -> Any:
        scene = request.json["messages"][-1]["content"]
        return reply_with(chat_document(SCENES[scene][1]))

    def judge(request: Any) -> Any:
        material = request.json["messages"][1]["content"]
        if "MUMBLE" in material:
            return reply_with(chat_document("hm"))
        if "FLIP" in material:
            verdict = {"verdict": "A", "scores": {"A": 7, "B": 5}}
            document = {"evidence": "e", "severity": "none", **verdict}
            return reply_with(chat_document(json.dumps(document)))
        return fair_judge(request)

    async def scenario() -> None:
        async with serving(upstream) as up, serving(judge) as asked:
            worker = build_worker(
                settings_for(up.url, asked.url),
                store,
                environ={"V7_KEY": "k", "JUDGE_KEY": "k"},
                metrics=WorkerMetrics(CollectorRegistry()),
                rubric="r",
                clock=lambda: 100.0,
            )
            stop = asyncio.Event()
            running = asyncio.create_task(worker.run(stop))
            async with asyncio.timeout(30):
                while await asyncio.to_thread(_pending, store, rollout):
                    assert not running.done(), running
                    await asyncio.sleep(0.01)
            stop.set()
            await asyncio.wait_for(running, 20)

    asyncio.run(scenario())
    return rollout, pairs


def _pending(store: Store, rollout: int) -> int:
    with store.read() as session:
        return load_funnel(session, rollout).get("mirror", {}).get("pending", 0)


def export(
    store: Store, rollout: int, kind: str = "preferences", *, now: float = 1000.0, **fields: Any
) -> Exported:
    """Export pairs of the rollout."""
    request = ExportRequest.model_validate({"kind": kind, "rollout": "r1", **fields})
    return export_pairs(store, request, ORIGIN, rollout_id=rollout, by="me", now=now)


def rows_in(store: Store, done: Exported) -> list[dict[str, Any]]:
    """The rows of a dataset."""
    return [json.loads(line) for line in read_lines(store, done.dataset.id or 0)]


def label(store: Store, rollout: int, pair: int, said: float) -> None:
    """Write what people said of a pair."""
    with store.write() as session:
        session.add(
            ReviewItemRow(
                rollout_id=rollout, pair_id=pair, route="bot", source="random", probability=0.5,
                left_arm="baseline", state="done", label=said, created_at=1.0, settled_at=2.0,
            )
        )  # fmt: skip


def test_only_clear_preferences_are_exported(
    store: Store, finished: tuple[int, dict[str, int]]
) -> None:
    """A win, a loss and a broken contract are; ties, inconsistent pairs and errors never."""
    rollout, pairs = finished
    done = export(store, rollout)
    found = {row["prompt"][-1]["content"]: row for row in rows_in(store, done)}
    assert set(found) == {"win", "loss", "broken"}
    assert found["win"]["chosen"] == [{"role": "assistant", "content": "GOOD words"}]
    assert found["win"]["rejected"] == [{"role": "assistant", "content": "plain words"}]
    assert found["loss"]["chosen"][0]["content"] == "GOOD words"
    assert found["loss"]["metadata"]["pair_id"] == pairs["loss"]
    assert found["broken"]["rejected"][0]["content"] == "a is one"
    assert found["broken"]["metadata"]["source"] == "check"
    assert found["broken"]["metadata"]["checks"] == ["format_valid"]
    skipped = done.dataset.manifest["skipped"]
    assert skipped == {
        "tie": 1, "inconsistent": 1, "judge_error": 1, "identical": 1, "both_failed": 1,
        "no_text": 1,
    }  # fmt: skip
    assert done.dataset.manifest["sources"] == {"check": 1, "judge": 2}


def test_what_a_failed_judge_said_is_no_preference(
    store: Store, finished: tuple[int, dict[str, int]]
) -> None:
    """From the last pass before a failed window to the first after it, only checks decide."""
    rollout, pairs = finished
    latest = {"win": 0, "loss": 0}
    with store.read() as session:
        for said in latest:
            query = select(JudgmentRow).where(JudgmentRow.pair_id == pairs[said])
            latest[said] = max(row.id or 0 for row in session.exec(query).all())
    trusted = min(latest, key=lambda said: latest[said])
    last = latest[trusted]
    windows = [(1, "pass", last), (2, "fail", last + 1), (3, "not_run", last + 2)]
    with store.write() as session:
        for number, result, after in windows:
            session.add(
                JudgeWindowRow(
                    rollout_id=rollout, window=number, claimed_by="w", lease_until=0.0,
                    opened_at=0.0, after_judgment=after, finished_at=1.0, result=result,
                )
            )  # fmt: skip
    done = export(store, rollout)
    found = {row["prompt"][-1]["content"] for row in rows_in(store, done)}
    assert found == {"broken", trusted}
    assert done.dataset.manifest["skipped"]["judge_quarantined"] == 1


def test_an_export_is_reproducible(store: Store, finished: tuple[int, dict[str, int]]) -> None:
    """The same pairs give the same bytes: their hash names the version, and nothing is added."""
    rollout, _ = finished
    first = export(store, rollout)
    text = "".join(read_lines(store, first.dataset.id or 0))
    assert hashlib.sha256(text.encode()).hexdigest() == first.dataset.hash
    again = export(store, rollout, now=2000.0)
    assert (again.created, again.dataset.id) == (False, first.dataset.id)
    with store.read() as session:
        assert session.exec(select(func.count()).select_from(DatasetRow)).one() == 1
        assert session.exec(select(func.count()).select_from(DatasetItemRow)).one() == 3


def test_a_new_label_is_a_new_version(store: Store, finished: tuple[int, dict[str, int]]) -> None:
    """People outrank the judge; the version before stays as it was, and the two can be compared."""
    rollout, pairs = finished
    first = export(store, rollout)
    before = "".join(read_lines(store, first.dataset.id or 0))
    label(store, rollout, pairs["win"], 0.0)  # the judge was wrong
    label(store, rollout, pairs["inconsistent"], 1.0)  # and here it did not know
    label(store, rollout, pairs["loss"], 0.5)  # here nobody is better
    second = export(store, rollout)
    assert (first.dataset.version, second.dataset.version) == (1, 2)
    found = {row["prompt"][-1]["content"]: row for row in rows_in(store, second)}
    assert set(found) == {"win", "inconsistent", "broken"}
    assert found["win"]["chosen"][0]["content"] == "plain words"
    assert found["win"]["metadata"]["source"] == "human"
    assert found["inconsistent"]["chosen"][0]["content"] == "two FLIP"
    assert "".join(read_lines(store, first.dataset.id or 0)) == before
    with store.read() as session:
        old, new = (
            find_dataset(session, "r1-preferences@1"),
            find_dataset(session, "r1-preferences"),
        )
        difference = compare(session, old, new)
        # The preference of "win" is turned round, which makes it another row.
        assert (difference.same, difference.changed) == (1, 0)
        assert (difference.added, difference.removed) == (2, 2)
        assert [each.version for each in list_datasets(session)] == [2, 1]
        by_hash = find_dataset(session, f"r1-preferences@{(old.hash or '')[:10]}")
        assert by_hash.version == 1
        with pytest.raises(NotFound, match="no dataset 'r1-preferences@3'"):
            find_dataset(session, "r1-preferences@3")


def test_deleting_a_capture_takes_its_rows_along(
    store: Store, finished: tuple[int, dict[str, int]]
) -> None:
    """What a user may have deleted is deleted from every dataset; a new export does not hold it."""
    rollout, pairs = finished
    first = export(store, rollout)
    capture = next(
        row["metadata"]["capture_id"]
        for row in rows_in(store, first)
        if row["metadata"]["pair_id"] == pairs["win"]
    )
    with store.write() as session:
        session.exec(delete(CaptureRow).where(col(CaptureRow.id) == capture))
    left = [row["prompt"][-1]["content"] for row in rows_in(store, first)]
    assert left == ["loss", "broken"]
    second = export(store, rollout)
    assert (second.created, second.dataset.items) == (True, 2)


def test_emptying_a_capture_takes_its_rows_along(
    store: Store, finished: tuple[int, dict[str, int]]
) -> None:
    """When retention takes the bodies, and the pair stays, no dataset keeps the text either."""
    rollout, pairs = finished
    first = export(store, rollout)
    with store.write() as session:
        pair = session.get(PairRow, pairs["loss"])
        assert pair
        remove_bodies(store, session, [pair.capture_id], now=200.0)
    assert [row["prompt"][-1]["content"] for row in rows_in(store, first)] == ["win", "broken"]


def test_without_text_there_is_nothing_to_export(
    store: Store, finished: tuple[int, dict[str, int]]
) -> None:
    """A capture that is not whole, or whose bodies are not to be kept, gives no row of any kind."""
    rollout, _ = finished
    with store.write() as session:
        emptied = []
        for capture in session.exec(select(CaptureRow)).all():
            if capture.key_hash == "user of win":
                capture.truncated = True
            elif capture.key_hash == "user of loss":
                capture.store_bodies = False  # another rollout's pair is not finished yet
            else:
                emptied.append(capture.id)
            session.add(capture)
        remove_bodies(store, session, emptied, now=200.0)
    for kind in ("preferences", "regressions", "evalset"):
        with pytest.raises(RequestError, match=r"no pair of 'r1' gives a row: no_text 9"):
            export(store, rollout, kind)
    with store.read() as session:
        assert session.exec(select(DatasetRow)).all() == []


def test_text_that_goes_while_it_is_exported_is_not_written(
    store: Store, finished: tuple[int, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading and writing a pair is deleted, and a capture emptied: neither stays."""
    rollout, pairs = finished
    read_pages = export_module.read_pages

    def interrupted(*arguments: Any) -> Iterator[Any]:
        for page in read_pages(*arguments):
            with store.write() as session:
                gone, emptied = (session.get(PairRow, pairs[name]) for name in ("win", "loss"))
                assert gone
                assert emptied
                capture = session.get(CaptureRow, emptied.capture_id)
                assert capture
                capture.request_body = capture.response_body = ""
                session.add(capture)
                session.delete(gone)
            yield page

    monkeypatch.setattr(export_module, "read_pages", interrupted)
    done = export(store, rollout)
    assert [row["prompt"][-1]["content"] for row in rows_in(store, done)] == ["broken"]
    assert done.dataset.manifest["skipped"]["deleted"] == 2


def test_regressions_and_eval_sets(store: Store, finished: tuple[int, dict[str, int]]) -> None:
    """Each failure is a case with its assertion; an eval set holds every question once."""
    rollout, _ = finished
    cases = rows_in(store, export(store, rollout, "regressions"))
    told = sorted(
        (case["messages"][-1]["content"], case["assertion"]["type"], case["assertion"].get("check"))
        for case in cases
    )
    assert told == [
        ("both broken", "check", "format_valid"),  # both arms, one case
        ("broken", "check", "format_valid"),
        ("empty", "check", "empty_rate"),
        ("loss", "judge", None),
    ]
    questions = rows_in(store, export(store, rollout, "evalset"))
    assert {case["messages"][-1]["content"] for case in questions} == set(SCENES)
    references = {
        case["messages"][-1]["content"]: case.get("reference_answer") for case in questions
    }
    assert references["win"] == "GOOD words"
    assert references["tie"] == "plain words"
    assert references["inconsistent"] is None
    assert references["broken"] == '{"a": 1}'


def test_filters(store: Store, finished: tuple[int, dict[str, int]]) -> None:
    """Segment, time, source, metric and the most rows narrow an export, and the manifest tells."""
    rollout, _ = finished

    def prompts(**fields: Any) -> set[str]:
        done = export(store, rollout, dataset=f"d{len(fields)}", **fields)
        assert done.dataset.manifest["request"]["kind"] == "preferences"
        return {row["prompt"][-1]["content"] for row in rows_in(store, done)}

    assert prompts(segments=["billing"]) == {"win", "loss"}
    assert prompts(since=1) == {"loss", "broken"}
    assert prompts(until=1) == {"win"}
    assert prompts(sources=["check"]) == {"broken"}
    assert prompts(metric="format_valid") == {"broken"}
    assert prompts(metric="judge_win_rate") == {"win", "loss"}
    assert prompts(max_items=1) == {"win"}
    assert prompts(max_per_segment=1) == {"win", "broken"}


def test_one_user_is_in_one_split(
    store: Store, rows: Any, finished: tuple[int, dict[str, int]]
) -> None:
    """Splits follow the user and agree over all kinds of exports."""
    rollout, _ = finished
    splits: dict[str, set[str]] = {}
    for kind in ("preferences", "regressions", "evalset"):
        for row in rows_in(store, export(store, rollout, kind)):
            splits.setdefault(row["metadata"]["group"], set()).add(row["metadata"]["split"])
    assert len(splits) == len(SCENES)
    assert all(len(each) == 1 for each in splits.values())
    done = export(store, rollout, "evalset")
    counted = done.dataset.manifest["splits"]
    for split, count in counted.items():
        assert len(list(read_lines(store, done.dataset.id or 0, split=split))) == count


def test_a_page_of_pairs_is_in_memory_at_a_time(
    store: Store, finished: tuple[int, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are written while pairs are still to be read, and the result is the same."""
    rollout, _ = finished
    whole = export(store, rollout, "evalset")
    monkeypatch.setattr(reading, "PAGE", 2)
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "INSERT INTO dataset_item" in statement:
            statements.append("write")
        elif statement.startswith("SELECT pair.id") and "response_body" in statement:
            statements.append("read")

    event.listen(store.engine, "before_cursor_execute", note)
    again = export(store, rollout, "evalset")
    assert statements == ["read", "write"] * 5
    assert (again.created, again.dataset.hash) == (False, whole.dataset.hash)


def test_an_export_that_breaks_leaves_nothing(
    store: Store, finished: tuple[int, dict[str, int]]
) -> None:
    """What could not be finished is not seen, and is removed; an abandoned one goes later."""
    rollout, _ = finished

    def refuse(*_: Any) -> None:
        raise RuntimeError("no")

    request = ExportRequest(kind="preferences", rollout="r1")
    with pytest.raises(RuntimeError):
        export_pairs(
            store, request, ORIGIN, rollout_id=rollout, by="me", now=1.0, committing=refuse
        )
    with store.write() as session:
        assert session.exec(select(DatasetRow)).all() == []
        session.add(
            DatasetRow(
                name="dead", kind="preferences", rollout_id=rollout, created_at=1.0, created_by="me"
            )
        )
    export(store, rollout, now=5000.0)
    with store.read() as session:
        names = [row.name for row in session.exec(select(DatasetRow)).all()]
    assert names == ["r1-preferences"]


def test_another_contract_makes_another_version_of_a_case(
    store: Store, finished: tuple[int, dict[str, int]]
) -> None:
    """A case keeps its id when what the route promises changes, and shows as changed."""
    from gateway.settings import Contract

    rollout, _ = finished
    request = ExportRequest(kind="regressions", rollout="r1")

    def run(origin: Origin) -> DatasetRow:
        done = export_pairs(store, request, origin, rollout_id=rollout, by="me", now=1.0)
        return done.dataset

    old, new = run(ORIGIN), run(replace(ORIGIN, contract=Contract(json_object=True)))
    with store.read() as session:
        difference = compare(session, old, new)
    assert (difference.changed, difference.added, difference.removed) == (4, 0, 0)
