"""Properties of blind review: sides say nothing, and probabilities keep what they promise."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.settings_review import LEAST_PROBABILITY, RouteReview
from rollout.labelling import VERDICTS, label_of, majority, settled
from shadow.drawing import Askable, Pool, draw

_TURNED = {"left": "right", "right": "left"}
_OTHER = {"baseline": "candidate", "candidate": "baseline"}

verdicts = st.sampled_from(VERDICTS)
arms = st.sampled_from(("baseline", "candidate"))
labels = st.lists(st.sampled_from((0.0, 0.5, 1.0)), min_size=1, max_size=9)


@given(verdicts, arms)
def test_swapping_the_sides_changes_no_label(verdict: str, left_arm: str) -> None:
    """The same opinion of the same arms is the same label, wherever each stood."""
    turned = _TURNED.get(verdict, verdict)
    assert label_of(verdict, left_arm) == label_of(turned, _OTHER[left_arm])


@given(verdicts, arms)
def test_swapping_the_arms_turns_the_label_about(verdict: str, left_arm: str) -> None:
    """The same side of exchanged arms speaks for the other one."""
    label, other = label_of(verdict, left_arm), label_of(verdict, _OTHER[left_arm])
    assert (label is None) is (other is None)
    if label is not None and other is not None:
        assert label == 1 - other


@given(labels)
def test_the_majority_is_symmetric_and_a_label(given_labels: list[float]) -> None:
    """With all labels turned about, so is what comes out, and in any order."""
    came = majority(given_labels)
    assert came in (0.0, 0.5, 1.0)
    assert majority([1 - each for each in given_labels]) == 1 - came
    assert majority(sorted(given_labels)) == came
    assert settled(list(given_labels), len(given_labels)) is not None


@given(
    probability=st.floats(LEAST_PROBABILITY, 1),
    pool=st.builds(Pool, st.integers(0, 4000), st.integers(0, 4000), st.integers(0, 300)),
    salt=st.text(min_size=1, max_size=40),
    disagreement=st.booleans(),
    score=st.floats(0, 1),
)
def test_every_draw_has_a_probability_that_the_statistics_accept(
    probability: float, pool: Pool, salt: str, disagreement: bool, score: float
) -> None:
    """At least p, at most 1, no less where judges disagree; what is certain is drawn."""
    rules = RouteReview(probability=probability, weekly_quota=200)
    pair = Askable("bot", rules, salt, disagreement, score)
    drawn = draw(pair, pool)
    if pool.used >= 200:
        assert drawn is None
    if drawn is None:
        assert pool.used > 100
        return
    assert probability <= drawn.probability <= 1
    assert disagreement or drawn.source != "disagreement"
    assert drawn.source is not None or drawn.probability < 1
    assert 0 <= drawn.position < 1
    later: Any = pool.after(pair, drawn)
    assert later.used == pool.used + (drawn.source is not None)
