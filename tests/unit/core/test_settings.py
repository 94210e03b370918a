"""Settings are read, overridden and refused as their help says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.settings import Deployment, Settings, load_settings, parse_bytes, parse_duration
from gateway.settings_review import LEAST_PROBABILITY, RouteReview
from rollout.statistics.labels import LabelState

_MINIMAL = """
deployments:
  v6: {base_url: "http://127.0.0.1:8000/v1", model: support-v6}
  judge: {base_url: "https://judge.example/v1/", model: big, api_key_env: JUDGE_KEY}
routes:
  support: {baseline: v6}
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "coalmine.yaml"
    path.write_text(text)
    return path


def test_a_minimal_file_is_enough(tmp_path: Path) -> None:
    """What is not said has a default, and a trailing slash of a URL does not matter."""
    settings = load_settings(_write(tmp_path, _MINIMAL), {})
    assert settings.gateway.port == 8080
    assert settings.control.host == "127.0.0.1"
    assert settings.deployments["judge"].base_url == "https://judge.example/v1"
    assert settings.baseline_of("support") == "v6"


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """COALMINE_A__B sets a.b; a variable that is no setting is left alone."""
    settings = load_settings(
        _write(tmp_path, _MINIMAL + "gateway: {port: 1, host: 127.0.0.2}\n"),
        {
            "COALMINE_GATEWAY__PORT": "9999",
            "COALMINE_STORE": "postgresql://u@h/d",
            "COALMINE_URL": "http://elsewhere",
            "OTHER": "x",
        },
    )
    assert (settings.gateway.port, settings.gateway.host) == (9999, "127.0.0.2")
    assert settings.store == "postgresql+psycopg://u@h/d"


@pytest.mark.parametrize(
    ("text", "field", "remedy"),
    [
        ("gateway: {prot: 1}", "gateway.prot", "no setting"),
        ("gateway: {port: http}", "gateway.port", "integer"),
        ("gateway: {port: 70000}", "gateway.port", "65535"),
        ("gateway: {max_body_bytes: lots}", "gateway.max_body_bytes", "16MiB"),
        ("gateway: {drain_timeout: soon}", "gateway.drain_timeout", "15m"),
        ("deployments: {v: {base_url: nowhere, model: m}}", "deployments.v.base_url", "http"),
        (
            "deployments: {v: {base_url: 'http://u:p@h/v1', model: m}}",
            "deployments.v.base_url",
            "api_key_env",
        ),
        ("deployments: {v: {base_url: 'http://h/v1'}}", "deployments.v.model", "required"),
        (
            "deployments: {v: {base_url: 'http://h/v1', model: m, parameters: {stream: true}}}",
            "deployments.v.parameters",
            "stream",
        ),
        ("routes: {r: {baseline: v9}}", "routes.r.baseline", "declared are: none"),
        ("judge: {deployment: v9}", "judge.deployment", "declared are"),
        (
            (
                "deployments: {v: {base_url: 'http://h/v1', model: m}}\n"
                "routes: {r: {baseline: v}}\njudge: {deployment: v}"
            ),
            "judge.deployment",
            "never judges itself",
        ),
        (
            (
                "deployments: {v: {base_url: 'http://h/v1', model: m, "
                "dollars_per_million_input_tokens: 1}}"
            ),
            "deployments.v",
            "dollars_per_million_output_tokens is missing",
        ),
        (
            (
                "deployments: {v: {base_url: 'http://h/v1', model: m}}\n"
                "routes: {r: {baseline: v, contract: {escalation: {}}}}"
            ),
            "routes.r.contract.escalation",
            "name a tool",
        ),
        ("store: mysql://x", "store", "sqlite:///PATH"),
        ("- a list", "config", "mapping"),
        ("a: [", "config", "not YAML"),
        ("routes: {r: {baseline: v, segment: nowhere}}", "routes.r.segment", "header:NAME"),
        ("judge: {deployment: j, rubric: none.md}", "judge.rubric", "no such file"),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(
    tmp_path: Path, text: str, field: str, remedy: str
) -> None:
    """The error names the setting's path and says what would be right."""
    with pytest.raises(SettingsError) as caught:
        load_settings(_write(tmp_path, text), {})
    assert caught.value.field == field
    assert remedy in caught.value.message


def test_a_file_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    """A path given on purpose must exist."""
    with pytest.raises(SettingsError, match=r"none\.yaml"):
        load_settings(tmp_path / "none.yaml", {})
    with pytest.raises(SettingsError, match=r"gone\.yaml"):
        load_settings(None, {"COALMINE_CONFIG": str(tmp_path / "gone.yaml")})


def test_files_are_taken_from_the_settings_folder(tmp_path: Path) -> None:
    """A schema beside the settings is found whatever the working directory."""
    (tmp_path / "ticket.json").write_text(json.dumps({"type": "object"}))
    settings = load_settings(
        _write(
            tmp_path,
            _MINIMAL.replace("baseline: v6", "baseline: v6, contract: {json_schema: ticket.json}"),
        ),
        {},
    )
    contract = settings.routes["support"].contract
    assert contract is not None
    assert contract.json_schema == {"type": "object"}


def test_keys_come_from_the_environment_and_show_nowhere(tmp_path: Path) -> None:
    """The key is read when asked for, and neither settings nor key print it."""
    settings = load_settings(_write(tmp_path, _MINIMAL), {})
    key = settings.deployments["judge"].api_key({"JUDGE_KEY": "sk-secret"})
    assert key is not None
    assert key.get_secret_value() == "sk-secret"
    assert "sk-secret" not in f"{settings!r} {key!r} {key}"
    assert settings.deployments["v6"].api_key({}) is None


def test_a_deployments_revision_is_what_users_see() -> None:
    """Model, prompt, parameters and manifest change it; the key's variable and prices do not."""
    base = Deployment(base_url="http://h/v1", model="m")
    alike = Deployment(
        base_url="http://h/v1",
        model="m",
        api_key_env="K",
        dollars_per_million_input_tokens=1.0,
        dollars_per_million_output_tokens=2.0,
    )
    assert base.revision() == alike.revision()
    changed = [
        Deployment(base_url="http://h/v1", model="n"),
        Deployment(base_url="http://h/v1", model="m", system_prompt="Be brief."),
        Deployment(base_url="http://h/v1", model="m", parameters={"temperature": 0.0}),
        Deployment.model_validate(
            {"base_url": "http://h/v1", "model": "m", "manifest": {"adapter": "sha256:1"}}
        ),
    ]
    assert len({base.revision(), *(deployment.revision() for deployment in changed)}) == 5


@pytest.mark.parametrize(
    ("text", "size"),
    [("16MiB", 16 * 1024**2), ("4kB", 4000), ("12", 12), (7, 7), ("1.5 KiB", 1536)],
)
def test_sizes(text: str | int, size: int) -> None:
    """Sizes are numbers or numbers with a unit."""
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("30s", 30), ("1h30m", 5400), ("2", 2), (0.5, 0.5), ("1d", 86400)],
)
def test_durations(text: str | float, seconds: float) -> None:
    """Durations are seconds, or numbers with units."""
    assert parse_duration(text) == pytest.approx(seconds)


def test_review_settings_keep_what_the_statistics_rely_on() -> None:
    """The least probability is the labels' own; quota, reviewers and lease say what they accept."""
    assert LabelState.start(margin=0.05).min_probability == LEAST_PROBABILITY
    route = {"baseline": "a", "review": {"lease": "20m", "expert_only": True}}
    settings = Settings.model_validate(
        {"deployments": {"a": {"base_url": "http://h/v1", "model": "a"}}, "routes": {"r": route}}
    )
    assert settings.routes["r"].review == RouteReview(lease=1200, expert_only=True)
    for name, value in (
        ("probability", 0.04),
        ("probability", 1.1),
        ("weekly_quota", -1),
        ("reviewers_per_pair", 0),
        ("lease", "soon"),
        ("colour", 1),
    ):
        with pytest.raises(ValueError, match=name):
            RouteReview.model_validate({name: value})
