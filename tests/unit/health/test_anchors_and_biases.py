"""Anchors: agreement and drift. Biases: against values worked out by hand or by scipy."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from scipy.stats import binom, spearmanr

from gateway.errors import SettingsError
from shadow.health.anchors import agreement, agrees, has_drifted, read_anchors
from shadow.health.biases import JudgedPair, measure, rank_correlation


def test_the_built_in_anchors_are_whole() -> None:
    """Enough pairs, each with two answers, and a hash that names them."""
    found = read_anchors(None)
    assert len(found.anchors) >= 12
    assert len(found.digest) == 64
    pair = found.anchors[0].pair()
    assert pair.baseline is not None
    assert pair.baseline.answer.text == found.anchors[0].first


def test_identity_changes_with_judge_and_with_set(tmp_path: Path) -> None:
    """Another judge, or another anchor, has first verdicts of its own; order makes no set."""
    lines = ['{"id": "a", "request": "q", "first": "x", "second": "y"}',
             '{"id": "b", "request": "q", "first": "x", "second": "z"}']  # fmt: skip
    path = tmp_path / "anchors.jsonl"
    identities = set()
    for text in ("\n".join(lines), "\n\n".join(reversed(lines)), lines[0]):
        path.write_text(text)
        identities.add(read_anchors(path).identity("judge"))
    assert len(identities) == 2
    assert read_anchors(path).identity("other") not in identities


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no anchor"),
        ('{"id": "a"}', "line 1 is no anchor"),
        ("not json", "line 1 is no anchor"),
        ('{"id": "a", "request": "q", "first": "x", "second": "y"}\n' * 2, "line 2 repeats the id"),
        ('{"id": "a", "request": "q", "first": "x", "second": "y", "winner": "x"}', "line 1 is no"),
    ],
)
def test_broken_anchors_name_their_line(tmp_path: Path, text: str, told: str) -> None:
    """A set that can't be read is refused at the start, with the setting and the line."""
    path = tmp_path / "anchors.jsonl"
    path.write_text(text)
    with pytest.raises(SettingsError, match=told) as raised:
        read_anchors(path)
    assert raised.value.field == "judge.health.anchors"
    with pytest.raises(SettingsError, match="can't read"):
        read_anchors(tmp_path / "none.jsonl")


def test_agreement_is_about_the_winner() -> None:
    """A win and a lean agree, a tie and a contradiction too; opposite winners never."""
    assert agrees(1.0, 0.5)
    assert agrees(0.0, 0.0)
    assert not agrees(0.5, -0.5)
    assert not agrees(0.0, 1.0)
    assert agreement({"a": 1.0, "b": -1.0, "c": 0.0}, {"b": 1.0, "a": 1.0}) == [True, False]


def test_drift_is_the_tail_of_the_binomial() -> None:
    """One-sided, exact, at 1%; nothing asked is no drift."""
    for asked in (1, 8, 16, 40):
        for agreed in range(asked + 1):
            expected = bool(binom.cdf(agreed, asked, 0.8) < 0.01)
            assert has_drifted(agreed, asked, 0.8) is expected
    assert not has_drifted(0, 0, 0.8)


def test_rank_correlation_is_spearmans() -> None:
    """With many ties, as verdicts have them; None where one side never varies."""
    rng = Random(4)
    points = [(rng.choice([-1.0, 0.0, 0.5, 1.0]), round(rng.gauss(0, 1), 1)) for _ in range(200)]
    expected = spearmanr([a for a, _ in points], [b for _, b in points]).statistic
    assert rank_correlation(points) == pytest.approx(expected, abs=1e-12)
    assert rank_correlation([(0.0, 1.0), (0.0, 2.0)]) is None


def test_position_bias_of_fifteen_points_is_seen_with_its_interval() -> None:
    """Over 2,000 pairs the interval holds 0.15 and not 0, and the win rate stays at one half."""
    rng = Random(9)
    pairs = []
    for _ in range(2000):
        sides = ["A" if rng.random() < 0.575 else "B" for _ in range(2)]
        pairs.append(JudgedPair(None, sides[0], sides[1]))  # type: ignore[arg-type]
    (overall,) = measure(pairs)
    assert overall.position.low is not None
    assert 0.05 < overall.position.low < 0.15 < overall.position.high < 0.25
    assert overall.length.value is None


def test_nothing_judged_is_no_value() -> None:
    """Missing is never zero."""
    (overall,) = measure([])
    for estimate in (overall.position, overall.length, overall.inconsistent):
        assert (estimate.value, estimate.low, estimate.high, estimate.n) == (None, None, None, 0)


def test_segments_are_bounded() -> None:
    """The largest ones are told apart, whatever traffic names."""
    pairs = [JudgedPair(f"s{number % 40}", "A", "B") for number in range(400)]
    pairs += [JudgedPair("big", "A", "A")] * 30
    found = measure(pairs, most_segments=5)
    assert len(found) == 6
    assert "big" in {each.segment for each in found}
