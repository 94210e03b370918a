"""The README and what it describes are the same thing."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic import BaseModel

from gateway import settings as settings_module
from gateway.settings import load_settings
from rollout.reference import with_blocks
from rollout.spec import load_spec

_ROOT = Path(__file__).parents[2]
_README = (_ROOT / "README.md").read_text(encoding="utf-8")


def test_generated_blocks_are_what_the_code_says() -> None:
    """Settings and phases in the README are current; `python -m rollout.reference README.md`."""
    assert with_blocks(_README) == _README


def test_every_setting_is_documented() -> None:
    """Each setting is declared with its help, nested ones too."""
    sections = [
        each
        for each in vars(settings_module).values()
        if isinstance(each, type) and issubclass(each, BaseModel) and each is not BaseModel
    ]
    assert len(sections) > 5
    missing = [
        f"{section.__name__}.{name}"
        for section in sections
        for name, field in section.model_fields.items()
        if not field.description
    ]
    assert missing == []


def test_the_examples_load(tmp_path: Path) -> None:
    """The YAML in the tour is accepted as it stands."""
    first, second, *parts = re.findall(r"```yaml\n(.*?)```", _README, flags=re.DOTALL)
    assert all(isinstance(yaml.safe_load(part), dict) for part in parts)
    path = tmp_path / "coalmine.yaml"
    path.write_text(first)
    settings = load_settings(path, {})
    spec = load_spec(yaml.safe_load(second))
    assert spec.route in settings.routes
    assert spec.candidate.deployment in settings.deployments


def test_what_a_route_declares_loads(tmp_path: Path) -> None:
    """The route and its known failures are accepted as they stand."""
    section = _README.partition("### What answers are checked for")[2].partition("\n### ")[0]
    route, known = re.findall(r"```text\n(.*?)```", section, flags=re.DOTALL)
    deployment = "deployments:\n  support-v6: {base_url: 'http://127.0.0.1:9/v1', model: m}\n"
    path = tmp_path / "coalmine.yaml"
    path.write_text(deployment + route)
    (tmp_path / "known-failures.yaml").write_text(known)
    declared = load_settings(path, {}).routes["support-bot"]
    assert declared.must_refuse == "metadata.must_refuse"
    assert len(declared.known_failures.cases) == 1


def test_every_file_on_the_map_exists() -> None:
    """A reader finds what the map of the code names."""
    _, _, table = _README.partition("## The code")
    named: list[str] = []
    for row in re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE):
        paths = re.findall(r"`([^`]+)`", row)
        folder = Path(paths[0]).parent
        named += [each if "/" in each else str(folder / each) for each in paths]
    assert len(named) > 15
    assert [each for each in named if not (_ROOT / each).exists()] == []


def test_every_make_target_named_exists() -> None:
    """Each `make X` in the README is a target of the Makefile."""
    makefile = (_ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z-]+)", _README))
    assert {"demo", "test"} <= named
    assert named <= targets
