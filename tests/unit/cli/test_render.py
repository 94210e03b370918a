"""What people read in the terminal."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from rollout.cli.figures import ago, duration, e_value
from rollout.cli.render import explanation_view, one_line, status_view, transition_line

NOW = 1_800_000_000.0


def _metric(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "segment": None,
        "role": "guardrail",
        "critical": False,
        "verdict": "pass",
        "reason": "not worse by 0.01",
        "margin": 0.01,
        "n": 640,
        "scale": "difference",
        "estimate": 0.0031,
        "low": -0.008,
        "high": 0.0125,
        "log10_e_harm": -0.5,
        "log10_e_non_inferior": 1.62,
        "live": None,
        "heaviest_pairs": [],
        **changes,
    }


def _status(**changes: Any) -> dict[str, Any]:
    return {
        "name": "v7",
        "generation": 2,
        "route": "support-bot",
        "baseline": "support-v6",
        "candidate": "support-v7",
        "phase": "progressing",
        "why": "431 of 600 candidate requests",
        "next": "then step 3 of 3: 100%, 600 requests",
        "needs": ["169 more requests served by the candidate"],
        "step": 2,
        "steps": 3,
        "weight": 12.5,
        "revision": 9,
        "finished_at": None,
        "time_to_zero": None,
        "plan": [{"label": "shadow"}, {"label": "12.5%, 600 requests"}, {"label": "100%"}],
        "progress": {
            "elapsed": 400.0,
            "min_duration": 60.0,
            "max_duration": 21_600.0,
            "pairs": 90,
            "min_pairs": 0,
            "max_pairs": None,
            "baseline_requests": 3000,
            "candidate_requests": 431,
            "min_samples": 600,
        },
        "log10_e_harm": -0.2,
        "rollback_at": 1.301,
        "promote_at": 1.301,
        "metrics": [
            _metric("judge_win_rate", scale="win_rate", estimate=0.53, low=0.48, high=0.58),
            _metric(
                "error_rate",
                critical=True,
                live={"requests": 3431, "baseline_rate": 0.01, "candidate_rate": 0.02},
            ),
            _metric("format_valid", verdict="no_data", estimate=None, low=None, high=None, n=0),
            _metric("output_tokens", role="signal", verdict="inconclusive"),
        ],
        "funnel": {"mirror": {"eligible": 900, "not_sampled": 700, "compared": 200, "shed": 0}},
        **changes,
    }


def _text(view: Any) -> str:
    console = Console(width=160, no_color=True, highlight=False)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


def test_status_says_all_that_a_decision_needs() -> None:
    """Phase, step, weight, each guardrail with bounds and e-values, funnel, why and next."""
    text = _text(status_view(_status(), now=NOW))
    for part in (
        "v7 #2   route support-bot, support-v6 → support-v7",
        "phase  progressing   step 2 of 3 (12.5%, 600 requests)   weight 12.5%",
        "so far 431 of 600 candidate requests, 7 min of at least 60 s, at most 6 h",
        "why    431 of 600 candidate requests",
        "next   then step 3 of 3",
        "needs 169 more",
        "e harm 0.63, rolled back at 20; each needs e ok 20 to go on",
        "mirror 900 eligible, 200 compared, 700 not sampled",
    ):
        assert part in text, part
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "0.530" in lines["judge_win_rate"]
    assert "0.480 … 0.580" in lines["judge_win_rate"]
    assert "+0.31 pp" in lines["error_rate"]
    assert "-0.80 pp … +1.25 pp" in lines["error_rate"]
    assert "1% → 2%" in lines["error_rate"]
    assert "no_data" in lines["format_valid"]
    assert "(signal)" in lines["output_tokens"]


def test_long_lists_of_needs_are_cut_with_a_count() -> None:
    """Ten needs don't push the table off the screen, and none is dropped silently."""
    text = _text(status_view(_status(needs=[f"n{i}" for i in range(8)]), now=NOW))
    assert "needs n4" in text
    assert "needs n5" not in text
    assert "and 3 more" in text


def test_explanation_shows_what_decided() -> None:
    """The transition that decided, by whom, its spec, and the pairs that weighed most."""
    decided = {
        "number": 4,
        "at": NOW,
        "actor": "controller",
        "event": "rollback",
        "from_phase": "progressing",
        "to_phase": "rolling_back",
        "step": 2,
        "weight_before": 12.5,
        "weight_after": 0.0,
        "reason": "harm is proven",
        "receipt": {
            "spec_hash": "a" * 64,
            "candidate_revision": "b" * 64,
            "last_seq": 812,
            "heaviest_pairs": {"format_valid": [7, 3], "latency": []},
        },
    }
    status = _status(phase="rolled_back", progress=None, finished_at=NOW - 90, time_to_zero=0.021)
    text = _text(explanation_view({**status, "decided_by": decided}, now=NOW))
    for part in (
        "rollback → rolling_back  12.5% → 0%  harm is proven  (controller)",
        "evidence up to 812",
        "heaviest pairs for format_valid: 7, 3",
        "time to zero 0.021 s",
        "finished 2 min ago",
    ):
        assert part in text, part
    assert "latency" not in text
    assert "so far" not in text


def test_one_line_is_plain_text() -> None:
    """What an operation prints can be read in a log."""
    assert one_line(_status()) == (
        "v7 #2 is progressing, step 2 of 3, weight 12.5%, revision 9: 431 of 600 candidate requests"
    )


def test_markup_in_names_and_reasons_is_only_text() -> None:
    """A reason that looks like markup is shown as it is, and changes nothing around it."""
    each = {
        "at": NOW,
        "event": "pause",
        "to_phase": "paused",
        "weight_before": 5.0,
        "weight_after": 5.0,
        "reason": "[bold red]see [/] #12",
        "actor": "[link=x]me",
    }
    text = _text(transition_line(each))
    assert "[bold red]see [/] #12" in text
    assert "([link=x]me)" in text
    metrics = [_metric("refusal_rate", reason="[/red] [bold]y")]
    view = status_view(_status(why="[/nope] [bold]x", metrics=metrics), now=NOW)
    assert "[/nope] [bold]x" in _text(view)
    assert "[/red] [bold]y" in _text(view)


@pytest.mark.parametrize(
    ("log10_e", "shown"),
    [(-9.0, "<0.01"), (-0.5, "0.32"), (0.0, "1"), (1.301, "20"), (2.5, "316"), (9.7, "5e+09")],
)
def test_e_values_are_readable(log10_e: float, shown: str) -> None:
    """An e-value is written as a number as long as people can read it."""
    assert e_value(log10_e) == shown
    assert e_value(5000.0) == "10^5000"


def test_times_are_readable() -> None:
    """Instants are told as how long ago, durations in one unit."""
    assert [ago(NOW - back, NOW) for back in (-5, 0, 59, 120, 7200, 200_000)] == [
        "0 s ago",
        "0 s ago",
        "59 s ago",
        "2 min ago",
        "2 h ago",
        "2 d ago",
    ]
    assert [duration(each) for each in (0, 90, 600, 7200, 604_800)] == [
        "0 s",
        "90 s",
        "10 min",
        "2 h",
        "7 d",
    ]
