"""Blind review through the API, over the real store on both databases."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from gateway.store import Store
from gateway.store.evidence import Evidence, load_evidence
from gateway.store.tables import RolloutRow
from rollout.review_queue import hand_out
from rollout.reviews import Reviewer, settle_items

SPEC: dict[str, Any] = {
    "kind": "Rollout",
    "name": "canary",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
    "analysis": {"metrics": [{"name": "judge_win_rate", "margin": 0.05, "min_human_labels": 60}]},
}
Headers = dict[str, str]


class Queue:
    """A rollout in shadow with items to review."""

    def __init__(
        self, client: TestClient, store: Store, tokens: dict[str, Headers], items: Any
    ) -> None:
        self.client, self.store, self.tokens, self.items = client, store, tokens, items
        answer = client.post("/api/v1/rollouts", json=SPEC, headers=tokens["operator"])
        assert answer.status_code == 201, answer.text

    def item(self, **values: Any) -> int:
        """Add a drawn pair."""
        return self.items.item(**values)

    def reviewer(self, name: str, *, expert: bool = False) -> Headers:
        """Another reviewer's headers."""
        answer = self.client.post(
            "/api/v1/tokens",
            json={"name": name, "role": "reviewer", "expert": expert},
            headers=self.tokens["admin"],
        )
        assert answer.status_code == 201, answer.text
        return {"authorization": f"Bearer {answer.json()['secret']}"}

    def next(self, headers: Headers) -> Any:
        """Take the next item."""
        answer = self.client.post("/api/v1/rollouts/canary/reviews/next", headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, item: int, verdict: str, headers: Headers, **more: Any) -> Any:
        """Give a verdict."""
        return self.client.post(
            f"/api/v1/reviews/{item}", json={"verdict": verdict, **more}, headers=headers
        )

    def settle(self, now: float = 1e12) -> int:
        """Settle what can't be corrected any more, as the leading control does."""
        return settle_items(self.store, now=now)

    def labels(self) -> list[Evidence]:
        """The labels that are evidence, once nothing can be corrected any more."""
        self.settle()
        with self.store.read() as session:
            return [f for _, f in load_evidence(session, 1, after=0) if f.kind == "label"]

    def get(self, path: str, role: str = "operator", **query: Any) -> Any:
        """Read something about the rollout's reviews."""
        answer = self.client.get(
            f"/api/v1/rollouts/canary/reviews{path}", params=query, headers=self.tokens[role]
        )
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def queue(
    client: TestClient, store: Store, tokens: dict[str, Headers], items_in: Callable[[Store], Any]
) -> Queue:
    """A rollout with an empty queue."""
    return Queue(client, store, tokens, items_in(store))


def test_a_verdict_becomes_evidence_with_all_that_the_fold_needs(queue: Queue, clock: Any) -> None:
    """Label, judge's score, probability and segment are one fact, and time and name are kept."""
    item = queue.item()
    handed = queue.next(queue.tokens["reviewer"])["item"]
    assert handed["id"] == item
    assert (handed["left"], handed["right"]) == ("GOOD answer", "plain answer")
    assert handed["conversation"] == [{"role": "user", "text": "help me"}]
    clock.now += 42
    posted = queue.post(
        item, "left", queue.tokens["reviewer"], categories=["accuracy"], note="knows it"
    )
    assert posted.json() == {
        "id": item, "state": "open", "settles_at": clock.now + 60, "known": False,
        "corrected": False, "counted": True,
    }  # fmt: skip
    assert queue.settle(clock.now + 59) == 0
    assert queue.settle(clock.now + 61) == 1
    (fact,) = queue.labels()
    assert (fact.segment, fact.at) == ("billing", clock.now + 61)
    assert fact.payload == {
        "item_id": item, "pair_id": 1, "label": 1.0, "judge": 1.0, "probability": 0.1,
        "source": "random", "reviewers": 1,
    }  # fmt: skip
    (record,) = queue.get("")["reviews"]
    assert (record["reviewer"], record["seconds"]) == ("a-reviewer", 42)
    assert (record["categories"], record["note"]) == (["accuracy"], "knows it")


@pytest.mark.parametrize(
    ("verdict", "left_arm", "label"),
    [
        ("left", "candidate", 1.0),
        ("left", "baseline", 0.0),
        ("right", "candidate", 0.0),
        ("right", "baseline", 1.0),
        ("tie", "baseline", 0.5),
        ("both_bad", "candidate", 0.5),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_labels_are_the_candidates_whichever_side_and_way_round(
    queue: Queue, verdict: str, left_arm: str, label: float, reverse: bool
) -> None:
    """Left and right are turned back into arms, for mirrors of either arm."""
    item = queue.item(left_arm=left_arm, reverse=reverse)
    shown = queue.next(queue.tokens["reviewer"])["item"]
    assert (shown["left"] == "GOOD answer") is (left_arm == "candidate")
    queue.post(item, verdict, queue.tokens["reviewer"])
    assert [fact.payload["label"] for fact in queue.labels()] == [label]


def test_nothing_tells_the_arms_apart(queue: Queue) -> None:
    """No name, id, time or token count of either arm is anywhere in what a reviewer gets."""
    calls = [{"id": "call_support-v7", "function": {"name": "refund", "arguments": '{"id":1}'}}]
    first = queue.item(
        mirrored=queue.items.chat("", tool_calls=calls, reasoning_content="as support-v7")
    )
    queue.item(left_arm="baseline", score=0.0, probability=0.6, source="disagreement")
    one = json.dumps(queue.next(queue.tokens["reviewer"]), ensure_ascii=False)
    queue.post(first, "skip", queue.tokens["reviewer"])
    other = json.dumps(queue.next(queue.tokens["reviewer"]), ensure_ascii=False)
    for text in (one, other):
        for word in ("v6", "v7", "baseline", "candidate", "lora", "fp_", "chatcmpl", "call_"):
            assert word not in text
        for word in ("0.1234", "5.4321", "probability", "source", "random", "disagree", "token"):
            assert word not in text
        assert set(json.loads(text)["item"]) == {
            "id", "segment", "conversation", "tools", "left", "right", "lease_ends_at",
        }  # fmt: skip
    assert json.loads(one)["item"]["left"] == '→ refund({"id":1})'


def test_leaders_who_settle_at_once_count_each_label_once(queue: Queue, store: Store) -> None:
    """A former leader that is not yet gone makes no second fact of an item."""
    for number in range(20):
        queue.post(queue.item(), "left" if number % 2 else "tie", queue.tokens["reviewer"])
    barrier = threading.Barrier(3)
    settled: list[int] = []

    def lead() -> None:
        barrier.wait(20)
        settled.append(sum(iter(lambda: settle_items(store, now=1e12, limit=3), 0)))

    threads = [threading.Thread(target=lead) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    queue.settle()
    assert len(queue.labels()) == 20
    assert len({fact.payload["item_id"] for fact in queue.labels()}) == 20


def test_an_item_is_before_one_reviewer_at_a_time(queue: Queue, clock: Any) -> None:
    """Asked again it is the same item; others get the next, or it when the lease has ended."""
    first, second = queue.item(), queue.item()
    ann, bob = queue.reviewer("ann"), queue.reviewer("bob")
    assert queue.next(ann)["item"]["id"] == first
    assert queue.next(ann)["item"]["id"] == first
    assert queue.next(bob)["item"]["id"] == second
    nobody = queue.next(queue.tokens["reviewer"])
    assert nobody["item"] is None
    assert "with others now" in nobody["reason"]
    assert nobody["open"] == 2
    queue.client.delete(f"/api/v1/reviews/{second}/lease", headers=bob)
    assert queue.next(queue.tokens["reviewer"])["item"]["id"] == second
    clock.now += 901
    assert queue.next(bob)["item"]["id"] == first


def test_reviewers_who_come_at_once_get_different_items(queue: Queue, store: Store) -> None:
    """Under a race each item goes to one reviewer, none to two."""
    for _ in range(12):
        queue.item()
    got: list[int] = []
    barrier = threading.Barrier(4)

    def take(name: str) -> None:
        barrier.wait(20)
        for number in range(3):
            reviewer = Reviewer(f"{name}-{number}", "reviewer")
            handed = hand_out(store, 1, reviewer, lease_s=60, now=1.0)
            if handed is not None:
                got.append(int(handed.item.id or 0))

    threads = [threading.Thread(target=take, args=(f"r{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(got) == len(set(got))
    assert len(got) >= 9  # one that met only rows that others held goes away without


def test_several_reviewers_settle_an_item_by_majority(queue: Queue) -> None:
    """Three are wanted: two for the candidate and one against make one label, once."""
    item = queue.item(wanted=3)
    people = [queue.reviewer(name) for name in ("ann", "bob", "cid")]
    for headers in people:
        assert queue.next(headers)["item"]["id"] == item
    for headers, verdict in zip(people, ("left", "right", "left"), strict=True):
        assert queue.labels() == []
        posted = queue.post(item, verdict, headers).json()
        assert posted["counted"]
    assert posted["settles_at"] is not None
    (fact,) = queue.labels()
    assert (fact.payload["label"], fact.payload["reviewers"]) == (1.0, 3)


def test_a_correction_supersedes_and_stays_on_record(queue: Queue) -> None:
    """Until the item is settled it counts instead; the same verdict again changes nothing."""
    item = queue.item(wanted=2)
    ann, bob = queue.reviewer("ann"), queue.reviewer("bob")
    queue.post(item, "left", ann)
    assert queue.post(item, "left", ann).json()["known"]
    corrected = queue.post(item, "right", ann).json()
    assert (corrected["corrected"], corrected["counted"]) == (True, True)
    queue.post(item, "right", bob)
    assert queue.post(item, "skip", bob).json()["settles_at"] is None
    queue.post(item, "right", bob, note="after all")
    assert [fact.payload["label"] for fact in queue.labels()] == [0.0]
    records = queue.get("")["reviews"]
    assert [(r["reviewer"], r["verdict"], r["superseded"]) for r in records] == [
        ("bob", "right", False),
        ("bob", "skip", True),
        ("bob", "right", True),
        ("ann", "right", False),
        ("ann", "left", True),
    ]
    page = queue.get("", limit=4)
    assert [r["verdict"] for r in queue.get("", cursor=page["next_cursor"])["reviews"]] == ["left"]


def test_evidence_does_not_change_after_an_item_is_settled(queue: Queue) -> None:
    """A late correction and a late second opinion are kept, and say that they don't count."""
    item = queue.item()
    ann, bob = queue.reviewer("ann"), queue.reviewer("bob")
    queue.post(item, "left", ann)
    assert queue.settle() == 1
    late = queue.post(item, "right", ann).json()
    assert (late["corrected"], late["counted"], late["state"]) == (True, False, "done")
    assert queue.post(item, "tie", bob).json()["counted"] is False
    assert [fact.payload["label"] for fact in queue.labels()] == [1.0]
    mine = queue.client.get("/api/v1/rollouts/canary/reviews/mine", headers=ann).json()["reviews"]
    assert [(each["id"], each["verdict"]) for each in mine] == [(item, "right")]


def test_skipped_items_go_to_others_and_end_without_a_label(queue: Queue) -> None:
    """A skip takes nobody's place; with the third the item is closed and is no evidence."""
    item = queue.item()
    for number in range(3):
        headers = queue.reviewer(f"r{number}")
        assert queue.next(headers)["item"]["id"] == item
        posted = queue.post(item, "skip", headers).json()
        assert queue.next(headers)["item"] is None
    assert posted["settles_at"] is not None
    assert queue.next(queue.reviewer("r3"))["item"] is None
    assert queue.labels() == []
    assert queue.get("/status")["items"]["done"] == 1


def test_only_experts_review_what_is_for_experts(queue: Queue) -> None:
    """Others are told so, and can't say anything even where they know the item."""
    item = queue.item(expert_only=True)
    told = queue.next(queue.tokens["reviewer"])
    assert told["item"] is None
    assert "wait for an expert" in told["reason"]
    refused = queue.post(item, "left", queue.tokens["reviewer"])
    assert (refused.status_code, "for experts" in refused.json()["detail"]) == (403, True)
    expert = queue.reviewer("dr-x", expert=True)
    assert queue.next(expert)["item"]["id"] == item
    queue.post(item, "left", expert)
    assert [record["expert"] for record in queue.get("")["reviews"]] == [True]


def test_a_viewer_is_no_expert(queue: Queue) -> None:
    """An expert's token is a reviewer's or more, and the error names the field."""
    answer = queue.client.post(
        "/api/v1/tokens",
        json={"name": "x", "role": "viewer", "expert": True},
        headers=queue.tokens["admin"],
    )
    assert (answer.status_code, answer.json()["field"]) == (422, "expert")


def test_items_of_a_rollout_that_is_over_are_withdrawn(queue: Queue, store: Store) -> None:
    """Nobody is asked any more, and a verdict that comes late is kept and is no evidence."""
    first, second = queue.item(), queue.item()
    assert queue.next(queue.tokens["reviewer"])["item"]["id"] == first
    with store.write() as session:
        row = session.get(RolloutRow, 1)
        assert row is not None
        row.phase = "aborted"
    assert queue.post(first, "left", queue.tokens["reviewer"]).json()["state"] == "open"
    told = queue.next(queue.tokens["reviewer"])
    assert (told["item"], "is over" in told["reason"]) == (None, True)
    assert queue.post(second, "left", queue.tokens["reviewer"]).json()["counted"] is False
    assert queue.labels() == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"verdict": "middle"}, "verdict"),
        ({}, "verdict"),
        ({"verdict": "left", "categories": ["charm"]}, "categories.0"),
        ({"verdict": "left", "label": 1}, "label"),
    ],
)
def test_what_is_no_verdict_is_refused_by_name(queue: Queue, body: Any, field: str) -> None:
    """The problem names the field; nothing is kept."""
    item = queue.item()
    answer = queue.client.post(
        f"/api/v1/reviews/{item}", json=body, headers=queue.tokens["reviewer"]
    )
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert queue.get("")["reviews"] == []


def test_roles_and_names_are_checked(queue: Queue) -> None:
    """A viewer reviews nothing, a reviewer does not see sides, unknown items and names are 404."""
    item = queue.item()
    post: Callable[..., Any] = queue.client.post
    viewer, reviewer = queue.tokens["viewer"], queue.tokens["reviewer"]
    assert post("/api/v1/rollouts/canary/reviews/next", headers=viewer).status_code == 403
    assert queue.post(item, "left", viewer).status_code == 403
    unblinded = queue.client.get("/api/v1/rollouts/canary/reviews", headers=reviewer)
    assert unblinded.status_code == 403
    assert queue.post(999, "left", reviewer).status_code == 404
    assert post("/api/v1/rollouts/nope/reviews/next", headers=reviewer).status_code == 404
