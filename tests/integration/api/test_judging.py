"""The report on a rollout's judge, through the admin API and the command line, on both stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from gateway.store import Store
from gateway.store.evidence import Evidence, append_evidence
from gateway.store.tables import JudgmentRow
from rollout.service import Actor, RolloutService

SPEC: dict[str, Any] = {
    "kind": "Rollout",
    "name": "v7",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
    "analysis": {"metrics": [{"name": "judge_win_rate", "margin": 0.05}]},
}
SIDES = {"win": ("B", "A"), "loss": ("A", "B"), "inconsistent": ("A", "A"), "tie": ("tie", "tie")}


class Judgments:
    """Writes what a worker would have written of judged pairs."""

    def __init__(self, store: Store, rollout_id: int) -> None:
        self.store = store
        self.rollout_id = rollout_id
        self.facts: list[Evidence] = []
        self.rows: list[JudgmentRow] = []

    def pair(
        self,
        number: int,
        *,
        first: str | None,
        final: str | None = None,
        asked: str = "always",
        probability: float = 1.0,
        segment: str = "billing",
        tokens: tuple[int, int] = (100, 120),
        score: float | None = 0.0,
        judge: str = "tie",
    ) -> None:
        """Add one pair: what each stage said of it, in both orders."""
        payload = {
            "pair_id": number,
            "capture_id": f"c{number}",
            "cluster": None,
            "judge": judge,
            "score": score,
            "failures": {},
            "values": {"output_tokens": list(tokens)},
        }
        self.facts.append(Evidence("pair", 1000.0 + number, payload, segment))
        for stage, said in (("first", first), ("final", final)):
            for order, side in zip(("AB", "BA"), SIDES.get(said or "", ()), strict=False):
                scores = {"A": 8, "B": 6} if order == "AB" else {"A": 6, "B": 8}
                self.rows.append(
                    JudgmentRow(
                        pair_id=number, rollout_id=self.rollout_id, order=order, verdict=side,
                        scores=scores, model=f"{stage}-1", created_at=0.0, stage=stage,
                        asked="always" if stage == "first" else asked,
                        probability=1.0 if stage == "first" else probability,
                        rubric="built-in", rubric_hash="f" * 64,
                    )
                )  # fmt: skip

    def write(self) -> None:
        """Write all of it."""
        with self.store.write() as session:
            session.add_all(self.rows)
            append_evidence(self.store, session, self.rollout_id, self.facts)


@pytest.fixture
def judged(store: Store, service: RolloutService) -> Judgments:
    """A rollout with 100 pairs that two stages judged."""
    record = service.apply(SPEC, actor=Actor("a", "operator"), start=True).record
    written = Judgments(store, record.id)
    for n in range(1, 61):
        written.pair(n, first="win", score=1.0, judge="win")
    for n in range(61, 81):  # audited: the stages agree on 15 of 20
        final = "win" if n <= 75 else "loss"
        score = 1.0 if n <= 75 else -1.0
        written.pair(
            n, first="win", final=final, asked="audit", probability=0.1, score=score, judge=final,
            segment="legal",
        )  # fmt: skip
    for n in range(81, 101):
        written.pair(
            n, first="inconsistent", final="tie", asked="inconsistent", tokens=(100, 60 + n)
        )
    written.write()
    return written


def test_the_report_tells_of_bias_stages_trends_and_length(
    client: TestClient, judged: Judgments
) -> None:
    """Each figure follows from the pairs that were written."""
    answer = client.get("/api/v1/rollouts/v7/judging")
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert report["pairs"] == 100
    overall = {p["stage"]: p for p in report["position"] if p["segment"] is None}
    assert overall["first"]["pairs"] == 100
    assert overall["first"]["bias"] == pytest.approx(0.2)
    assert overall["first"]["inconsistent"] == pytest.approx(0.2)
    assert (overall["final"]["pairs"], overall["final"]["bias"]) == (40, 0.0)
    legal = next(p for p in report["position"] if (p["stage"], p["segment"]) == ("first", "legal"))
    assert (legal["pairs"], legal["bias"]) == (20, 0.0)
    stages = report["stages"]
    assert stages["asked"] == {
        "first": {"always": 100},
        "final": {"audit": 20, "inconsistent": 20},
    }
    assert stages["models"] == {"first": {"first-1": 200}, "final": {"final-1": 80}}
    agreement = stages["agreement"]
    assert (agreement["audited"], agreement["agreed"]) == (20, 0.75)
    assert agreement["low"] < 0.75 < agreement["high"]
    # 15 of 20 audited pairs stand for ten each, the 20 escalated ones (a tie of both) for one.
    assert agreement["overall"] == pytest.approx((15 * 10 + 20) / (20 * 10 + 20))
    points = [p for p in report["scores"] if (p["stage"], p["segment"]) == ("first", None)]
    assert len(points) == 12
    assert {(p["baseline"], p["candidate"]) for p in points} == {(8.0, 6.0)}
    assert sum(p["pairs"] for p in points) == 100
    length = report["length_controlled"]
    assert length["pairs"] == 100
    assert length["raw"] == pytest.approx((60 + 15 + 10) / 100)
    assert report["rubrics"] == [{"rubric": "built-in", "hash": "f" * 64, "judgments": 280}]


def test_the_latest_pairs_can_be_asked_for(client: TestClient, judged: Judgments) -> None:
    """`limit` takes the newest; nothing older counts."""
    report = client.get("/api/v1/rollouts/v7/judging", params={"limit": 20}).json()
    assert report["pairs"] == 20
    assert report["stages"]["asked"]["final"] == {"inconsistent": 20}
    assert report["stages"]["agreement"]["agreed"] is None
    assert report["stages"]["agreement"]["overall"] is None
    assert report["length_controlled"] is None


def test_before_any_pair_the_report_is_empty(client: TestClient) -> None:
    """No pair, no figure, and no error."""
    client.post("/api/v1/rollouts", json=SPEC)
    report = client.get("/api/v1/rollouts/v7/judging").json()
    assert (report["pairs"], report["position"], report["scores"]) == (0, [], [])
    assert report["missing"]["counts"] == [
        {"segment": None, "given": 0, "missing": 0, "share": 0.0, "win_rate": None,
         "worst": None, "best": None}
    ]  # fmt: skip
    assert report["missing"]["inconclusive"] is None
    assert client.get("/api/v1/rollouts/none/judging").status_code == 404


def test_viewers_may_look(
    serve: Callable[..., TestClient], tokens: dict[str, dict[str, str]]
) -> None:
    """The least of roles is enough, and none is not."""
    client = serve()
    path = "/api/v1/rollouts/v7/judging"
    assert client.get(path, headers=tokens["viewer"]).status_code == 404
    assert client.get(path).status_code == 401


def test_the_command_prints_it(control: Any, coalmine: Callable[..., Any]) -> None:
    """For people as tables, for programs as the API's document."""
    record = control.service.apply(SPEC, actor=Actor("a", "operator"), start=True).record
    written = Judgments(control.store, record.id)
    for n in range(1, 41):
        written.pair(n, first="win" if n % 2 else "inconsistent", score=1.0, judge="win")
    written.write()
    shown = coalmine("rollout", "judging", "v7", "--url", control.url)
    assert shown.code == 0, shown.err
    assert "Position, over pairs judged in both orders" in shown.out
    assert "Who judged" in shown.out
    assert "+50.0%" in shown.out
    document = json.loads(coalmine("rollout", "judging", "v7", "--url", control.url, "--json").out)
    assert document["pairs"] == 40
