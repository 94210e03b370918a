"""The mistakes that evaluators are known for, and that this one must not make.

One test for each, named after the mistake; those of an offline gate belong there (label extraction,
ordered thresholds, code that exits).
"""

from __future__ import annotations

import ast
import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.errors import SpecError
from gateway.store.evidence import Evidence
from gateway.store.tables import JudgmentRow
from rollout.evidence import OVERALL, EvidenceState, start_evidence
from rollout.folding import fold
from rollout.measuring import measurements
from rollout.spec import RolloutSpec, load_spec
from rollout.spec_metrics import LATENCIES, RELATIVE_METRICS, MetricName
from rollout.steps import plan
from rollout.verdicts import verdicts
from shadow.answer import Answer, Choice, read_answer
from shadow.boilerplate import NOT_REMEMBERED
from shadow.checks import CHECKS, run_checks
from shadow.compare import Decision, decide_by_checks, decide_by_judge, identical
from shadow.evidence import pair_payload
from shadow.fingerprint import fingerprint
from shadow.judge.cache import cache_key
from shadow.judge.client import Reply
from shadow.judge.judge import Judge, Judged
from shadow.judge.parse import Unparsed, Verdict, parse_verdict
from shadow.judge.prompt import material
from shadow.metrics import WorkerMetrics
from shadow.pair import read_prompt

Build = Callable[..., Any]

ROOT = Path(__file__).parents[3]


class _Client:
    """A judge that says what a function makes of the prompt; counts what it was asked."""

    model = "judge-1"
    parameters: dict[str, Any] = {"temperature": 0}  # noqa: RUF012 - never changed

    def __init__(self, say: Callable[[str], str]) -> None:
        self.say = say
        self.asked: list[str] = []

    async def ask(self, messages: Callable[[], list[dict[str, str]]]) -> Reply:
        question = messages()[1]["content"]
        self.asked.append(question)
        return Reply(self.say(question), "judge-1", None, 10, 10, 0.5)

    async def close(self) -> None:
        """Nothing is open."""


class _Free:
    """A budget without end."""

    async def reserve(self, *, calls: int, microusd: int) -> bool:
        return True

    async def settle(self, *, calls: int, microusd: int) -> None:
        """Nothing to give back."""


def _says(verdict: str, **scores: int) -> str:
    document = {
        "evidence": "e", "verdict": verdict, "severity": "none",
        "scores": {"A": scores.get("A", 5), "B": scores.get("B", 5)},
    }  # fmt: skip
    return json.dumps(document)


def _judge(pair: Any, client: _Client, cache: Any = None) -> Judged:
    count = iter(range(1000))
    judge = Judge(
        client,  # type: ignore[arg-type]
        endpoint="http://judge.test",
        rubric="r",
        nonce=lambda: f"nonce{next(count):06d}",
        cache=cache,
    )
    return asyncio.run(judge.compare(pair, _Free()))


def _spec(*metrics: dict[str, Any]) -> RolloutSpec:
    return load_spec(
        {
            "name": "v2",
            "route": "bot",
            "candidate": {"deployment": "new"},
            "analysis": {"metrics": list(metrics) or [{"name": "judge_win_rate", "margin": 0.1}]},
        }
    )


def _facts(spec: RolloutSpec, *scores: float | None, **failures: list[int]) -> EvidenceState:
    facts = [
        Evidence(
            "pair",
            100.0 + number,
            {
                "pair_id": number, "capture_id": "c", "cluster": None,
                "judge": "error" if score is None else "tie" if score == 0 else "win",
                "score": score, "failures": failures, "values": {},
            },
        )
        for number, score in enumerate(scores)
    ]  # fmt: skip
    return fold(start_evidence(spec), enumerate(facts, 1), spec)


def test_judging_one_order_only(pair: Build) -> None:
    """Every pair is asked about twice, sides exchanged, and a judge that says A wins nothing."""
    client = _Client(lambda _text: _says("A"))
    judged = _judge(pair("plain", "GOOD"), client)
    assert [each.order for each in judged.judgments] == ["AB", "BA"]
    first, second = client.asked
    assert first.index("plain") < first.index("GOOD")
    assert second.index("GOOD") < second.index("plain")
    assert judged.comparison is not None
    assert (judged.comparison.result, judged.comparison.score) == ("inconsistent", 0.0)


@pytest.mark.parametrize(
    "reply",
    [_says("C"), _says("a"), _says("AB"), _says("not A"), _says("A", A=11), _says("tie ").lower(),
     "A", "The better one is A.", '{"verdict": "A"}', _says("A") + " or B", "[]", ""],
)  # fmt: skip
def test_counting_a_verdict_the_schema_does_not_allow(pair: Build, reply: str) -> None:
    """It is no verdict at all: an error, never a win, a loss or a tie."""
    assert isinstance(parse_verdict(reply), Unparsed)
    judged = _judge(pair("x", "y"), _Client(lambda _text: reply))
    decision = decide_by_judge(judged)
    assert (judged.status, decision.judge, decision.score) == ("judge_error", "error", None)


def test_scores_from_one_order_only(pair: Build) -> None:
    """The points of both orders count for both arms, so that a liking for A cancels out."""
    judged = _judge(pair("plain", "GOOD"), _Client(lambda _text: _says("tie", A=9, B=3)))
    metrics = WorkerMetrics(CollectorRegistry())
    finished = SimpleNamespace(
        judgments=[_row(each.order, each.verdict) for each in judged.judgments],
        columns={"comparison": decide_by_judge(judged).to_json()},
    )
    metrics.judgments("r", finished)  # type: ignore[arg-type]
    text = generate_latest(metrics.registry).decode()
    for variant in ("baseline", "candidate"):
        labels = f'rollout="r",stage="final",variant="{variant}"'
        assert f"coalmine_judge_score_count{{{labels}}} 2.0" in text
        assert f"coalmine_judge_score_sum{{{labels}}} 12.0" in text


def _row(order: str, verdict: Any, *, cached: bool = False, latency_s: float = 0.5) -> JudgmentRow:
    return JudgmentRow(
        pair_id=1, rollout_id=1, order=order, verdict=verdict.verdict,
        scores=verdict.scores.model_dump(), model="m", latency_s=latency_s, cached=cached,
        created_at=0.0,
    )  # fmt: skip


def test_zipping_lists_of_different_length(pair: Build) -> None:
    """Answers with a different number of choices are different, and no zip drops a rest."""
    one = Choice("same", finish_reason="stop")
    assert not identical(Answer((one,)), Answer((one, one)))
    assert not identical(Answer((one, one)), Answer((one,)))
    assert decide_by_checks(pair(Answer((one,)), Answer((one, one))), ()) is None
    loose = []
    for folder in ("gateway", "shadow", "rollout"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "zip":
                    strict = [each for each in node.keywords if each.arg == "strict"]
                    if not strict:
                        loose.append(f"{path.name}:{node.lineno}")
    assert loose == []


def test_dividing_by_zero_pairs() -> None:
    """Without a pair there is no estimate and no bound, and nothing passes."""
    spec = _spec({"name": "judge_win_rate"}, {"name": "format_valid"}, {"name": "cost"})
    for measured in measurements(start_evidence(spec), spec):
        assert (measured["estimate"], measured["low"], measured["high"]) == (None, None, None)
        assert measured["pairs"] == 0
        assert measured["verdict"] != "pass"


def test_a_missing_key_or_judge_that_ends_in_a_pass() -> None:
    """A judge that fails, is not there or ran out of money gives no score, and blocks."""
    for status in ("judge_error", "budget_exhausted", "unjudgeable"):
        assert decide_by_judge(Judged(status)).score is None  # type: ignore[arg-type]
    spec = _spec({"name": "judge_win_rate"}, {"name": "format_valid", "margin": 0.05})
    without_judge = _facts(spec, *[None] * 300, format_valid=[0, 0])
    said = {each.metric: each.verdict for each in verdicts(without_judge, spec)}
    assert said["judge_win_rate"] == "no_data"
    assert said["format_valid"] == "pass"
    without_key = _facts(spec, *[0.0] * 300)
    said = {each.metric: each.verdict for each in verdicts(without_key, spec)}
    assert said["format_valid"] == "no_data"


def test_treating_zero_as_missing() -> None:
    """A tie is a verdict of 0.0 and counts; only None is missing."""
    spec = _spec()
    known = _facts(spec, 0.0, None, 0.0).metrics["judge_win_rate"].paired[OVERALL]
    assert (known.n, known.mean) == (2, 0.0)
    free = read_answer(
        endpoint="chat/completions",
        body='{"choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": 0}}',
    )
    assert free.usage.output_tokens == 0


def test_reading_a_metric_under_the_wrong_name(pair: Build) -> None:
    """Every name that a spec knows has a producer, and one that has none is refused."""
    made = pair()
    checks = (*run_checks(made), NOT_REMEMBERED)
    payload = pair_payload(
        pair_id=1, capture_id="c", cluster=None, pair=made, checks=checks,
        decision=Decision("compared", "tie", 0.0),
    )  # fmt: skip
    times = {"latency": "latency", "ttft": "ttft", "inter_token_latency": "inter_token"}
    for name in get_args(MetricName):
        if name == "judge_win_rate":
            assert "score" in payload
        elif name in LATENCIES:
            assert times[name] in payload["values"]
        elif name in RELATIVE_METRICS:
            assert name in payload["values"]
        else:
            assert name in payload["failures"]
    assert {check.name for check in CHECKS} <= set(get_args(MetricName))
    with pytest.raises(SpecError, match="refusals"):
        _spec({"name": "refusals"})


def test_hashing_the_text_of_a_dict() -> None:
    """Keys hash what is meant: the order of members changes nothing, a value does."""
    one = {"role": "user", "content": "hello"}
    other = {"content": "hello", "role": "user"}
    assert str(one) != str(other)
    assert fingerprint([one]) == fingerprint([other])

    def key(parameters: dict[str, Any]) -> str:
        prompt = read_prompt(endpoint="chat/completions", body='{"messages": []}')
        data = material(prompt, Answer((Choice("a"),)), Answer((Choice("b"),)))
        return cache_key(endpoint="e", model="m", parameters=parameters, rubric="r", material=data)

    assert key({"seed": 0, "temperature": 0}) == key({"temperature": 0, "seed": 0})
    assert key({"seed": 0, "temperature": 0}) != key({"temperature": 0, "seed": 1})


@pytest.mark.parametrize("percent", [0.29, 0.57, 0.58, 1.1, 2.3, 29, 57, "29%", "0.29%"])
def test_cutting_a_share_down_instead_of_rounding(percent: Any) -> None:
    """`int(0.29 * 100)` is 28: a weight is the nearest basis point."""
    spec = load_spec(
        {
            "name": "v2", "route": "bot", "candidate": {"deployment": "new"},
            "steps": [{"mirror": {"min_pairs": 50}}, {"set_weight": percent}],
        }
    )  # fmt: skip
    number = float(str(percent).rstrip("%"))
    weights = {step.weight_bp for step in plan(spec)}
    assert round(number * 100) in weights
    assert f"{number * 100:.6f}".rstrip("0").rstrip(".") in {str(each) for each in weights}


def test_cutting_a_prompt_off_an_answer_by_characters() -> None:
    """What the client saw is judged: an answer that repeats or shortens its prompt stays whole."""
    for text in ("Once upon a time", "Once upon a time there was a fox", " there was a fox", "On"):
        body = json.dumps({"choices": [{"text": text, "finish_reason": "stop"}]})
        assert read_answer(endpoint="/v1/completions", body=body).text == text


def test_claiming_that_temperature_zero_is_reproducible(pair: Build) -> None:
    """A judge that changes its mind changes nothing: what it said is kept, and used again."""
    kept = {
        "verdict": Verdict.model_validate_json(_says("B", A=2, B=8)).model_dump(mode="json"),
        "model": "judge-1",
        "fingerprint": "fp",
    }
    client = _Client(lambda _text: _says("A"))
    judged = _judge(pair("x", "y"), client, SimpleNamespace(get=lambda _key: kept))
    assert client.asked == []
    assert [each.cached for each in judged.judgments] == [True, True]
    assert {each.verdict.verdict for each in judged.judgments if each.verdict} == {"B"}


def test_latency_taken_from_a_cache(pair: Build) -> None:
    """A kept verdict took no time, and no time is observed for it."""
    metrics = WorkerMetrics(CollectorRegistry())
    verdict = parse_verdict(_says("tie"))
    rows = [_row("AB", verdict, cached=True, latency_s=0.0), _row("BA", verdict, latency_s=2.0)]
    comparison = Decision("compared", "tie", 0.0, "judge").to_json()
    finished = SimpleNamespace(judgments=rows, columns={"comparison": comparison})
    metrics.judgments("r", finished)  # type: ignore[arg-type]
    text = generate_latest(metrics.registry).decode()
    assert "coalmine_judge_call_duration_seconds_count 1.0" in text
    assert "coalmine_judge_call_duration_seconds_sum 2.0" in text


def test_a_point_estimate_at_a_gate() -> None:
    """Eight wins of eight are an estimate far above the margin, and no proof of anything."""
    spec = _spec({"name": "judge_win_rate", "margin": 0.05})
    few = _facts(spec, *[1.0] * 8)
    (measured,) = measurements(few, spec)
    assert measured["estimate"] == 1.0
    assert measured["low"] < 0.5
    assert measured["verdict"] == "inconclusive"
    (later,) = verdicts(_facts(spec, *[1.0] * 200), spec)
    assert later.verdict == "pass"
