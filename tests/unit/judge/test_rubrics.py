"""Rubrics by route: which words the judge is given, and that they are told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import SettingsError
from gateway.settings import Settings, load_settings
from shadow.judge.rubrics import BUILT_IN, read_rubrics


def settings(**route: Any) -> Settings:
    """Return settings with a judge and two routes, of which one has its own words."""
    return Settings.model_validate(
        {
            "deployments": {
                "v6": {"base_url": "http://127.0.0.1:1/v1", "model": "m"},
                "judge": {"base_url": "http://127.0.0.1:2/v1", "model": "j"},
            },
            "routes": {"plain": {"baseline": "v6"}, "own": {"baseline": "v6", **route}},
            "judge": {"deployment": "judge"},
        }
    )


def test_the_default_names_the_usual_criteria() -> None:
    """Without a word of one's own: accuracy, helpfulness and completeness, clarity, format."""
    rubric = read_rubrics(settings()).of("plain")
    assert rubric.id == BUILT_IN
    for criterion in (
        "Accuracy",
        "Helpfulness and completeness",
        "Clarity and concision",
        "Format",
    ):
        assert criterion in rubric.text


def test_criteria_are_added_to_the_rubric() -> None:
    """A route's sentences come on top, under a name and a hash of their own."""
    rubrics = read_rubrics(settings(criteria=["It names the ticket's number."]))
    own, plain = rubrics.of("own"), rubrics.of("plain")
    assert own.text.startswith(plain.text.rstrip())
    assert "- It names the ticket's number." in own.text
    assert own.id == "built-in+own"
    assert own.digest != plain.digest
    assert rubrics.of("unknown") == rubrics.of(None) == plain


def test_a_route_may_have_a_rubric_of_its_own(tmp_path: Path) -> None:
    """It replaces the judge's; the file is taken from the settings' folder."""
    (tmp_path / "support.md").write_text("Only kindness counts.")
    config = tmp_path / "coalmine.yaml"
    config.write_text(
        "deployments: {v6: {base_url: 'http://127.0.0.1:1/v1', model: m}}\n"
        "routes: {own: {baseline: v6, rubric: support.md}}\n"
    )
    rubric = read_rubrics(load_settings(config, {})).of("own")
    assert (rubric.id, rubric.text) == ("support", "Only kindness counts.")


@pytest.mark.parametrize("text", [None, "  \n"])
def test_a_rubric_without_words_is_refused(text: str | None, tmp_path: Path) -> None:
    """A missing or empty file is named with its setting."""
    path = tmp_path / "r.md"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_rubrics(settings(rubric=str(path)))
    assert caught.value.field == "routes.own.rubric"


@pytest.mark.parametrize(
    ("judge", "field"),
    [
        ({"deployment": "judge", "first_stage": {}}, "judge.first_stage"),
        ({"deployment": "judge", "first_stage": {"deployment": "x"}}, "judge.first_stage"),
        ({"deployment": "judge", "first_stage": {"deployment": "judge"}}, "judge.first_stage"),
        ({"deployment": "judge", "first_stage": {"deployment": "v6"}}, "judge.first_stage"),
        ({"deployment": "judge", "orders": "one"}, "judge.orders"),
        (
            {"deployment": "judge", "first_stage": {"local": {"path": "m", "tie_band": 0.5}}},
            "tie_band",
        ),
    ],
)
def test_wrong_stages_are_named(judge: dict[str, Any], field: str, tmp_path: Path) -> None:
    """Neither or both kinds of first stage, an unknown one, the judge itself, an arm: refused."""
    config = tmp_path / "coalmine.yaml"
    document = settings().model_dump(mode="json", exclude_none=True)
    config.write_text(
        json.dumps({**{k: document[k] for k in ("deployments", "routes")}, "judge": judge})
    )
    with pytest.raises(SettingsError) as caught:
        load_settings(config, {})
    assert field in str(caught.value)
