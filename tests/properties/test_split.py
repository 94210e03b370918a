"""Properties of the assignment that users rely on."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.split import (
    BASIS_POINTS,
    Assigner,
    Eligibility,
    Mirror,
    Sampler,
    Share,
    Split,
    assign,
    bucket,
    targeting_key,
)

_BASE = Split(route="r", revision=1, baseline="a", candidate="b", salt="salt", rollout="x")
_weights = st.integers(0, BASIS_POINTS)
_keys = st.text(min_size=1)


@given(_keys, _weights, _weights)
def test_widening_never_moves_a_key_off_the_candidate(key: str, one: int, other: int) -> None:
    """A key on the candidate at a weight is on it at every larger weight."""
    low, high = sorted((one, other))
    before = assign(_BASE.evolve(weight_bp=low), key, eligible=True, request_key="q")
    after = assign(_BASE.evolve(weight_bp=high), key, eligible=True, request_key="p")
    assert before.variant == "baseline" or after.variant == "candidate"


@given(_keys, _weights, st.text(), st.text())
def test_a_key_is_sticky(key: str, weight: int, one: str, other: str) -> None:
    """The same key gets the same arm whatever the request."""
    split = _BASE.evolve(weight_bp=weight)
    assert assign(split, key, eligible=True, request_key=one) == assign(
        split, key, eligible=True, request_key=other
    )


@given(_keys, _weights)
def test_nothing_and_everything(key: str, weight: int) -> None:
    """Weight 0 sends nobody and weight 100% everybody; the ineligible stay on the baseline."""
    none = assign(_BASE.evolve(weight_bp=0), key, eligible=True, request_key="q")
    every = assign(_BASE.evolve(weight_bp=BASIS_POINTS), key, eligible=True, request_key="q")
    kept = assign(_BASE.evolve(weight_bp=weight), key, eligible=False, request_key="q")
    assert (none.variant, every.variant) == ("baseline", "candidate")
    assert (kept.variant, kept.reason, kept.randomised) == ("baseline", "ineligible", False)


def test_the_share_is_the_weight_and_salts_are_independent() -> None:
    """Over 20,000 keys the share is within five standard deviations, also given another salt."""
    keys = [f"user-{n}" for n in range(20_000)]
    on = [key for key in keys if bucket("one", key) < 3000]
    both = [key for key in on if bucket("two", key) < 3000]
    assert abs(len(on) - 6000) < 5 * (20_000 * 0.3 * 0.7) ** 0.5
    assert abs(len(both) - 0.3 * len(on)) < 5 * (len(on) * 0.3 * 0.7) ** 0.5


def test_anonymous_requests_are_assigned_one_by_one() -> None:
    """Requests without a key do not all go the same way, unless the split says baseline."""
    split = _BASE.evolve(weight_bp=5000)
    seen = {assign(split, None, eligible=True, request_key=str(n)).variant for n in range(64)}
    assert seen == {"baseline", "candidate"}
    split = split.evolve(on_missing_key="baseline")
    kept = {assign(split, None, eligible=True, request_key=str(n)).reason for n in range(64)}
    assert kept == {"ineligible"}


@given(_keys, st.integers(1, BASIS_POINTS))
def test_sampling_is_monotone_too(key: str, share: int) -> None:
    """A key in a sample stays in every larger one; nothing is in an empty sample."""
    assert not Sampler("m", 0).takes(key)
    assert Sampler("m", BASIS_POINTS).takes(key)
    assert not Sampler("m", share - 1).takes(key) or Sampler("m", share).takes(key)


def test_samples_are_uniform_and_independent() -> None:
    """Each sample has its share of the requests, and of those of every other sample and arm."""
    keys = [f"4f2a{number:08x}" for number in range(20_000)]
    one, two, arm = Sampler("m", 3000), Sampler("m:noise", 3000), Share("m", 3000)
    taken = [key for key in keys if one.takes(key)]
    assert abs(len(taken) - 6000) < 5 * (20_000 * 0.3 * 0.7) ** 0.5
    for other in (two.takes, arm.has):
        both = sum(map(other, taken))
        assert abs(both - 0.3 * len(taken)) < 5 * (len(taken) * 0.3 * 0.7) ** 0.5


@given(st.text(), st.text(), st.integers(-1, BASIS_POINTS + 1))
def test_a_prepared_share_is_the_plain_one(salt: str, key: str, share: int) -> None:
    """Whatever the salt, the key and the share, and however often it is asked."""
    prepared = Share(salt, share)
    assert prepared.has(key) is (bucket(salt, key) < share)
    prepared.has(f"{key}?")
    assert prepared.has(key) is (bucket(salt, key) < share)


@given(
    st.text(),
    st.none() | _keys,
    st.booleans(),
    _weights,
    st.sampled_from(["request", "baseline"]),
    st.booleans(),
)
def test_a_prepared_assignment_follows_the_bucket(
    salt: str, key: str | None, eligible: bool, weight: int, missing: str, any_candidate: bool
) -> None:
    """The arm is what the bucket, the weight and the rules for missing keys say, for any salt."""
    split = _BASE.evolve(salt=salt, weight_bp=weight, on_missing_key=missing)
    if not any_candidate:
        split = split.evolve(weight_bp=0, candidate=None)
    made = Assigner(split).assign(key, eligible, "request-7")
    if not any_candidate:
        expected = ("baseline", "default")
    elif not eligible or (key is None and missing == "baseline"):
        expected = ("baseline", "ineligible")
    else:
        below = bucket(salt, "request-7" if key is None else key) < weight
        expected = ("candidate" if below else "baseline", "split")
    assert (made.variant, made.reason) == expected
    assert made.randomised is (made.reason == "split")


@pytest.mark.parametrize(
    ("salt", "key", "expected"),
    [
        ("salt", "user-1", 2683),
        ("", "", 5896),
        ("sälz", "kéy 🔑", 1709),
        ("0123456789abcdef", "4f2a00000001", 6760),
        ("bot:noise", "x" * 300, 2345),
    ],
)
def test_buckets_never_change(salt: str, key: str, expected: int) -> None:
    """A gateway of another version must not move users to another arm."""
    assert bucket(salt, key) == expected
    assert Share(salt, expected + 1).has(key)
    assert not Share(salt, expected).has(key)


_names = st.text(min_size=1, max_size=8)
_eligible = st.builds(
    Eligibility,
    risk=st.none() | st.lists(_names).map(tuple),
    headers=st.lists(st.tuples(_names, _names)).map(tuple),
)
_mirrors = st.builds(
    Mirror,
    st.integers(1, 9),
    _names,
    _names,
    st.floats(0, BASIS_POINTS),
    _weights,
    _names,
    st.booleans(),
    st.none() | _eligible,
)
_tiers = st.lists(st.sampled_from(["low", "medium", "high", "unknown"]), unique=True)


@given(_keys, _weights, _tiers, _tiers, st.none() | st.sampled_from(["low", "medium", "high"]))
def test_widening_the_tiers_never_moves_a_user(
    key: str, weight: int, tiers: list[str], more: list[str], risk: str | None
) -> None:
    """Whoever took part before keeps their arm; whoever joins had the baseline until then."""
    split = _BASE.evolve(weight_bp=weight)
    before, after = (
        assign(split, key, eligible=each.allows(risk, {}), request_key="q")
        for each in (Eligibility(risk=tuple(tiers)), Eligibility(risk=(*tiers, *more)))
    )
    assert after == before or (before.reason == "ineligible" and before.variant == "baseline")


@given(_keys, st.floats(0, BASIS_POINTS), st.floats(0, BASIS_POINTS))
def test_sampling_is_monotone_down_to_a_millionth(key: str, one: float, other: float) -> None:
    """Shares may be fractions of a basis point; a larger sample holds every smaller one."""
    low, high = sorted((one, other))
    assert not Sampler("m", low).takes(key) or Sampler("m", high).takes(key)


def test_a_share_below_a_basis_point_is_sampled() -> None:
    """At much traffic a step needs less than one request in ten thousand."""
    taken = sum(Sampler("m", 0.5).takes(f"4f2a{number:08x}") for number in range(400_000))
    assert abs(taken - 20) < 5 * 20**0.5


@given(_weights, st.booleans(), st.integers(1, 3))
def test_only_the_holder_of_live_traffic_mirrors_the_candidate(
    weight: int, both: bool, rollout_id: int
) -> None:
    """Another rollout's mirror has nothing to compare the candidate's answers with."""
    mirrors = (Mirror(1, "x", "b", 100, 0, "m", both), Mirror(2, "y", "c", 100, 0, "n", True))
    split = _BASE.evolve(weight_bp=weight, rollout_id=rollout_id, mirrors=mirrors)
    expected = [m for m in mirrors if weight and m.both and m.rollout_id == rollout_id]
    assert list(split.reverse_mirrors) == expected


def test_a_mirror_of_an_older_writer_goes_forward() -> None:
    """A document without direction and terms was written before a mirror had any."""
    split = _BASE.evolve(mirrors=(Mirror(1, "x", "b", 100, 0, "m"),))
    document = split.to_document()
    del document["mirrors"][0]["both"], document["mirrors"][0]["eligible"]
    assert Split.from_document(document) == split


@given(
    st.builds(
        Split,
        route=_names,
        revision=st.integers(0, 99),
        baseline=_names,
        candidate=_names,
        weight_bp=_weights,
        salt=st.text(),
        eligible=_eligible,
        mirrors=st.lists(_mirrors).map(tuple),
        slo_s=st.none() | st.floats(0.001, 100),
        targeting_key=st.lists(_names).map(tuple),
    )
)
def test_a_split_survives_its_document(split: Split) -> None:
    """Writing and reading a split as JSON gives the same split; newer keys do no harm."""
    document = json.loads(json.dumps(split.to_document()))
    assert Split.from_document({**document, "from_the_future": 1}) == split


def test_a_split_refuses_what_can_not_be() -> None:
    """A weight outside 0 to 100%, or one with no candidate, is an error at once."""
    with pytest.raises(ValueError, match="weight_bp is 10001"):
        _BASE.evolve(weight_bp=10_001)
    with pytest.raises(ValueError, match="no candidate"):
        _BASE.evolve(weight_bp=1, candidate=None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        _BASE.weight_bp = 5  # type: ignore[misc]


def test_the_targeting_key_is_the_first_found() -> None:
    """Headers and body paths are tried in order; empty or structured values are no keys."""
    sources = ("header:X-User-Id", "body:metadata.tenant", "body:user")
    assert targeting_key(sources, {"x-user-id": "u"}, {"user": "v"}) == "u"
    assert targeting_key(sources, {}, {"metadata": {"tenant": 7}, "user": "v"}) == "7"
    assert targeting_key(sources, {"x-user-id": ""}, {"metadata": 1, "user": "v"}) == "v"
    assert targeting_key(sources, {}, {"user": {"id": 1}}) is None
    assert targeting_key(sources, {}, {"user": True}) is None


def test_an_unknown_risk_counts_as_the_highest() -> None:
    """A request that names no tier takes part only where every tier does."""
    assert Eligibility().allows(None, {})
    assert Eligibility(risk=("low",)).allows("low", {})
    assert not Eligibility(risk=("low",)).allows(None, {})
    assert not Eligibility(headers=(("x-beta", "1"),)).allows("low", {"x-beta": "0"})
