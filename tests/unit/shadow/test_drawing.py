"""Which pairs people are asked about, and with which probability."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from gateway.settings import Settings
from gateway.settings_review import LEAST_PROBABILITY, RouteReview
from shadow.disagreement import judges_disagree
from shadow.drawing import Askable, Draw, Pool, draw, probability_of, share_considered
from shadow.plan import Plan
from shadow.review import rules_for


def asked(number: int, *, disagreement: bool = False, score: float = 0.5, **rules: Any) -> Askable:
    """A pair with its own salt."""
    given = RouteReview(**{"weekly_quota": 10**9, **rules})
    return Askable("bot", given, f"capture-{number}", disagreement, score)


def run(pairs: list[Askable], pool: Pool | None = None) -> tuple[list[Draw | None], Pool]:
    """Draw one pair after the other."""
    pool = pool or Pool()
    draws = []
    for pair in pairs:
        drawn = draw(pair, pool)
        draws.append(drawn)
        pool = pool.after(pair, drawn)
    return draws, pool


def test_a_draw_is_the_same_everywhere_and_its_probability_is_known_before() -> None:
    """The coins are a hash of the salt; the probability follows from the past and the judges."""
    pair, pool = asked(1, disagreement=True), Pool(100, 20, 3)
    assert draw(pair, pool) == draw(pair, pool)
    drawn = draw(pair, pool)
    assert drawn is not None
    assert drawn.probability == probability_of(pair.rules, pool, disagreement=True)
    assert draw(replace(pair, score=1.0), pool) == drawn


def test_half_is_drawn_at_random_and_half_where_judges_disagree() -> None:
    """With a fifth of the pairs in dispute, both sources bring about as many."""
    rng = Random(5)
    pairs = [asked(n, disagreement=rng.random() < 0.2) for n in range(20_000)]
    draws, pool = run(pairs)
    sources = [each.source for each in draws if each is not None and each.source is not None]
    assert 0.45 < sources.count("random") / len(sources) < 0.55
    assert 3600 < len(sources) < 4400
    assert pool.disagreement == pytest.approx(0.2, abs=0.02)


def test_no_pair_is_drawn_with_less_than_the_least_probability() -> None:
    """Whatever the pool, what the statistics rely on holds; probabilities never exceed one."""
    rules = RouteReview(probability=LEAST_PROBABILITY)
    for pairs, disagreed in ((0, 0), (10, 10), (1999, 0), (1999, 1999)):
        for disagreement in (False, True):
            chance = probability_of(rules, Pool(pairs, disagreed), disagreement=disagreement)
            assert LEAST_PROBABILITY <= chance <= 1
    assert probability_of(RouteReview(probability=1), Pool(), disagreement=True) == 1


def test_shares_drawn_are_the_probabilities_stored() -> None:
    """Among pairs stored with a probability, that share was drawn: for each kind of pair."""
    rng = Random(6)
    pairs = [asked(n, disagreement=rng.random() < 0.3) for n in range(30_000)]
    draws, _ = run(pairs, Pool(1000, 300))
    for disagreement in (False, True):
        mine = [
            each
            for pair, each in zip(pairs, draws, strict=True)
            if each is not None and pair.disagreement is disagreement
        ]
        expected = sum(each.probability for each in mine)
        drawn = sum(each.source is not None for each in mine)
        assert drawn == pytest.approx(expected, rel=0.05)


def test_labels_weighed_by_probability_are_unbiased() -> None:
    """Asking three times as often where judges disagree does not move the weighted mean.

    Where they disagree the candidate wins in 20%, elsewhere in 60% of pairs: the plain mean of the
    labels is far off, the weighted one is not.
    """
    rng = Random(7)
    plain, weighted, truths = [], [], []
    for run_number in range(60):
        total = weights = count = wins = 0.0
        pool, labels = Pool(400, 120), []
        for n in range(1000):
            disputed = rng.random() < 0.3
            label = float(rng.random() < (0.2 if disputed else 0.6))
            labels.append(label)
            pair = asked(run_number * 1000 + n, disagreement=disputed)
            drawn = draw(pair, pool)
            pool = pool.after(pair, drawn)
            if drawn is not None and drawn.source is not None:
                total += label / drawn.probability
                weights += 1 / drawn.probability
                wins += label
                count += 1
        plain.append(wins / count)
        weighted.append(total / weights)
        truths.append(sum(labels) / len(labels))
    truth = sum(truths) / len(truths)
    assert sum(weighted) / len(weighted) == pytest.approx(truth, abs=0.012)
    assert sum(plain) / len(plain) < truth - 0.04


def test_the_quota_bounds_the_queue_by_leaving_pairs_out_before_the_draw() -> None:
    """The last seven days never hold more than the quota, and probabilities stay as they were."""
    pairs = [asked(n, weekly_quota=50, probability=0.3) for n in range(5000)]
    draws, pool = run(pairs)
    assert pool.used <= 50
    assert pool.used > 40
    assert {each.probability for each in draws if each is not None} == {0.3}
    assert None in draws
    assert draw(pairs[0], Pool(used=50)) is None


@pytest.mark.parametrize(
    ("used", "share"), [(0, 1.0), (100, 1.0), (150, 0.5), (200, 0.0), (400, 0.0)]
)
def test_fewer_pairs_are_considered_as_the_quota_is_used(used: int, share: float) -> None:
    """All up to half of the quota, none once it is used up; without a quota none at all."""
    assert share_considered(used, 200) == share
    assert share_considered(used, 0) == 0


def test_sides_and_places_are_random() -> None:
    """The candidate stands left in half of the items, whatever drew them."""
    draws, _ = run([asked(n, disagreement=n % 3 == 0) for n in range(8000)])
    drawn = [each for each in draws if each is not None and each.source is not None]
    for source in ("random", "disagreement"):
        lefts = [each.left_arm for each in drawn if each.source == source]
        assert 0.44 < lefts.count("candidate") / len(lefts) < 0.56
    assert 0.45 < sum(each.position for each in drawn) / len(drawn) < 0.55


@dataclass
class Said:
    """A judgment as it is stored."""

    order: str
    verdict: str | None
    scores: dict[str, float] | None = None
    model: str = "judge"


@pytest.mark.parametrize(
    ("views", "disagree"),
    [
        ([Said("AB", "B"), Said("BA", "A")], False),
        ([Said("AB", "tie"), Said("BA", "tie")], False),
        ([Said("AB", "A"), Said("BA", "A")], True),
        ([Said("AB", "B"), Said("BA", "tie")], True),
        ([Said("AB", None), Said("BA", "A")], False),
        ([Said("AB", "B", model="small"), Said("AB", "A"), Said("BA", "B")], True),
        ([Said("AB", "tie", {"A": 5, "B": 8}), Said("BA", "tie", {"A": 5, "B": 5})], True),
        ([Said("AB", "tie", {"A": 5, "B": 6}), Said("BA", "tie", {"A": 6, "B": 5})], False),
        ([Said("AB", "B", {"A": 8, "B": 5}), Said("BA", "A", {"A": 5, "B": 5})], True),
        ([], False),
    ],
    ids=["win", "ties", "order", "lean", "error", "stages", "gap", "steady", "contradicts", "none"],
)
def test_when_judges_disagree(views: list[Said], disagree: bool) -> None:
    """Orders, stages of a cascade, and scores that do not fit together."""
    assert judges_disagree(views) is disagree


def test_nobody_is_asked_where_there_is_nothing_to_read() -> None:
    """A route whose bodies are not kept draws no pair, whatever its review says."""
    settings = Settings.model_validate(
        {
            "deployments": {"v6": {"base_url": "http://127.0.0.1:1/v1", "model": "v6"}},
            "routes": {
                "kept": {"baseline": "v6", "review": {}},
                "unkept": {"baseline": "v6", "review": {}, "store_bodies": False},
            },
        }
    )
    asked_about = {
        route: rules_for(settings, Plan(1, "bot", route, "v7")) for route in ("kept", "unkept")
    }
    assert asked_about["kept"] is not None
    assert asked_about["unkept"] is None
