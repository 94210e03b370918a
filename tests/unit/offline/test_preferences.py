"""Which answer is the better one, and the rows that trainers read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest

from shadow.offline.cases import schema_of
from shadow.offline.material import Judged, Preferred, preferred
from shadow.offline.request import ExportRequest
from shadow.offline.rows import Origin, rows_of

Build = Callable[..., Any]

TOOL = {"type": "function", "function": {"name": "refund", "parameters": {"type": "object"}}}

# What https://huggingface.co/docs/trl/dataset_formats says of preference data with an explicit
# prompt: lists of messages with role and content, or three texts.
TRL_MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"enum": ["system", "user", "assistant", "tool"]},
        "content": {"type": "string"},
        "tool_calls": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "function"],
                "properties": {
                    "type": {"const": "function"},
                    "function": {
                        "type": "object",
                        "required": ["name", "arguments"],
                        "properties": {
                            "name": {"type": "string"},
                            "arguments": {"type": "object"},
                        },
                    },
                },
            },
        },
    },
}
TRL_CONVERSATIONAL = {
    "type": "object",
    "required": ["prompt", "chosen", "rejected"],
    "properties": {
        **{
            name: {"type": "array", "minItems": 1, "items": TRL_MESSAGE}
            for name in ("prompt", "chosen", "rejected")
        },
        "tools": {
            "type": "array",
            "items": {"type": "object", "required": ["type", "function"]},
        },
    },
}
TRL_STANDARD = {
    "type": "object",
    "required": ["prompt", "chosen", "rejected"],
    "properties": {name: {"type": "string"} for name in ("prompt", "chosen", "rejected")},
}


def failed(**arms: str) -> dict[str, Any]:
    """Stored checks in which an arm failed the check named."""
    return {
        name: {
            "baseline": {"outcome": "fail" if arm == "baseline" else "pass"},
            "candidate": {"outcome": "fail" if arm == "candidate" else "pass"},
        }
        for name, arm in arms.items()
    }


def asked(**fields: Any) -> ExportRequest:
    """An export of preferences."""
    return ExportRequest.model_validate({"kind": "preferences", "rollout": "bot-v7", **fields})


def row_of(material: Any, origin: Origin, **fields: Any) -> dict[str, Any]:
    """The one row of a pair."""
    rows = rows_of(material, asked(**fields), origin)
    assert isinstance(rows, list), rows
    [row] = rows
    return dict(json.loads(row.body))


@pytest.mark.parametrize(
    ("result", "winner", "score"),
    [
        ("win", "candidate", 1.0),
        ("lean_win", "candidate", 0.5),
        ("lean_loss", "baseline", 0.5),
        ("loss", "baseline", 1.0),
    ],
)
def test_the_judges_verdict_is_a_preference(
    material: Build, result: str, winner: str, score: float
) -> None:
    """A win prefers the candidate, a loss the baseline, a lean half as strongly."""
    assert preferred(material(result=result)) == Preferred(winner, "judge", score)  # type: ignore[arg-type]


@pytest.mark.parametrize("result", ["inconsistent", "tie"])
def test_what_both_orders_do_not_agree_on_is_no_preference(material: Build, result: str) -> None:
    """An inconsistent pair and a tie teach nothing, whatever else is asked for."""
    assert preferred(material(result=result)) == result


@pytest.mark.parametrize("outcome", ["judge_error", "budget_exhausted", "unjudgeable"])
def test_a_missing_verdict_is_no_preference(material: Build, outcome: str) -> None:
    """An error of the judge, an empty budget and an unjudgeable pair give no row."""
    comparison = {"decided_by": None, "result": "error", "score": None}
    assert preferred(material(outcome=outcome, comparison=comparison)) == outcome


def test_people_outrank_the_judge(material: Build) -> None:
    """A human label decides against the judge, and a human tie takes its verdict back."""
    assert preferred(material(result="loss", label=1.0)) == Preferred("candidate", "human", 1.0)
    assert preferred(material(result="inconsistent", label=0.0)) == Preferred(
        "baseline", "human", 1.0
    )
    assert preferred(material(result="win", label=0.5)) == "human_tie"


def test_a_failed_check_is_the_rejected_answer(material: Build) -> None:
    """The arm that broke its contract loses; where both did, there is nothing to learn."""
    broken = failed(format_valid="candidate")
    assert preferred(material(checks=broken, comparison={"decided_by": "check"})) == Preferred(
        "baseline", "check", 1.0, ("format_valid",)
    )
    both = failed(format_valid="candidate", tool_contract="baseline")
    assert preferred(material(checks=both)) == "both_failed"


def test_people_never_prefer_a_broken_contract(material: Build) -> None:
    """A label for an answer that fails a hard check is no lesson in breaking contracts."""
    found = preferred(material(checks=failed(format_valid="candidate"), label=1.0))
    assert found == "human_against_check"


def test_a_soft_check_decides_only_where_it_is_asked_for(material: Build) -> None:
    """A refusal may be right: it makes a preference by --metric and not by itself."""
    refused = material(result="tie", checks=failed(refusal_rate="candidate"))
    assert preferred(refused) == "tie"
    assert preferred(refused, metric="refusal_rate") == Preferred(
        "baseline", "check", 1.0, ("refusal_rate",)
    )
    broken = failed(refusal_rate="candidate", format_valid="baseline")
    assert preferred(material(checks=broken), metric="refusal_rate") == "both_failed"


@pytest.mark.parametrize("stream", ["noise", "live"])
def test_only_mirrored_pairs_compare_two_models(material: Build, stream: str) -> None:
    """A pair of the baseline with itself, and a live answer, prefer nobody."""
    assert preferred(material(stream=stream)) == "one_answer"


def test_the_margin_is_in_points_for_the_winner(material: Build, origin: Origin) -> None:
    """The judge's scores of both orders are averaged from the winner's side, and can be asked for.

    In AB the baseline is A; in BA the candidate is.
    """
    judged = (
        Judged("AB", "judge-1", {"A": 9, "B": 4}),
        Judged("BA", "judge-1", {"A": 6, "B": 7}),
    )
    pair = material(result="loss", judged=judged)
    found = preferred(pair)
    assert isinstance(found, Preferred)
    assert found.margin == pytest.approx(3.0)
    assert row_of(pair, origin, min_margin=3)["metadata"]["margin"] == pytest.approx(3.0)
    assert rows_of(pair, asked(min_margin=3.5), origin) == "below_min_margin"
    assert rows_of(material(), asked(min_margin=1), origin) == "below_min_margin"


def test_leans_are_left_out_unless_asked_for(material: Build, origin: Origin) -> None:
    """By default only what both orders agree on is exported."""
    lean = material(result="lean_loss")
    assert rows_of(lean, asked(), origin) == "below_min_score"
    assert row_of(lean, origin, min_score=0.5)["metadata"]["score"] == 0.5


def test_sources_can_be_chosen(material: Build, origin: Origin) -> None:
    """Preferences of people alone leave out what the judge says."""
    assert rows_of(material(), asked(sources=["human", "check"]), origin) == "other_source"
    assert row_of(material(label=0.0), origin, sources=["human"])["metadata"]["source"] == "human"


def test_rows_have_trls_conversational_layout(
    material: Build, answer: Build, origin: Origin
) -> None:
    """Prompt, chosen and rejected are messages; tools and arguments are objects, roles TRL's."""
    call = {"id": "c1", "type": "function"}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": t} for t in ("Refund ", "A1")]},
        {"role": "assistant", "content": None, "tool_calls": [
            {**call, "function": {"name": "find", "arguments": '{"order": "A1"}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
    ]  # fmt: skip
    calls = [{**call, "function": {"name": "refund", "arguments": '{"order": "A1"}'}}]
    pair = material(
        answer(None, tool_calls=calls), "Can't.", request={"messages": messages, "tools": [TOOL]}
    )
    row = row_of(pair, origin)
    jsonschema_rs.validate(TRL_CONVERSATIONAL, row)
    jsonschema_rs.validate(schema_of("preferences"), row)
    assert [each["role"] for each in row["prompt"]] == ["system", "user", "assistant", "tool"]
    assert row["prompt"][1]["content"] == "Refund A1"
    assert row["chosen"] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"type": "function", "function": {"name": "refund", "arguments": {"order": "A1"}}}
            ],
        }
    ]
    assert row["rejected"] == [{"role": "assistant", "content": "Can't."}]
    assert row["tools"] == [TOOL]


def test_no_tools_no_column(material: Build, origin: Origin) -> None:
    """Where no tools were on offer the row has just the three columns and its metadata."""
    assert set(row_of(material(), origin)) == {"prompt", "chosen", "rejected", "metadata"}


def test_rows_have_trls_standard_layout(material: Build, origin: Origin) -> None:
    """As text a single question stands by itself, and a conversation names who speaks."""
    row = row_of(material(), origin, format="text")
    jsonschema_rs.validate(TRL_STANDARD, row)
    jsonschema_rs.validate(schema_of("text-preferences"), row)
    assert row["prompt"] == "How long does a refund take?"
    assert (row["chosen"], row["rejected"]) == ("The refund takes five days.", "No idea.")
    messages = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "Hi"}]
    several = row_of(material(request={"messages": messages}), origin, format="text")
    assert several["prompt"] == "system: Brief.\n\nuser: Hi\n\nassistant:"
    assert several["chosen"] == " The refund takes five days."


def test_what_has_no_place_in_a_column_of_text_is_left_out(
    material: Build, answer: Build, origin: Origin
) -> None:
    """Images, errors, empty and cut answers, and tool calls as plain text give no row."""
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    assert rows_of(material(request={"messages": image}), asked(), origin) == "not_text"
    assert rows_of(material(None), asked(), origin) == "one_answer"
    assert rows_of(material(candidate=answer("")), asked(), origin) == "no_text"
    cut = answer("The refund takes", finish_reason="length")
    assert rows_of(material(cut), asked(), origin) == "chosen_cut"
    call = [{"id": "c", "type": "function", "function": {"name": "refund", "arguments": "{}"}}]
    pair = material(answer(None, tool_calls=call))
    assert rows_of(pair, asked(format="text"), origin) == "not_text"


def test_a_row_tells_where_it_comes_from(material: Build, origin: Origin) -> None:
    """Pair, capture, who said so, deployments, revisions, rubric and version are in each row."""
    pair = material(judged=(Judged("AB", "judge-1", {"A": 8, "B": 3}),))
    metadata = row_of(pair, origin)["metadata"]
    expected = {
        "rollout": "bot-v7", "generation": 1, "pair_id": 7, "capture_id": "c7",
        "request_id": "r7", "source": "judge", "score": 1.0, "margin": 5.0, "chosen": "baseline",
        "segment": "billing", "baseline": "v6", "baseline_revision": "rev6", "candidate": "v7",
        "candidate_revision": "rev7", "judge": "judge-1", "rubric_hash": "rubric",
        "code_version": "1.0", "captured_at": 10.0, "finished_at": 20.0,
    }  # fmt: skip
    assert {name: metadata[name] for name in expected} == expected
