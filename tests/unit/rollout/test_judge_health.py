"""A judge on trial: what its verdicts count for before, between and after its control pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.split import Split
from gateway.store.evidence import Evidence
from rollout.evidence import OVERALL, EvidenceState
from rollout.judge_health import JudgeHealth
from rollout.moves import resumed
from rollout.policy import Decision, decide
from rollout.records import Paused, Record
from rollout.states import Phase
from rollout.verdicts import verdicts

NOW = 10_000.0
Make = Callable[..., Any]


def window(number: int, result: str = "pass", *, limit: int = 400, at: float = NOW) -> Evidence:
    """The end of a window."""
    payload = {"window": number, "result": result, "limit": limit, "reason": "it chose “choose me”"}
    return Evidence("judge_health", at, payload)


def watched(fact: Evidence) -> Evidence:
    """The pair as a worker writes it that examines its judge."""
    return replace(fact, payload={**fact.payload, "watched": True})


def decided(c: Any) -> Decision:
    """The decision at this moment."""
    return decide(c.evidence, c.spec, c.status, NOW)


def wins(c: Any, count: int, score: float = 1.0) -> list[Evidence]:
    """Pairs that the judge decides."""
    word = {1.0: "win", 0.0: "tie", -1.0: "loss"}[score]
    return [watched(c.pair(judge=word, score=score)) for _ in range(count)]


def paired(state: EvidenceState) -> Any:
    """The judge's pairs over all segments."""
    return state.metrics["judge_win_rate"].paired[OVERALL]


def test_a_judge_that_nobody_examines_counts_as_before(case: Make) -> None:
    """Without any word of its health the judge's verdicts count, and nothing waits."""
    c = case()
    c.prove()
    assert c.evidence.judge_health is None
    assert c.evidence.trusted is None
    assert decided(c).action == "advance"


def test_nothing_widens_before_the_first_pass(case: Make) -> None:
    """Verdicts of an examined judge prove nothing until it has passed; then they do."""
    c = case()
    c.add(*wins(c, 200, 0.0))
    before = decided(c)
    assert before.action == "hold"
    assert "judge has not passed its first control pairs" in before.reason
    assert "judge_win_rate not proven" in before.reason
    c.add(window(1))
    assert decided(c).action == "advance"


def test_a_failed_window_takes_its_verdicts_back_and_pauses(case: Make) -> None:
    """The verdicts since the last pass are gone, those before stay, and the reason is typed."""
    c = case()
    c.add(*wins(c, 120, 0.0), window(1))
    confirmed = paired(c.evidence)
    c.add(*wins(c, 50), window(2, "fail"))
    assert paired(c.evidence) == confirmed
    assert c.evidence.judge_health.dropped == 50
    decision = decided(c)
    assert (decision.action, decision.pause_reason) == ("pause", "judge_quarantined")
    assert "it chose “choose me”" in decision.reason


def test_a_quarantined_judge_may_hold_by_the_spec(case: Make) -> None:
    """then: hold waits for the judge to pass again, and never widens meanwhile."""
    c = case(on_evaluator_error={"then": "hold"})
    c.add(*wins(c, 200, 0.0), window(1), window(2, "fail"))
    assert (decided(c).action, decided(c).pause_reason) == ("hold", None)
    c.add(window(3))
    assert decided(c).action == "advance"


def test_a_signal_of_the_judge_stops_nothing(case: Make) -> None:
    """Where the judge only informs, its quarantine informs, too."""
    analysis = case().spec.to_document()["analysis"]
    metrics = [dict(each) for each in analysis["metrics"]]
    metrics[0]["role"] = "signal"
    c = case(analysis={**analysis, "metrics": metrics})
    c.add(*wins(c, 200), window(1, "fail"))
    assert decided(c).action == "advance"


def test_verdicts_in_quarantine_are_missing_and_not_errors(case: Make) -> None:
    """They are no ties, no losses and no judge errors; checks on the same pairs count."""
    c = case()
    c.add(*wins(c, 30, 0.0), window(1), window(2, "fail"))
    before = c.evidence
    c.add(*wins(c, 20, -1.0), *(watched(c.pair(kind="noise", judge="win", score=1.0)),))
    assert paired(c.evidence) == paired(before)
    assert c.evidence.metrics["judge_win_rate"].noise == before.metrics["judge_win_rate"].noise
    assert c.evidence.recent == before.recent
    assert c.evidence.consecutive_judge_errors == 0
    assert c.evidence.judge_health.dropped == 21
    assert c.evidence.metrics["format_valid"].paired[OVERALL].n == 50
    c.add(window(3), *wins(c, 5, 0.0))
    assert paired(c.evidence).n == 35


def test_scores_that_no_judge_gave_are_never_quarantined(case: Make) -> None:
    """A pair decided by a check or by equal answers is no verdict, and stays."""
    c = case()
    c.add(window(1, "fail"), *(watched(c.pair(judge="not_needed", score=-1.0)) for _ in range(7)))
    assert paired(c.evidence).n == 7
    c.add(window(2), *wins(c, 3), watched(c.pair(judge="not_needed", score=0.0)))
    c.add(window(3, "fail"))
    assert paired(c.evidence).n == 8


def test_verdicts_beyond_what_a_pass_is_good_for_hold(case: Make) -> None:
    """When nobody examines the judge any more, its new verdicts widen nothing."""
    c = case()
    c.add(*wins(c, 200, 0.0), window(1, limit=20), *wins(c, 21, 0.0))
    decision = decided(c)
    assert decision.action == "hold"
    assert "21 verdicts since the judge last passed" in decision.reason


def test_a_proof_on_trial_does_not_widen(case: Make) -> None:
    """The proof has to stand without the verdicts of the window that is still open."""
    c = case()
    c.add(*wins(c, 10, 0.0), window(1), *wins(c, 190))
    assert paired(c.evidence).log_e_non_inferior > 5
    decision = decided(c)
    assert decision.action == "hold"
    assert "judge_win_rate not proven" in decision.reason
    (said,) = [v for v in verdicts(c.evidence, c.spec) if v.metric == "judge_win_rate"]
    assert said.verdict == "inconclusive"


def test_harm_acts_on_trial_and_is_forgotten_with_the_window(case: Make) -> None:
    """A rollback errs on the safe side; what a failed window said against it is taken back."""
    c = case()
    c.add(*wins(c, 30, 0.0), window(1))
    before = c.evidence.log_harm
    c.add(*wins(c, 60, -1.0))
    assert decided(c).action == "rollback"
    c.add(window(2, "fail"))
    assert decided(c).action == "pause"
    assert c.evidence.log_harm == pytest.approx(before, abs=0.5)


def test_a_judge_that_tells_the_baseline_from_itself_is_distrusted(case: Make) -> None:
    """A/A verdicts off one half pause as an evaluator's error; losses then roll nothing back."""
    c = case()
    c.add(*wins(c, 10, 0.0), window(1))
    c.add(*(watched(c.pair(kind="noise", judge="loss", score=-1.0)) for _ in range(30)))
    c.add(*wins(c, 60, -1.0))
    decision = decided(c)
    assert (decision.action, decision.pause_reason) == ("pause", "evaluator_error")
    assert "baseline against baseline differs in judge_win_rate" in decision.reason
    c.add(window(2, "fail"))
    assert c.evidence.metrics["judge_win_rate"].noise is None
    assert decided(c).pause_reason == "judge_quarantined"


def test_capital_keeps_what_the_checks_have_earned(case: Make) -> None:
    """Quarantine takes the judge's bets back, and leaves those on the format alone."""
    c = case()
    c.add(*wins(c, 30, 0.0), window(1))
    broken = {"format_valid": [0, 1]}
    facts = [watched(c.pair(judge="win", score=1.0, failures=broken)) for _ in range(8)]
    c.add(*facts)
    with_wins = c.evidence.log_harm
    c.add(window(2, "fail"))
    assert c.evidence.log_harm != with_wins
    assert c.evidence.log_harm > 2


@pytest.mark.parametrize(
    "payload",
    [{}, {"window": 1, "result": "maybe"}, {"window": 1, "result": "fail"}, {"result": "pass"}],
)
def test_a_window_that_cannot_be_read_is_missing_data(case: Make, payload: Any) -> None:
    """A broken fact neither passes nor fails the judge."""
    c = case()
    c.add(*wins(c, 3), Evidence("judge_health", NOW, payload))
    assert c.evidence.unreadable == 1
    assert c.evidence.judge_health.state == "unexamined"


def test_an_old_window_changes_nothing(case: Make) -> None:
    """A window that is told twice, or late, is told once."""
    c = case()
    c.add(window(2, "fail"), window(2), window(1))
    assert c.evidence.judge_health.quarantined
    assert (c.evidence.judge_health.passes, c.evidence.judge_health.fails) == (0, 1)


def test_resuming_forgives_the_trusted_evidence_alike(case: Make) -> None:
    """Harm that a person has forgiven does not come back with a failed window."""
    c = case()
    c.add(*wins(c, 10, 0.0), window(1))
    c.add(*(watched(c.pair(judge="loss", score=-1.0, failures={"format_valid": [0, 1]}))
            for _ in range(20)))  # fmt: skip
    assert c.evidence.trusted.log_harm > 3
    record = Record(
        id=1, name="n", generation=1, route="bot", spec=c.spec, spec_hash="h",
        candidate_revision="c", phase=Phase.PAUSED, step_index=0,
        paused=Paused("failure", "m", Phase.SHADOWING, NOW), revision=1, evidence=c.evidence,
        epoch=0, salt="s", approved=frozenset(), baseline="old", baseline_revision="b", note="",
        step_started_at=NOW, created_at=NOW, updated_at=NOW, finished_at=None, leader_token=0,
    )  # fmt: skip
    split = Split(route="bot", revision=0, baseline="old")
    again, _ = resumed(record, split, approved=False, now=NOW, reason="r")
    assert again.evidence.trusted is not None
    assert again.evidence.trusted.log_harm == 0.0
    assert again.evidence.trusted.recent == ""


def test_an_old_state_without_health_still_loads(case: Make) -> None:
    """A document that an older version wrote has no word of the judge's health."""
    c = case()
    c.prove()
    document = json.loads(json.dumps(c.evidence.to_json()))
    del document["judge_health"], document["trusted"]
    assert EvidenceState.from_json(document) == c.evidence


def label(pair_id: int) -> Evidence:
    """A person's verdict on a pair of which the judge had said that the candidate is better."""
    payload = {"pair_id": pair_id, "label": 0.0, "judge": 1.0, "probability": 0.5}
    return Evidence("label", NOW, payload)


def test_labels_of_lost_verdicts_count_without_the_judges_word(case: Make) -> None:
    """Whenever the label comes: in the window, in quarantine, or long after; others keep it."""
    c = case()
    c.add(window(1))
    c.add(*wins(c, 1), window(2), *(c.pair(judge="unjudgeable", score=None) for _ in range(30)))
    first, lost = 2, c.evidence.last_seq + 1
    c.add(*wins(c, 1))
    c.add(label(first), label(lost), window(3, "fail"))

    assert c.evidence.metrics["judge_win_rate"].labels.n == 2
    assert c.evidence.judge_health.counts_for(first, confirmed=True)
    assert not c.evidence.judge_health.counts_for(lost, confirmed=False)
    c.add(window(4))
    assert not c.evidence.judge_health.counts_for(lost, confirmed=False)
    before = c.evidence.metrics["judge_win_rate"].labels
    c.add(label(lost))
    assert c.evidence.metrics["judge_win_rate"].labels == before.labelled(0.0, None, 0.5)
    before = c.evidence.metrics["judge_win_rate"].labels
    c.add(label(first))
    assert c.evidence.metrics["judge_win_rate"].labels == before.labelled(0.0, 1.0, 0.5)


def test_spans_of_lost_pairs_stay_few() -> None:
    """Many failed windows far apart are kept as fifty spans that cover them all."""
    health = JudgeHealth()
    for number in range(200):
        health = health.with_verdict(number * 1000).after(window(2 * number + 1, "fail"))
        health = health.after(window(2 * number + 2))
    assert len(health.lost) == 50
    assert not any(health.counts_for(n * 1000, confirmed=False) for n in range(200))
    assert health.counts_for(500_000_000, confirmed=True)


def test_health_counts_windows() -> None:
    """Passes and failures are counted, and the last reason is kept only while it holds."""
    health = JudgeHealth()
    for number, result in enumerate(("pass", "fail", "fail", "pass"), 1):
        health = health.after(window(number, result))
    assert (health.passes, health.fails, health.window, health.reason) == (2, 2, 4, "")
