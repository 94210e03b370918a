"""Metrics of the user's own, and the built-in ones that a spec may add."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest
from msgspec import structs

from gateway.errors import SpecError
from gateway.store.evidence import Evidence
from rollout.assessment import assess
from rollout.evidence import OVERALL, EvidenceState
from rollout.measuring import measurements
from rollout.policy import decide
from rollout.spec import load_spec
from rollout.spec_metrics import BINARY_METRICS, DEFAULT_MARGINS, MAX_CUSTOM, SIGNALS
from rollout.spec_schema import spec_json_schema
from rollout.verdicts import verdicts

NOW = 10_000.0
Make = Callable[..., Any]
BASE = {"name": "x", "route": "r", "candidate": {"deployment": "c"}}
GUARD = {"name": "error_rate", "margin": 0.05}
REOPENED = {"name": "reopened", "source": {"outcome": "reopened"}, "margin": 0.05}
ERRORS = {
    "name": "checkout_errors",
    "margin": 0.05,
    "source": {
        "prometheus": {
            "requests": 'sum(app_requests_total{variant="$variant"})',
            "failures": 'sum(app_errors_total{variant="$variant"})',
        }
    },
}
CACHE = {
    "name": "gpu_cache",
    "source": {"prometheus": {"query": 'cache{model="$deployment"}', "max": 0.9}},
    "consecutive_breach_limit": 3,
}


def _spec(*metrics: dict[str, Any]) -> Any:
    return load_spec({**BASE, "analysis": {"metrics": [GUARD, *metrics]}})


def _case(case: Make, *metrics: dict[str, Any], **analysis: Any) -> Any:
    limits = {"min_samples": 100, "min_duration": "10s", "max_duration": "30m"}
    return case(analysis={"metrics": [GUARD, *metrics], **limits, **analysis})


def _outcome(c: Any, variant: str, failure: int, **changes: Any) -> Evidence:
    payload = {
        "request_id": "q",
        "capture_id": None,
        "name": "reopened",
        "variant": variant,
        "weight_bp": c.evidence.weight_bp,
        "failure": failure,
        "cluster": None,
        **changes.pop("payload", {}),
    }
    return Evidence("outcome", NOW - 1, payload, **{"epoch": c.evidence.epoch, **changes})


def _counts(c: Any, candidate: tuple[int, int], baseline: tuple[int, int], **more: Any) -> Evidence:
    arms = {
        "candidate": {"requests": candidate[0], "failures": candidate[1]},
        "baseline": {"requests": baseline[0], "failures": baseline[1]},
    }
    payload = {
        "metric": "checkout_errors",
        "weight_bp": c.evidence.weight_bp,
        "seconds": 15.0,
        "arms": arms,
    }
    return Evidence("query", NOW - 1, payload, **{"epoch": c.evidence.epoch, **more})


def _value(value: float | None, error: str | None = None, at: float = NOW - 1) -> Evidence:
    breached = value is not None and value > 0.9
    payload = {"metric": "gpu_cache", "value": value, "breached": breached, "error": error}
    return Evidence("query", at, payload)


def _decide(c: Any) -> Any:
    return decide(c.evidence, c.spec, c.status, NOW)


def _verdict(c: Any, metric: str) -> Any:
    return next(each for each in verdicts(c.evidence, c.spec) if each.metric == metric)


def test_metrics_of_ones_own_are_read_and_dumped() -> None:
    """Sources survive the store, and an own metric has a margin without naming one."""
    spec = _spec(REOPENED, ERRORS, CACHE, {"name": "thumbs", "source": {"outcome": "thumbs.up"}})
    assert load_spec(json.dumps(spec.to_document())) == spec
    assert spec.metric("thumbs").margin == 0.01
    assert [metric.is_live_only for metric in spec.analysis.metrics] == [
        False,
        True,
        True,
        False,
        True,
    ]
    assert spec.metric("gpu_cache").is_threshold
    assert spec.metric("gpu_cache").source.prometheus.breached(0.91)
    assert spec.metric("gpu_cache").source.prometheus.breached(float("nan"))
    assert not spec.metric("gpu_cache").source.prometheus.breached(0.9)


def test_every_built_in_metric_can_be_named_alone_and_has_a_margin() -> None:
    """A name is enough for each of them, and the schema knows them all."""
    validator = jsonschema_rs.validator_for(spec_json_schema())
    assert {"ttft", "citation_valid", "inter_token_latency"} < set(BINARY_METRICS)
    for name, margin in DEFAULT_MARGINS.items():
        others = [] if name not in SIGNALS else [{"name": "error_rate"}]
        document = {**BASE, "analysis": {"metrics": [{"name": name}, *others]}}
        metric = load_spec(document).metric(name)
        assert metric is not None
        assert metric.margin == margin
        assert metric.is_guardrail == (name not in SIGNALS)
        assert validator.is_valid(document)


@pytest.mark.parametrize("name", SIGNALS)
def test_metrics_of_manner_act_where_that_is_said(name: str) -> None:
    """By default they only warn; a role that is written stands."""
    document = {**BASE, "analysis": {"metrics": [{"name": name, "role": "guardrail"}]}}
    metric = load_spec(document).metric(name)
    assert metric is not None
    assert metric.is_guardrail


def test_schema_knows_ones_own_metrics() -> None:
    """An editor accepts a name with a source and refuses one without."""
    validator = jsonschema_rs.validator_for(spec_json_schema())
    own = {**BASE, "analysis": {"metrics": [GUARD, REOPENED, ERRORS, CACHE]}}
    assert [error.message for error in validator.iter_errors(own)] == []
    assert not validator.is_valid({**BASE, "analysis": {"metrics": [{"name": "reopened"}]}})
    wrong = {**REOPENED, "name": "Re-opened"}
    assert not validator.is_valid({**BASE, "analysis": {"metrics": [GUARD, wrong]}})


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ({"name": "reopened"}, r"^analysis.metrics.1.name: is 'reopened'; .* have a source"),
        ({**REOPENED, "name": "latency"}, r"^analysis.metrics.1.source: latency is built in"),
        ({**REOPENED, "name": "Re-opened"}, r"^analysis.metrics.1.name: .*begins with a small"),
        ({**REOPENED, "name": "guardrails"}, r"^analysis.metrics.1.name: .*not reserved"),
        ({**REOPENED, "source": {}}, r"^analysis.metrics.1.source: a source is exactly one of"),
        ({**REOPENED, "source": {"outcome": ""}}, r"^analysis.metrics.1.source.outcome: "),
        ({**REOPENED, "slo": "4s"}, r"^analysis.metrics.1: slo belongs to latency"),
        (
            {**REOPENED, "consecutive_breach_limit": 2},
            r"^analysis.metrics.1: consecutive_breach_limit belongs to a query with a limit",
        ),
        (
            {"name": "a", "source": {"prometheus": {"requests": "x_$variant"}}},
            r"^analysis.metrics.1.source.prometheus.failures: is missing",
        ),
        (
            {"name": "a", "source": {"prometheus": {"requests": "x", "failures": "y_$variant"}}},
            r"^analysis.metrics.1.source.prometheus.requests: counts both arms as one",
        ),
        (
            {"name": "a", "source": {"prometheus": {"query": "x", "requests": "y"}}},
            r"^analysis.metrics.1.source.prometheus.query: give either",
        ),
        (
            {"name": "a", "source": {"prometheus": {"query": "x"}}},
            r"^analysis.metrics.1.source.prometheus.max: is missing",
        ),
        (
            {"name": "a", "source": {"prometheus": {"query": "x_$varaint", "max": 1}}},
            r"^analysis.metrics.1.source.prometheus.query: knows no \$varaint; known are \$variant",
        ),
        (
            {"name": "a", "source": {"prometheus": {"query": "x", "max": 1, "min": 2}}},
            r"^analysis.metrics.1.source.prometheus.min: is 2 and above max, 1",
        ),
        ({**CACHE, "critical": True}, r"^analysis.metrics.1: a query with a limit proves nothing"),
        ({"name": "ttft", "direction": "both"}, r"direction belongs to refusal_rate"),
    ],
)
def test_wrong_source_names_the_field_and_the_remedy(metric: dict[str, Any], message: str) -> None:
    """Each mistake is refused with the path of the field and what would be right."""
    with pytest.raises(SpecError, match=message):
        _spec(metric)


def test_number_of_ones_own_metrics_is_bounded() -> None:
    """Twelve are accepted, one more is not: each takes its part of the error budget."""
    own = [{"name": f"m{n}", "source": {"outcome": f"m{n}"}} for n in range(MAX_CUSTOM + 1)]
    assert len(_spec(*own[:-1]).analysis.metrics) == MAX_CUSTOM + 1
    with pytest.raises(SpecError, match="at most 12"):
        _spec(*own)


def test_a_guardrail_that_pairs_can_prove_is_needed() -> None:
    """With outcomes alone nothing could be known before users are served."""
    with pytest.raises(SpecError, match="no guardrail that pairs can prove"):
        load_spec({**BASE, "analysis": {"metrics": [REOPENED]}})


def test_outcome_counts_as_a_live_request_at_the_weight_it_names(case: Make) -> None:
    """A late outcome of an earlier weight of the same epoch keeps its own share."""
    c = _case(case, REOPENED)
    c.enter(1)
    c.enter(3)
    c.add(
        _outcome(c, "candidate", 1, payload={"weight_bp": 1000}),
        _outcome(c, "baseline", 0, payload={"weight_bp": 1000}),
        _outcome(c, "candidate", 0),
    )
    live = c.evidence.metrics["reopened"].live[OVERALL]
    assert [(each.share, each.requests, each.failures) for each in live.windows] == [
        (0.1, 2, 1),
        (c.evidence.weight_bp / 10_000, 1, 0),
    ]
    assert c.evidence.metrics["reopened"].baseline == (1, 0)
    assert c.evidence.metrics["error_rate"].live[OVERALL].n == 0


def test_outcome_of_an_ended_epoch_is_no_evidence(case: Make) -> None:
    """Days late, of an assignment that is over, it only tells how the baseline does."""
    c = _case(case, REOPENED)
    c.enter(1, epoch=5)
    before = c.evidence
    c.add(_outcome(c, "candidate", 1, epoch=4), _outcome(c, "baseline", 1, epoch=4))
    assert c.evidence.metrics["reopened"].live == before.metrics["reopened"].live
    assert c.evidence.metrics["reopened"].baseline == (1, 1)
    assert c.evidence.last_live_at == before.last_live_at


def test_outcome_or_query_that_cannot_be_read_is_missing_data(case: Make) -> None:
    """Impossible counts and unknown metrics change nothing but the count of such facts."""
    c = _case(case, REOPENED, ERRORS, CACHE)
    c.enter(1)
    before = c.evidence
    c.add(
        _outcome(c, "other", 1),
        _outcome(c, "candidate", 2),
        _counts(c, (10, 11), (90, 0)),
        Evidence("query", NOW, {"metric": "error_rate", "weight_bp": 1000, "arms": {}}, epoch=1),
        Evidence("query", NOW, {"metric": "gpu_cache", "value": 1.0, "breached": "yes"}),
        Evidence("label", NOW, {"pair_id": 1}),
    )
    assert c.evidence.unreadable == 5  # a label means nothing without judge_win_rate
    assert c.evidence.metrics == before.metrics


def test_own_guardrail_does_not_hold_shadow(case: Make) -> None:
    """Before anybody is served there is nothing to count, and that is no lack of data."""
    c = _case(case, REOPENED, ERRORS, CACHE)
    c.prove()
    assert _decide(c).action == "advance"
    assert _verdict(c, "reopened").verdict == "no_data"
    assert "only live requests tell" in _verdict(c, "reopened").reason


def test_own_guardrail_without_data_holds_a_live_step(case: Make) -> None:
    """At a weight it must have data, unless the spec says otherwise."""
    c = _case(case, REOPENED)
    c.prove()
    c.enter(1)
    c.add(*(c.pair() for _ in range(60)))
    c.serve()
    decision = _decide(c)
    assert decision.action == "hold"
    assert "no data on reopened" in decision.reason
    c = _case(case, {**REOPENED, "must_have_data": False})
    c.prove()
    c.enter(1)
    c.add(*(c.pair() for _ in range(60)))
    c.serve()
    assert _decide(c).action == "advance"


def test_own_guardrail_passes_without_harm_over_enough_requests(case: Make) -> None:
    """As for other live evidence: no harm over min_samples of the candidate's requests."""
    c = _case(case, {**REOPENED, "min_samples": 20})
    c.prove()
    c.enter(1)
    c.add(*(c.pair() for _ in range(60)))
    c.serve()
    c.add(*(_outcome(c, "candidate", int(n == 0)) for n in range(19)))
    c.add(*(_outcome(c, "baseline", int(n % 20 == 0)) for n in range(180)))
    decision = _decide(c)
    assert decision.action == "hold"
    assert "reopened not proven" in decision.reason
    assert "19 of 20 candidate requests" in _verdict(c, "reopened").reason
    c.add(_outcome(c, "candidate", 0))
    assert _decide(c).action == "advance"
    assert _verdict(c, "reopened").reason.startswith("no harm over 20 of the candidate's")


def test_live_proof_is_asked_of_ones_own_metrics_too(case: Make) -> None:
    """With require_live_proof the absence of harm is not enough, a proof is."""
    metric = {**ERRORS, "margin": 0.2, "min_samples": 10}
    for strict in (False, True):
        c = _case(case, metric, require_live_proof=strict)
        c.enter(1)
        c.add(_counts(c, (10, 1), (90, 9)))
        own = next(each for each in assess(c.evidence, c.spec) if each.metric.is_live_only)
        assert own.served == 10
        assert own.proven(c.spec) is not strict
    c.add(_counts(c, (300, 3), (2700, 27)))
    own = next(each for each in assess(c.evidence, c.spec) if each.metric.is_live_only)
    assert own.proven(c.spec)
    assert _verdict(c, "checkout_errors").reason.startswith("not worse by 0.2")


@pytest.mark.parametrize("metric", [REOPENED, ERRORS])
def test_harm_in_ones_own_metric_rolls_back(case: Make, metric: dict[str, Any]) -> None:
    """What only the business sees takes users off the candidate as anything else does."""
    c = _case(case, metric)
    c.prove()
    c.enter(1)
    if metric is ERRORS:
        c.add(*(_counts(c, (10, 4), (90, 1)) for _ in range(6)))
    else:
        c.add(*(_outcome(c, "candidate", int(n % 5 < 2)) for n in range(60)))
        c.add(*(_outcome(c, "baseline", int(n % 90 == 0)) for n in range(540)))
    decision = _decide(c)
    assert (decision.action, decision.metric) == ("rollback", metric["name"])
    assert _verdict(c, metric["name"]).verdict == "fail"


@pytest.mark.parametrize("busy", [False, True])
def test_failures_alone_are_enough_to_see_harm_and_busy_users_are_none(
    case: Make,
    busy: bool,
) -> None:
    """Shares are those of all requests, so that posting only failures neither hides nor makes harm.

    Where the candidate's users make 30% of the requests at a weight of 10%, 30% of the failures
    are as expected; where they make 10%, they are not.
    """
    c = _case(case, REOPENED)
    c.prove()
    c.enter(1)
    requests = 30 if busy else 10
    c.add(*(c.window(candidate=requests, baseline=100 - requests) for _ in range(100)))
    for _ in range(60):
        c.add(*(_outcome(c, "candidate", 1) for _ in range(3)))
        c.add(*(_outcome(c, "baseline", 1) for _ in range(7)))
    own = next(each for each in assess(c.evidence, c.spec) if each.metric.is_live_only)
    assert (own.log_e_harm < 1) is busy
    assert (_decide(c).action == "rollback") is not busy


def test_outcomes_of_one_segment_roll_back_by_themselves(case: Make) -> None:
    """Harm confined to a segment is found by outcomes as by pairs."""
    c = _case(case, REOPENED, segments=["category"])
    c.enter(1)
    for _ in range(25):
        c.add(*(_outcome(c, "baseline", 0, segment=f"s{n}") for n in range(9)))
        c.add(_outcome(c, "candidate", 0, segment="s1"))
        c.add(_outcome(c, "candidate", 1, segment="bad"))
    assert _decide(c).action == "rollback"
    found = {(each.metric, each.segment): each.verdict for each in _decide(c).verdicts}
    assert found["reopened", "bad"] == "fail"
    assert found["reopened", "s1"] != "fail"


def test_value_beyond_its_limit_holds_then_pauses_and_never_rolls_back(case: Make) -> None:
    """A threshold proves nothing about the candidate, so a person is asked."""
    c = _case(case, CACHE)
    c.prove()
    c.add(_value(0.95))
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("hold", None)
    assert "gpu_cache is 0.95, beyond its limit, 1 times" in decision.reason
    c.add(_value(0.95), _value(None, "timed out"), _value(0.99))
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("pause", "limit")
    assert _verdict(c, "gpu_cache").verdict == "fail"
    c.add(*(_value(1.0) for _ in range(500)), _value(0.5))
    assert _decide(c).action == "advance"
    assert _verdict(c, "gpu_cache").verdict == "pass"


def test_value_that_cannot_be_read_holds_a_live_step_and_then_pauses(case: Make) -> None:
    """An error is neither within the limit nor beyond it, and never widens."""
    c = _case(case, CACHE)
    c.prove()
    c.add(_value(0.5))
    c.enter(1)
    c.add(*(c.pair() for _ in range(60)))
    c.serve()
    assert _decide(c).action == "advance"
    c.add(_value(None, "connection refused"))
    assert _decide(c).action == "hold"
    assert _verdict(c, "gpu_cache").verdict == "error"
    c.status = replace(c.status, step_started_at=NOW - 10_000)
    c.add(c.pair())
    c.evidence = c.evidence.evolve(metrics=_stale(c.evidence))
    decision = _decide(c)
    assert (decision.action, decision.pause_reason) == ("pause", "no_data")
    assert "gpu_cache could not be read" in decision.reason


def _stale(evidence: EvidenceState) -> dict[str, Any]:
    known = evidence.metrics["gpu_cache"]
    assert known.reading is not None
    reading = structs.replace(known.reading, at=NOW - 9_000)
    return {**evidence.metrics, "gpu_cache": known.evolve(reading=reading)}


def test_signal_with_a_limit_only_warns(case: Make) -> None:
    """A breach of a signal is shown and holds nothing."""
    c = _case(case, {**CACHE, "role": "signal"})
    c.prove()
    c.add(*(_value(1.0) for _ in range(5)))
    assert _decide(c).action == "advance"
    assert _verdict(c, "gpu_cache").verdict == "fail"


def test_state_with_ones_own_metrics_goes_through_json(case: Make) -> None:
    """Counts, readings, labels and open clusters survive the store, bit for bit."""
    judge = {"name": "judge_win_rate", "margin": 0.1}
    refusal = {"name": "refusal_rate", "direction": "both"}
    for clusters in ("mean", "first"):
        c = _case(case, judge, refusal, REOPENED, ERRORS, CACHE, clusters=clusters)
        pair = c.pair(score=0.5, judge="lean_win", failures={"refusal_rate": [0, 1]})
        c.add(replace(pair, payload={**pair.payload, "cluster": "u1"}), c.pair(), _value(0.95))
        c.add(Evidence("label", NOW, {"pair_id": 1, "label": 1, "judge": 0.75, "probability": 0.5}))
        c.enter(1)
        c.add(_outcome(c, "candidate", 1), _counts(c, (10, 0), (90, 1)), _value(None, "no"))
        again = EvidenceState.from_json(json.loads(json.dumps(c.evidence.to_json())))
        assert again == c.evidence
        assert again.metrics["gpu_cache"].reading is not None
        assert bool(again.open) == (clusters == "mean")
        assert (again.seen is not None) == (clusters == "first")


def test_state_of_an_older_version_is_read(case: Make) -> None:
    """A rollout that runs while Coalmine is updated goes on."""
    c = case()
    c.add(c.pair())
    document = c.evidence.to_json()
    del document["open"], document["seen"]
    for metric in document["metrics"].values():
        del metric["reverse"], metric["labels"], metric["reading"]
    again = EvidenceState.from_json(document)
    assert again.metrics["format_valid"] == c.evidence.metrics["format_valid"]
    c.evidence = again
    label = {"pair_id": 1, "label": 1, "judge": 1.0, "probability": 1.0}
    c.add(c.pair(), Evidence("label", NOW, label))
    assert (c.evidence.pairs, c.evidence.unreadable) == (2, 0)
    assert c.evidence.metrics["judge_win_rate"].labels.n == 1


def test_measurements_show_live_figures_labels_and_readings(case: Make) -> None:
    """Explain and the API have the numbers behind each verdict."""
    judge = {"name": "judge_win_rate", "margin": 0.1, "min_human_labels": 5}
    c = _case(case, judge, REOPENED, CACHE)
    label = {"pair_id": 1, "label": 1, "judge": 1.0, "probability": 1.0}
    c.add(*(c.pair(score=1.0, judge="win") for _ in range(9)))
    c.add(*(Evidence("label", NOW, label) for _ in range(3)), _value(0.95))
    c.enter(1)
    c.add(*(_outcome(c, "candidate", int(n < 3)) for n in range(10)))
    c.add(*(_outcome(c, "baseline", int(n < 9)) for n in range(90)))
    found = {each["metric"]: each for each in measurements(c.evidence, c.spec)}
    assert found["judge_win_rate"]["labels"]["n"] == 3
    assert found["judge_win_rate"]["labels"]["required"] == 5
    assert found["judge_win_rate"]["labels"]["low"] is not None
    assert found["reopened"]["estimate"] == pytest.approx(0.2)
    assert -1 <= found["reopened"]["low"] < 0.2 < found["reopened"]["high"] <= 1
    assert found["reopened"]["live"]["candidate_failures"] == 3
    assert found["gpu_cache"]["reading"]["breaches"] == 1
    assert found["gpu_cache"]["reading"]["max"] == 0.9
    assert found["error_rate"]["reading"] is None
