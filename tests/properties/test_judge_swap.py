"""Swapping the arms flips the comparison; nothing an answer says changes how it is fenced."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import Contract
from shadow.answer import Answer, Choice, ToolCall
from shadow.checks import run_checks
from shadow.compare import decide_by_checks
from shadow.judge.pairwise import combine
from shadow.judge.parse import Unparsed, Verdict, parse_verdict
from shadow.judge.prompt import material, render
from shadow.pair import Arm, Pair, Prompt, ResponseFormat

NONCE = "f00dfeedf00dfeed"
sides = st.sampled_from(["A", "B", "tie"])
flip = {"A": "B", "B": "A", "tie": "tie"}
contents = st.one_of(st.sampled_from(["", "{}", "[]", '{"a": 1}', " same  text", "same text"]),
                     st.text(max_size=40))  # fmt: skip
choices = st.builds(
    Choice,
    text=contents,
    refusal=st.sampled_from([None, "I can't."]),
    tool_calls=st.lists(st.builds(ToolCall, st.sampled_from("fg"), contents), max_size=2).map(
        tuple
    ),
    finish_reason=st.sampled_from(["stop", "length", None]),
)
arms = st.one_of(
    st.builds(Arm, st.builds(Answer, choices.map(lambda choice: (choice,)))),
    st.just(Arm(Answer(error="status 500"), 500)),
    st.just(Arm(Answer(error="no response"), None, latency_s=1.0, timed_out=True)),
)
prompts = st.sampled_from(
    [
        Prompt("chat/completions"),
        Prompt("chat/completions", response_format=ResponseFormat("json_object")),
        Prompt("chat/completions", raw_tools=({"type": "function"},)),
    ]
)


@given(ab=sides, ba=sides)
def test_exchanging_the_arms_flips_the_judges_comparison(ab: str, ba: str) -> None:
    """With the arms exchanged the same two prompts are asked in the other order."""
    made = combine(ab, ba)  # type: ignore[arg-type]
    exchanged = combine(ba, ab)  # type: ignore[arg-type]
    assert exchanged == made.swapped()
    assert exchanged.score == -made.score


@given(ab=sides, ba=sides)
def test_exchanging_the_letters_flips_it_too(ab: str, ba: str) -> None:
    """A judge that prefers the other answer everywhere gives the opposite result."""
    assert combine(flip[ab], flip[ba]) == combine(ab, ba).swapped()  # type: ignore[arg-type]


@given(prompt=prompts, baseline=arms, candidate=arms, slo=st.sampled_from([None, 0.5]))
def test_exchanging_the_arms_flips_what_the_checks_decide(
    prompt: Prompt, baseline: Arm, candidate: Arm, slo: float | None
) -> None:
    """Invariant 8 for everything that is decided without a judge."""
    pair = Pair(prompt, baseline, candidate, Contract(max_words=3), slo)
    here, there = run_checks(pair), run_checks(pair.swapped())
    for one, other in zip(here, there, strict=True):
        assert (one.baseline, one.candidate) == (other.candidate, other.baseline)
    decided, turned = decide_by_checks(pair, here), decide_by_checks(pair.swapped(), there)
    assert (decided is None) == (turned is None)
    if decided and turned:
        expected = None if decided.score is None else -decided.score
        assert turned.score == expected
        assert turned.decided_by == decided.decided_by


@given(first=st.text(), second=st.text(), rubric=st.text(max_size=20))
def test_no_answer_can_leave_its_fence(first: str, second: str, rubric: str) -> None:
    """Whatever the answers contain, each fence opens and closes exactly once."""
    data = material(Prompt("x"), Answer((Choice(first),)), Answer((Choice(second),)))
    user = render(rubric=rubric, material=data, nonce=NONCE)[1]["content"]
    for name in ("ANSWER_A", "ANSWER_B", "CONVERSATION", "TOOLS"):
        assert user.count(f"<<<{name} ") == user.count(f"<<<END_{name} ") == 1
        assert re.search(rf"<<<{name} {NONCE}>>>\n.*\n<<<END_{name} {NONCE}>>>", user, re.DOTALL)


@given(
    verdict=st.text(max_size=6) | sides,
    a=st.integers(-3, 13) | st.floats(allow_nan=False) | st.text(max_size=2),
    extra=st.dictionaries(st.text(max_size=4), st.integers(), max_size=1),
)
def test_only_verdicts_of_the_schema_are_accepted(
    verdict: str, a: float | str, extra: dict[str, int]
) -> None:
    """A verdict is accepted exactly when it is in the schema."""
    document = {
        **extra,
        "evidence": "e",
        "verdict": verdict,
        "scores": {"A": a, "B": 5},
        "severity": "none",
    }
    parsed = parse_verdict(json.dumps(document))
    good = (
        verdict in {"A", "B", "tie"}
        and isinstance(a, int)
        and 1 <= a <= 10
        and not extra.keys() - {"evidence", "verdict", "scores", "severity"}
    )
    assert isinstance(parsed, Verdict if good else Unparsed)


@given(text=st.text(max_size=200))
def test_arbitrary_replies_never_raise(text: str) -> None:
    """Any reply is a verdict or is not."""
    assert isinstance(parse_verdict(text), Verdict | Unparsed)
