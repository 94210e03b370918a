"""How much load a subject gets, and the command line's names."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def plans(dataplane: Callable[[str], ModuleType]) -> ModuleType:
    """The module with the plans."""
    return dataplane("plans")


def test_a_subject_without_limits_gets_the_whole_plan(plans: ModuleType) -> None:
    """Nothing is taken from a subject that can follow."""
    assert plans.fitted(plans.FULL, None) == plans.FULL


def test_a_slow_subject_gets_no_more_than_it_can_bear(plans: ModuleType) -> None:
    """Connections, rate and both kinds of streams are cut, and settling takes longer."""
    limits = plans.Limits(connections=8, rate=10.0, streams=32, settle_s=2.0)
    found = plans.fitted(plans.FULL, limits)
    assert plans.loads(found) == {
        "closed": "8 connections",
        "paced": "10 requests/s",
        "stream": "32 streams",
        "stalled": "32 stalled streams",
    }
    assert found.stream.warmup_s == plans.FULL.stream.warmup_s + 2.0
    assert found.stream.seconds == plans.FULL.stream.seconds


def test_limits_above_the_plan_add_no_load(plans: ModuleType) -> None:
    """Limits only take away."""
    limits = plans.Limits(connections=10_000, rate=10_000.0, streams=10_000)
    assert plans.fitted(plans.QUICK, limits) == plans.QUICK


def test_litellm_has_limits(plans: ModuleType) -> None:
    """At 10 ms of CPU a request the plan's own rate is all that a core gives."""
    assert plans.LIMITS["litellm"].rate < plans.RATE / 2


def test_the_full_plan_sees_enough_latencies_for_a_p99(
    plans: ModuleType, dataplane: Callable[[str], ModuleType]
) -> None:
    """At least 2,000 latencies a subject and round."""
    assert plans.FULL.paced.rate * plans.FULL.paced.seconds > dataplane("goals").ENOUGH


def test_streams_outlast_the_time_over_which_they_begin(plans: ModuleType) -> None:
    """Only then are all of them open together in the window."""
    for plan in (plans.QUICK, plans.FULL):
        lasts = (plan.chunks - 1) * plan.interval_ms / 1000
        assert lasts >= plan.stream.stagger_s * 0.9
        assert plan.stream.warmup_s > plan.stream.stagger_s


def test_names_are_read_and_unknown_ones_refused(dataplane: Callable[[str], ModuleType]) -> None:
    """A typing mistake ends at once, not after minutes with the peer missing."""
    read = dataplane("names").names(("nginx", "envoy"))
    assert read("envoy,nginx") == ["envoy", "nginx"]
    assert read("none") == []
    with pytest.raises(argparse.ArgumentTypeError, match="no 'ngnix' among nginx, envoy"):
        read("ngnix")


def test_a_peers_version_is_that_of_its_package(
    dataplane: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    """A peer from a package index is asked for in its own environment."""
    package = tmp_path / "lib" / "python3.11" / "site-packages" / "vllm_router-0.1.17.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-router\nVersion: 0.1.17\n")
    (tmp_path / "pyvenv.cfg").touch()
    program = tmp_path / "bin" / "vllm-router"
    assert dataplane("peers").version("vllm-router", str(program)) == "0.1.17"
