"""What a rollout does to its route's split."""

from __future__ import annotations

from gateway.settings import Route
from gateway.split import Split
from rollout.sampling import FIRST_BP
from rollout.spec import load_spec
from rollout.steps import Step, plan
from rollout.traffic import (
    demoted,
    effective_baseline,
    holder,
    mirror_of,
    mirrored,
    promoted,
    sampled,
    weight_of,
    weighted,
    withdrawn,
)

SPEC = load_spec(
    {
        "name": "v2",
        "route": "bot",
        "candidate": {"deployment": "new"},
        "eligible": {"risk": ["low"], "headers": {"X-Beta": "1"}},
        "analysis": {"metrics": [{"name": "latency", "slo": "4s"}], "live_sample": 50},
    }
)
OTHER = load_spec({"name": "v3", "route": "bot", "candidate": {"deployment": "newer"}})
EMPTY = Split(route="bot", revision=3, baseline="old")
SHADOW, STEP = plan(SPEC)[:2]
BAKE = plan(SPEC)[-1]


def _live(split: Split = EMPTY, step: Step = STEP) -> Split:
    return weighted(split, 1, SPEC, step, weight_bp=500, epoch=4, salt="s", reason="r")


def test_weight_carries_everything_that_gateways_need() -> None:
    """Candidate, weight, eligibility, sampling, SLO and the mirror go into one split."""
    split = _live()
    assert (split.candidate, split.weight_bp, split.epoch, split.salt) == ("new", 500, 4, "s")
    assert (split.rollout, split.rollout_id, split.slo_s) == ("v2", 1, 4.0)
    assert split.live_sample_bp == 5000
    assert split.eligible.risk == ("low",)
    assert split.eligible.headers == (("x-beta", "1"),)
    assert [mirror.rollout_id for mirror in split.mirrors] == [1]


def test_second_mirror_leaves_the_holder_of_live_traffic_alone() -> None:
    """A rollout that only shadows changes neither assignment nor eligibility of the live one."""
    split = mirrored(_live(), 2, OTHER, plan(OTHER)[0])
    assert split.eligible == _live().eligible
    assert (split.rollout_id, split.weight_bp) == (1, 500)
    assert [mirror.candidate for mirror in split.mirrors] == ["new", "newer"]
    assert holder(split, 2) == "v2"
    assert holder(split, 1) is None
    assert (weight_of(split, 1), weight_of(split, 2)) == (500, 0)


def test_mirroring_twice_is_mirroring_once() -> None:
    """A mirror is replaced, not added again."""
    once = mirrored(EMPTY, 1, SPEC, SHADOW)
    assert mirrored(once, 1, SPEC, SHADOW) == once


def test_an_adaptive_mirror_starts_small_and_goes_on_with_its_share() -> None:
    """A new step keeps what was found out about the traffic; a fixed share is the percentage."""
    first = mirrored(EMPTY, 1, SPEC, SHADOW)
    assert [mirror.percentage_bp for mirror in first.mirrors] == [FIRST_BP]
    adapted = sampled(mirrored(first, 2, OTHER, plan(OTHER)[0]), 1, mirror_bp=7.25)
    assert [mirror.percentage_bp for mirror in adapted.mirrors] == [7.25, FIRST_BP]
    live = mirror_of(_live(adapted), 1)
    assert live is not None
    assert (live.percentage_bp, live.both) == (7.25, False)
    fixed = load_spec({**OTHER.to_document(), "mirror": {"percentage": 20, "adaptive": False}})
    split = mirrored(first, 1, fixed, plan(fixed)[0])
    assert [mirror.percentage_bp for mirror in split.mirrors] == [2000]


def test_the_other_direction_starts_small_again() -> None:
    """In a bake fifty times the requests can be mirrored: the share found before is no guide."""
    held = _live(sampled(_live(), 1, mirror_bp=2000.0), BAKE)
    mirror = mirror_of(held, 1)
    assert mirror is not None
    assert (mirror.both, mirror.percentage_bp) == (True, FIRST_BP)
    assert held.reverse_mirrors == (mirror,)
    assert held.evolve(weight_bp=0).reverse_mirrors == ()
    assert mirrored(held, 2, OTHER, plan(OTHER)[-1]).reverse_mirrors == (mirror,)


def test_sampling_changes_nobodys_arm() -> None:
    """Only the share is another one."""
    live = mirrored(_live(), 2, OTHER, plan(OTHER)[0])
    after = sampled(live, 1, mirror_bp=0.5, live_bp=70)
    assert (mirror_of(after, 1), after.live_sample_bp) != (mirror_of(live, 1), 70)
    assert after.live_sample_bp == _live(after).live_sample_bp == 70
    assert sampled(after, 1, mirror_bp=FIRST_BP, live_bp=5000) == live
    assert sampled(live, 2, mirror_bp=FIRST_BP, live_bp=70) == live


def test_withdrawal_leaves_nothing_of_the_rollout() -> None:
    """After a rollback there is no candidate, no weight and no mirror of it, only of others."""
    split = withdrawn(mirrored(_live(), 2, OTHER, plan(OTHER)[0]), 1, reason="harm")
    assert (split.candidate, split.weight_bp, split.rollout_id) == (None, 0, None)
    assert [mirror.rollout_id for mirror in split.mirrors] == [2]
    still_live = withdrawn(mirrored(_live(), 2, OTHER, plan(OTHER)[0]), 2, reason="abort")
    assert (still_live.candidate, still_live.weight_bp) == ("new", 500)


def test_promotion_overrides_the_settings_until_they_change() -> None:
    """The promoted baseline serves while the settings still declare the former one."""
    split = promoted(_live(), 1, candidate="new", baseline="old", declared="old", reason="r")
    routes = {"bot": Route(baseline="old")}
    assert effective_baseline(split, "bot", routes) == "new"
    assert effective_baseline(split, "bot", {"bot": Route(baseline="newest")}) == "newest"
    back = demoted(split, declared="old", reason="r")
    assert effective_baseline(back, "bot", routes) == "old"
    assert back.former_baseline is None


def test_second_promotion_returns_to_the_first() -> None:
    """After two promotions a rollback leads to the baseline in between, not to the oldest."""
    first = promoted(_live(), 1, candidate="new", baseline="old", declared="old", reason="r")
    second = promoted(first, 2, candidate="newer", baseline="new", declared="old", reason="r")
    back = demoted(second, declared="old", reason="r")
    assert effective_baseline(back, "bot", {"bot": Route(baseline="old")}) == "new"
