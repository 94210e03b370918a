"""What may be said about a candidate on the strength of people's labels."""

from __future__ import annotations

import pytest

from rollout.claims import claim, figures, lower_bound, report
from rollout.statistics.labels import LabelState

ALPHA = 0.05


def state(*labels: float, judged: int = 400, score: float = 1.0) -> LabelState:
    """Labels at one probability, beside a judge that always says the same."""
    known = LabelState.start(margin=0.05)
    for _ in range(judged):
        known = known.judged(score)
    for label in labels:
        known = known.labelled(label, score, 0.2)
    return known


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ((), "no blind label yet"),
        ((1.0,), "about 59 more would decide"),
        ((1.0, 0.5, 1.0) * 40, "better than the baseline according to your reviewers"),
        ((1.0, 0.0, 0.5) * 250, "at least as good as the baseline (within 0.05) according to"),
        ((1.0, 0.0, 0.5) * 22, "more would decide, if they are like these"),
        ((0.0, 0.5, 0.0) * 30, "more labels like these would not show it"),
    ],
    ids=["none", "one", "better", "as good", "not yet", "worse"],
)
def test_the_claim_says_no_more_than_the_labels(labels: tuple[float, ...], said: str) -> None:
    """Each state of the evidence has its sentence, with bound and count."""
    known = state(*labels)
    text = claim(known, required=60, alpha=ALPHA)
    assert said in text
    if labels:
        low = lower_bound(known, ALPHA)
        low = max(low, 0.45) if "as good as the baseline (within" in text else low
        assert f"lower bound {low:.3f}, from {len(labels)} blind label" in text


def test_labels_that_the_spec_asks_for_are_waited_for() -> None:
    """A proof from fewer than that is not claimed, and the rest is asked for."""
    known = state(*(1.0,) * 40)
    proven = claim(known, required=40, alpha=ALPHA)
    assert "at least as good as the baseline (within 0.05)" in proven
    assert "lower bound 0.450, from 40 blind labels" in proven
    assert "about 20 more would decide" in claim(known, required=60, alpha=ALPHA)


def test_few_labels_say_that_they_are_few() -> None:
    """Where the spec asks for none, nothing is made up of a single label."""
    text = claim(state(1.0), required=0, alpha=ALPHA)
    assert "too few to say how many more would decide" in text


def test_looks_and_labels_bound_together() -> None:
    """Before 60 labels the bound is that of all times; later that of a look may be better."""
    few, many = state(*(1.0, 0.5) * 20), state(*(1.0, 0.5, 1.0) * 40)
    assert lower_bound(few, ALPHA) == few.bounds(ALPHA)[0]
    assert lower_bound(many, ALPHA) == many.looks_bound(ALPHA / 2)
    assert many.bounds(ALPHA)[0] < lower_bound(many, ALPHA) < 0.83


def test_figures_beside_are_of_judge_and_people_alone() -> None:
    """The judge alone is sure of 1, people alone are at their mean, whatever the judge says."""
    known = state(*(1.0, 0.0) * 30)
    alone = figures(known, ALPHA)
    assert (alone["judge_estimate"], alone["judge_low"]) == (1.0, 1.0)
    assert alone["people_estimate"] == pytest.approx(0.5)
    assert alone["people_low"] is not None
    assert 0.3 < alone["people_low"] < 0.5
    told = report(known, required=60, alpha=ALPHA)
    assert told["fixed_low"] == pytest.approx(alone["people_low"])
    assert set(figures(state(judged=0), ALPHA).values()) == {None}
