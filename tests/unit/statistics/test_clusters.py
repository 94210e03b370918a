"""Repeated users: one observation a cluster, and what happens without that."""

from __future__ import annotations

import json
import random
from math import inf, log, nan

import pytest

from rollout.statistics import ClusterMeans, PairedState

Observation = tuple[str | None, float]


def run(
    state: ClusterMeans, observations: list[Observation]
) -> tuple[ClusterMeans, list[tuple[float, ...]]]:
    """Add observations, and give what each of them emitted."""
    emitted = []
    for cluster, value in observations:
        state, out = state.add(cluster, value)
        emitted.append(out)
    return state, emitted


def test_a_window_of_one_counts_first_observations_at_once() -> None:
    """With a window of 1 each user's first pair counts immediately and no other."""
    state, emitted = run(
        ClusterMeans.start(window=1), [("a", 1.0), ("a", 0.5), ("b", -1.0), ("a", 1.0)]
    )
    assert emitted == [(1.0,), (), (-1.0,), ()]
    assert (state.n, state.emitted, state.ignored, state.open) == (4, 2, 2, ())


def test_a_cluster_is_emitted_once_as_the_mean_over_its_window() -> None:
    """A mean appears with the last observation of the window; later ones are ignored."""
    state, emitted = run(
        ClusterMeans.start(window=3),
        [("a", 1.0), ("b", 0.0), ("a", 0.5), ("b", 1.0), ("a", -1.0), ("c", 1.0)],
    )
    assert emitted == [(), (), (0.75,), (0.5,), (), ()]
    assert (state.ignored, [held.n for held in state.open]) == (1, [1])
    assert state.flush()[1] == (1.0,)
    assert state.flush()[0].flush()[1] == ()


def test_observations_without_a_cluster_stand_for_themselves() -> None:
    """Anonymous observations count at once, after a cluster that they close."""
    state, emitted = run(
        ClusterMeans.start(window=2), [(None, 0.25), ("a", 1.0), (None, -1.0), (None, 0.0)]
    )
    assert emitted == [(0.25,), (), (1.0, -1.0), (0.0,)]
    assert state.emitted == 4


def test_when_a_cluster_is_emitted_does_not_depend_on_values() -> None:
    """The same keys with other values are emitted at the same moments."""
    rng = random.Random(1)
    keys = [rng.choice("abcdefgh") for _ in range(300)]
    moments = set()
    for value in (1.0, -1.0, 0.0):
        _, emitted = run(ClusterMeans.start(window=7), [(key, value) for key in keys])
        moments.add(tuple(map(len, emitted)))
    assert len(moments) == 1


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    """After `memory` other clusters one counts as new, a recent one does not."""
    state, _ = run(
        ClusterMeans.start(window=1, memory=1000), [(f"user-{i}", 0.0) for i in range(5000)]
    )
    remembered = len(state.recent) + sum(map(len, state.blocks))
    assert 800 <= remembered <= 1000
    assert state.add("user-4999", 1.0)[1] == ()
    assert state.add("user-4300", 1.0)[1] == ()
    assert state.add("user-3000", 1.0)[1] == (1.0,)
    smallest, _ = run(ClusterMeans.start(window=1, memory=1), [("a", 0.0), ("b", 0.0)])
    assert smallest.add("b", 0.0)[1] == ()
    assert smallest.add("a", 0.0)[1] == (0.0,)


def test_without_clusters_repeated_users_are_false_alarms() -> None:
    """Ten equal pairs a user alarm in over 30% of A/A runs when each is bet on, clustered in few.

    100 seeded runs of 40 users at alpha 0.1, looked at after every pair.
    """
    rng = random.Random(11)
    raw = first = windowed = 0
    for _ in range(100):
        users = [rng.choice((-1.0, -0.5, 0.0, 0.5, 1.0)) for _ in range(40)]
        order = [user for user in range(40) for _ in range(10)]
        rng.shuffle(order)
        alarms = []
        for window in (None, 1, 100):
            means = ClusterMeans.start(window=window or 1)
            state, alarmed = PairedState.start(kind="score", margin=0.05), False
            for user in order:
                means, values = means.add(str(user) if window else None, users[user])
                for value in values:
                    state = state.update(value)
                    alarmed |= state.log_e_harm >= log(10)
            alarms.append(alarmed)
        raw, first, windowed = raw + alarms[0], first + alarms[1], windowed + alarms[2]
    assert raw > 100 * 0.3
    assert first <= 100 * 0.1
    assert windowed <= 100 * 0.1


def test_json_is_plain() -> None:
    """A state survives the text form of JSON with equality and keeps no plain key."""
    observations: list[Observation] = [(f"user-{i % 40}", i / 100) for i in range(90)]
    state, _ = run(ClusterMeans.start(window=10, memory=50), [*observations, (None, 1.0)])
    text = json.dumps(state.to_json())
    assert ClusterMeans.from_json(json.loads(text)) == state
    assert state.blocks
    assert "user-" not in text


def test_arguments_outside_their_domain_are_named() -> None:
    """Windows, memories and values that cannot be used are refused by name."""
    with pytest.raises(ValueError, match="window"):
        ClusterMeans.start(window=0)
    with pytest.raises(ValueError, match="memory"):
        ClusterMeans.start(window=1, memory=0)
    for value in (nan, inf):
        with pytest.raises(ValueError, match="value"):
            ClusterMeans.start(window=1).add("a", value)
