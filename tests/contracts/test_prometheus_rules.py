"""The scrape configuration and the rules: valid, documented, and about metrics that exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import Settings
from rollout.states import Phase

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"


def groups() -> Any:
    """Return the rule groups."""
    return yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8"))["groups"]


def rules(kind: str) -> list[Any]:
    """Return all rules of a kind: ``alert`` or ``record``."""
    return [rule for group in groups() for rule in group["rules"] if kind in rule]


def recorded() -> dict[str, frozenset[str]]:
    """Return the recorded series with the labels that they keep."""
    found = {}
    for rule in rules("record"):
        kept = re.findall(r"by \(([^)]*)\)", rule["expr"])
        labels = {label.strip() for part in kept for label in part.split(",")}
        found[rule["record"]] = frozenset(labels - {"le"})
    return found


@pytest.fixture(scope="session")
def promtool() -> str:
    """The promtool program; a test that needs it is skipped without, or fails where asked to."""
    path = shutil.which("promtool")
    if path is None:
        message = "promtool is not installed (Debian: apt-get install prometheus)"
        if os.environ.get("COALMINE_REQUIRE_ALL") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path


def run(*command: str, folder: Path = FOLDER) -> str:
    """Run a program that must end well, and return what it says."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.needs_prometheus
def test_promtool_accepts_the_rules(promtool: str) -> None:
    """Prometheus can parse every expression and every template of the rules."""
    found = re.search(r"(\d+) rules found", run(promtool, "check", "rules", "rules.yml"))
    assert found
    assert int(found[1]) == len(rules("alert")) + len(rules("record"))


@pytest.mark.needs_prometheus
def test_the_rules_fire_when_they_should_and_only_then(promtool: str) -> None:
    """The rules' own unit tests pass."""
    assert "SUCCESS" in run(promtool, "test", "rules", "rules_test.yml")


@pytest.mark.needs_prometheus
def test_promtool_accepts_the_scrape_configurations(promtool: str, tmp_path: Path) -> None:
    """Every scrape configuration loads, for Kubernetes without the discovery Debian leaves out."""
    run(promtool, "check", "config", "prometheus.yml")
    run(promtool, "check", "config", "compose.yml")
    document = yaml.safe_load((FOLDER / "kubernetes.yml").read_text(encoding="utf-8"))
    [discovery] = document["scrape_configs"][0].pop("kubernetes_sd_configs")
    assert discovery["role"] == "pod"
    shutil.copy(FOLDER / "rules.yml", tmp_path)
    (tmp_path / "kubernetes.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    run(promtool, "check", "config", "kubernetes.yml", folder=tmp_path)


def test_rules_use_declared_metrics_and_labels(faults: Callable[..., list[str]]) -> None:
    """A rule names only metrics and labels that a process exports or another rule records."""
    wrong = [
        f"{rule.get('alert', rule.get('record'))}: {fault}"
        for rule in (*rules("alert"), *rules("record"))
        for fault in faults(rule["expr"], recorded())
    ]
    assert not wrong


def test_templates_use_labels_that_the_alert_has(
    declared: dict[str, frozenset[str]], taken_apart: Callable[[str], Any]
) -> None:
    """$labels.x in an annotation is a label that the expression keeps."""
    known = declared | recorded()
    for rule in rules("alert"):
        query = taken_apart(rule["expr"])
        labels = query.groupings
        if not labels:
            labels = frozenset().union(*(known[name] for name in query.metrics))
        for text in rule["annotations"].values():
            assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels, rule["alert"]


def test_phases_in_rules_exist(taken_apart: Callable[[str], Any]) -> None:
    """A phase that an alert waits for is one of the table of transitions."""
    phases = {phase.value for phase in Phase}
    seen = set()
    for rule in rules("alert"):
        for _, label, value in taken_apart(rule["expr"]).matchers:
            if label == "phase":
                seen |= set(value.split("|"))
    assert seen
    assert seen <= phases


def test_every_alert_says_what_to_do() -> None:
    """Every alert has a severity, a one-line summary, a description and an action."""
    names = [rule["alert"] for rule in rules("alert")]
    assert len(names) == len(set(names))
    for rule in rules("alert"):
        assert rule["alert"].startswith("Coalmine")
        assert set(rule["labels"]) == {"severity"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description", "action"}
        for text in rule["annotations"].values():
            assert len(text) > 20, rule["alert"]


def test_every_alert_is_tested_both_ways() -> None:
    """rules_test.yml has a moment at which each alert fires and one at which nothing does."""
    document = yaml.safe_load((FOLDER / "rules_test.yml").read_text(encoding="utf-8"))
    fired: set[str] = set()
    silent = 0
    for test in document["tests"]:
        for case in test["promql_expr_test"]:
            if not case["expr"].startswith("ALERTS"):
                continue
            silent += not case["exp_samples"]
            for sample in case["exp_samples"]:
                fired |= set(re.findall(r'alertname="(\w+)"', sample["labels"]))
    assert fired == {rule["alert"] for rule in rules("alert")}
    assert silent >= len(fired)


def test_every_alert_is_documented() -> None:
    """The table of alerts in deploy/README.md has every alert with its severity."""
    text = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| (Coalmine\w+) \| (\w+) \|", text, re.MULTILINE))
    assert listed == {rule["alert"]: rule["labels"]["severity"] for rule in rules("alert")}


def test_recorded_series_are_used() -> None:
    """A series is recorded because a dashboard or an alert asks for it."""
    asked = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "grafana" / "dashboards").glob("*.json")
    )
    asked += "".join(rule["expr"] for rule in rules("alert"))
    for rule in rules("record"):
        assert rule["record"] in asked
        assert re.fullmatch(r"coalmine:[a-z_]+:[a-z0-9_]+", rule["record"])


def test_scraped_ports_are_the_default_ports() -> None:
    """`coalmine up` with its defaults is scraped by prometheus.yml as it is."""
    settings = Settings()
    document = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in document["scrape_configs"]
    }
    gateway, worker, control = settings.gateway, settings.worker, settings.control
    assert targets == {
        "coalmine-gateway": [f"{gateway.metrics_host}:{gateway.metrics_port}"],
        "coalmine-worker": [f"{worker.metrics_host}:{worker.metrics_port}"],
        "coalmine-control": [f"{control.host}:{control.port}"],
    }
    compose = yaml.safe_load((FOLDER / "compose.yml").read_text(encoding="utf-8"))
    ports = {job["job_name"]: job["dns_sd_configs"][0]["port"] for job in compose["scrape_configs"]}
    assert ports == {
        "coalmine-gateway": gateway.metrics_port,
        "coalmine-worker": worker.metrics_port,
        "coalmine-control": control.port,
    }
