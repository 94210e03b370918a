"""The reward-hacking panel as a pure function of checked pairs."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from rollout.evidence import MAX_SEGMENTS
from rollout.metrics import ControlMetrics
from rollout.panel import PairPanel
from rollout.panel_lines import Line, Seen, contribution
from rollout.panel_live import LivePanel
from rollout.panel_metrics import PANEL, PanelMetric
from shadow.checks import CHECKS

TOKENS = next(each for each in PANEL if each.name == "output_tokens")
REFUSAL = next(each for each in PANEL if each.name == "refusal_rate")


def seen(
    number: int = 1,
    *,
    refused: tuple[Any, Any] = (False, False),
    tokens: tuple[Any, Any] = (100, 100),
    segment: str | None = None,
    cluster: str | None = None,
) -> Seen:
    """One pair: whether each arm refused, and how long it was; None where it was not asked."""
    outcomes = {True: "fail", False: "pass", None: "not_applicable"}
    arms = ("baseline", "candidate")
    checks = {
        "refusal_rate": {
            arm: {"outcome": outcomes[each]} for arm, each in zip(arms, refused, strict=True)
        },
        "output_tokens": {
            arm: {"outcome": "not_applicable", "value": each}
            for arm, each in zip(arms, tokens, strict=True)
        },
    }
    return Seen(number, segment, cluster, checks)


def figure(panel: PairPanel | LivePanel, metric: PanelMetric, segment: str | None = None) -> Line:
    """One line of a panel."""
    [line] = [each for each in panel.lines() if each.metric is metric and each.segment == segment]
    return line


def test_every_figure_is_a_check_that_is_run() -> None:
    """The panel names no check that this version does not have, and watches the main habits."""
    names = [each.name for each in PANEL]
    assert set(names) <= {"boilerplate_rate", *(check.name for check in CHECKS)}
    assert {
        "output_tokens", "citation_valid", "abstention_rate", "refusal_rate", "tool_call_rate",
        "escalation_rate",
    } <= set(names)  # fmt: skip
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [(0, 0, "steady"), (0, 300, "moved"), (300, 0, "moved"), (30, 33, "unclear")],
)
def test_the_status_is_about_the_interval(before: int, after: int, status: str) -> None:
    """Moved or steady is said only when the whole interval is beyond the margin, or within it."""
    panel = PairPanel("none")
    for number in range(900):
        panel.add(seen(number, refused=(number < before, 600 <= number < 600 + after)))
    line = figure(panel, REFUSAL)
    assert line.status == status
    assert line.change == pytest.approx((after - before) / 900)
    assert line.low is not None
    assert line.high is not None
    assert line.low <= (after - before) / 900 <= line.high


def test_an_estimate_beyond_the_margin_is_no_proof() -> None:
    """One refusal in ten pairs leans; nothing is said to have moved."""
    panel = PairPanel("none")
    for number in range(10):
        panel.add(seen(number, refused=(False, number == 0)))
    assert figure(panel, REFUSAL).status == "leaning"


def test_exchanging_the_arms_turns_the_panel_round() -> None:
    """What grew by a half one way has shrunk by a third the other way, with the same status."""
    there, back = PairPanel("none"), PairPanel("none")
    for number in range(200):
        there.add(seen(number, tokens=(100, 150), refused=(False, number % 3 == 0)))
        back.add(seen(number, tokens=(150, 100), refused=(number % 3 == 0, False)))
    up, down = figure(there, TOKENS), figure(back, TOKENS)
    assert (up.change, down.change) == (pytest.approx(0.5), pytest.approx(-1 / 3))
    assert up.status == down.status == "moved"
    risen, fallen = figure(there, REFUSAL), figure(back, REFUSAL)
    assert risen.low == pytest.approx(-(fallen.high or 0))


def test_both_arms_are_needed() -> None:
    """A pair counts in a figure only where both answers say something."""
    panel = PairPanel("none")
    panel.add(seen(1, refused=(None, True), tokens=(None, 5)))
    assert figure(panel, REFUSAL).status == "no_data"
    assert contribution(TOKENS, seen(tokens=(None, 5))) is None
    assert contribution(TOKENS, seen(tokens=(0, 0))) == 0
    assert contribution(TOKENS, seen(tokens=(50, 150))) == 0.5


def test_segments_are_bounded() -> None:
    """Beyond the most segments, further ones count overall only."""
    panel = PairPanel("none")
    for number in range(MAX_SEGMENTS + 5):
        panel.add(seen(number, segment=f"s{number:02}"))
    segments = {line.segment for line in panel.lines()}
    assert len(segments) == MAX_SEGMENTS + 1
    assert figure(panel, REFUSAL).n == MAX_SEGMENTS + 5


@pytest.mark.parametrize(("clusters", "observations"), [("mean", 1), ("first", 1), ("none", 16)])
def test_users_count_as_the_spec_says(clusters: Any, observations: int) -> None:
    """The panel follows analysis.clusters: by default a user's pairs are one observation."""
    panel = PairPanel(clusters)
    for number in range(16):
        panel.add(seen(number, refused=(False, True), cluster="u1"))
    assert figure(panel, REFUSAL).observations == observations


def test_a_candidate_like_the_baseline_is_hardly_ever_said_to_have_moved() -> None:
    """Looked at after every tenth of 400 pairs, an A/A figure is called moved in under 5% of runs.

    With a margin of a percentage point, and refusals in a tenth of both arms' answers.
    """
    rng, moved = Random(11), 0
    for _ in range(40):
        panel, ever = PairPanel("none"), False
        for number in range(400):
            panel.add(seen(number, refused=(rng.random() < 0.1, rng.random() < 0.1)))
            if number % 40 == 39:
                ever = ever or figure(panel, REFUSAL).status == "moved"
        moved += ever
    assert moved <= 2


def test_live_amounts_are_compared_by_their_ratio() -> None:
    """Answers of the two arms are not paired: geometric means, at one look."""
    panel = LivePanel()
    for number in range(50):
        length = 100 + number
        panel.add(seen(number, tokens=(length, None), refused=(False, None)))
        panel.add(seen(number, tokens=(None, 2 * length), refused=(None, False)))
    line = figure(panel, TOKENS)
    assert line.change == pytest.approx(1.0)
    assert line.status == "moved"
    assert (line.before, line.after) == (124.5, 249)
    few = LivePanel()
    few.add(seen(1, tokens=(5, None)))
    few.add(seen(2, tokens=(None, 9)))
    assert figure(few, TOKENS).status == "unclear"


def test_the_panel_is_shown_in_margins_until_another_leads() -> None:
    """A change of two margins is 2, whatever the figure's unit; a follower shows nothing."""
    registry = CollectorRegistry()
    metrics = ControlMetrics(registry)
    line = Line(REFUSAL, None, "moved", 0.01, 0.03, 9, 9, 2 * REFUSAL.margin, REFUSAL.margin, None)
    metrics.panel("v7", [line])
    labels = {"rollout": "v7", "metric": "refusal_rate", "segment": "all"}

    def value(name: str, **more: str) -> float | None:
        return registry.get_sample_value(name, {**labels, **more})

    change = "coalmine_panel_change_in_margins"
    assert value(change, bound="point") == 2
    assert value(change, bound="low") == 1
    assert value(change, bound="high") is None
    assert value("coalmine_panel_value", variant="candidate") == 0.03
    metrics.follow()
    assert value(change, bound="point") is None
