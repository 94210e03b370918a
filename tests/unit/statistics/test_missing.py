"""Missing verdicts: what they could be worth, and whether they are missing alike."""

from __future__ import annotations

import json
from random import Random

import pytest
from scipy import stats

from rollout.statistics.missing import VerdictCounts, fisher_exact, missing_differently


def test_bounds_hold_whatever_the_missing_ones_are_worth() -> None:
    """With all lost and with all won; the truth of any filling lies between."""
    counts = VerdictCounts()
    for score in (1.0, 0.0, -1.0, 0.5, None, None):
        counts = counts.add(score)
    assert (counts.given, counts.missing, counts.share) == (4, 2, 2 / 6)
    assert counts.win_rate == pytest.approx((1 + 0.5 / 4) / 2)
    assert counts.bounds == (pytest.approx((1 - 1.5 / 6) / 2), pytest.approx((1 + 2.5 / 6) / 2))
    rng = Random(1)
    low, high = counts.bounds
    for _ in range(100):
        filled = (1 + (0.5 + rng.uniform(-1, 1) + rng.uniform(-1, 1)) / 6) / 2
        assert low <= filled <= high


def test_nothing_missing_leaves_nothing_open() -> None:
    """Both bounds are the win rate; without any pair there is no rate and no bound."""
    counts = VerdictCounts().add(1.0).add(0.0)
    assert counts.bounds == (counts.win_rate, counts.win_rate)
    assert (VerdictCounts().win_rate, VerdictCounts().bounds, VerdictCounts().share) == (
        None,
        None,
        0,
    )


def test_counts_go_to_json_and_back() -> None:
    """Stored evidence comes back as it was."""
    counts = VerdictCounts().add(0.5, longer=1).add(None, longer=-1).add(None, longer=1)
    assert VerdictCounts.from_json(json.loads(json.dumps(counts.to_json()))) == counts
    assert (counts.longer_given, counts.longer_missing, counts.shorter_missing) == (1, 1, 1)


def test_fisher_is_scipys() -> None:
    """Random tables, small and lopsided ones among them, agree with the reference."""
    rng = Random(2)
    for _ in range(300):
        a, b, c, d = (rng.randrange(0, rng.choice((3, 12, 300))) for _ in range(4))
        expected = stats.fisher_exact([[a, b], [c, d]]).pvalue
        assert fisher_exact(a, b, c, d) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def _counts(rng: Random, pairs: int, *, lost: float, lost_longer: float) -> VerdictCounts:
    counts = VerdictCounts()
    for _ in range(pairs):
        longer = rng.choice((1, -1))
        missing = rng.random() < (lost_longer if longer > 0 else lost)
        counts = counts.add(None if missing else 0.0, longer=longer)
    return counts


def test_what_is_missing_at_random_is_no_alarm() -> None:
    """Verdicts lost alike in both arms and all segments hardly ever look lost on purpose."""
    rng = Random(3)
    alarms = 0
    for _ in range(300):
        segments = {n: _counts(rng, 200, lost=0.03, lost_longer=0.03) for n in "abc"}
        overall = VerdictCounts(
            *(sum(each) for each in zip(*(s.to_json() for s in segments.values()), strict=True))
        )
        alarms += missing_differently(overall, segments) is not None
    assert alarms <= 3


def test_missing_by_arm_is_found() -> None:
    """Where long answers of the candidate are what the judge can't read, it is said."""
    counts = _counts(Random(4), 1500, lost=0.005, lost_longer=0.06)
    assert counts.share < 0.05
    said = missing_differently(counts, {"one": counts})
    assert said is not None
    assert "by arm" in said


def test_missing_by_segment_is_found() -> None:
    """One segment in which verdicts are missing far more often than elsewhere is named."""
    rng = Random(5)
    segments = {
        "billing": _counts(rng, 800, lost=0.01, lost_longer=0.01),
        "legal": _counts(rng, 80, lost=0.25, lost_longer=0.25),
    }
    overall = VerdictCounts(
        *(sum(each) for each in zip(*(s.to_json() for s in segments.values()), strict=True))
    )
    assert overall.share < 0.05
    said = missing_differently(overall, segments)
    assert said is not None
    assert "'legal'" in said
