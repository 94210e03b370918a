"""What routes promise, read from files next to the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.settings import Settings, load_settings

SETTINGS = """
deployments:
  v6: {base_url: "http://127.0.0.1:9/v1", model: m}
routes:
  bot:
    baseline: v6
    known_failures: known.yaml
"""
KNOWN = """
cases:
  - number: 1
    title: promised a refund
    messages: [{role: user, content: "Can I have my money back?"}]
    must: {excludes: [you will get a refund]}
"""


def _load(folder: Path, known: str | None, more: str = "") -> Settings:
    (folder / "coalmine.yaml").write_text(SETTINGS + more)
    if known is not None:
        (folder / "known.yaml").write_text(known)
    return load_settings(folder / "coalmine.yaml", {})


def test_known_failures_are_read_from_a_file(tmp_path: Path) -> None:
    """Relative to the settings, in YAML."""
    (case,) = _load(tmp_path, KNOWN).routes["bot"].known_failures.cases
    assert (case.number, case.version, case.must.excludes) == (1, 1, ("you will get a refund",))


@pytest.mark.parametrize(
    ("known", "field", "match"),
    [
        (None, "routes.bot.known_failures", "can't read"),
        ("cases: [", "routes.bot.known_failures", "not YAML"),
        ("- 1", "routes.bot.known_failures", "mapping"),
        (KNOWN.replace("number: 1", "number: 2"), "routes.bot.known_failures.cases",
         "case 1 is missing"),
        (KNOWN.replace("excludes", "exclude"), "routes.bot.known_failures.cases.0.must.exclude",
         "no setting"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_named(
    tmp_path: Path, known: str | None, field: str, match: str
) -> None:
    """With the setting that names it, and what is wrong in it."""
    with pytest.raises(SettingsError, match=match) as caught:
        _load(tmp_path, known)
    assert caught.value.field == field


def test_a_classifiers_folder_is_next_to_the_settings(tmp_path: Path) -> None:
    """A relative path is taken from there, wherever the worker is started."""
    more = "refusal: {decider: local, local: {path: models/refusals}}\n"
    local = _load(tmp_path, KNOWN, more).refusal.local
    assert local is not None
    assert local.path == tmp_path / "models" / "refusals"
