"""What people copy from deploy/ works: settings, rollout, manifests, compose, commands."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from pydantic import BaseModel

from gateway.settings import (
    Client,
    Contract,
    ControlSettings,
    Deployment,
    Escalation,
    GatewaySettings,
    JudgeHealthSettings,
    JudgeSettings,
    Manifest,
    Route,
    Settings,
    WorkerSettings,
    load_settings,
)
from gateway.settings_privacy import (
    CustomRule,
    PresidioSettings,
    RedactionRules,
    RedactionSettings,
    RetentionSettings,
)
from gateway.settings_review import RouteReview
from rollout.cli import _COMMANDS
from rollout.cli.lazy import load
from rollout.spec import RolloutSpec, load_spec

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
EXAMPLES = DEPLOY / "examples"
KUBERNETES = DEPLOY / "kubernetes"

SECTIONS: dict[str, type[BaseModel]] = {
    "deployments": Deployment,
    "manifest": Manifest,
    "routes": Route,
    "review": RouteReview,
    "contract": Contract,
    "escalation": Escalation,
    "judge": JudgeSettings,
    "health": JudgeHealthSettings,
    "clients": Client,
    "redaction": RedactionSettings,
    "rules": RedactionRules,
    "custom": CustomRule,
    "presidio": PresidioSettings,
    "retention": RetentionSettings,
    "gateway": GatewaySettings,
    "worker": WorkerSettings,
    "control": ControlSettings,
}


def read(path: Path) -> Any:
    """Return a YAML document."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def manifests() -> Iterator[Any]:
    """Yield every Kubernetes object of the manifests."""
    for path in sorted(KUBERNETES.glob("*.yaml")):
        if path.name != "kustomization.yaml":
            for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
                assert document, path.name
                yield document


def workloads() -> dict[str, Any]:
    """Return the deployments by name."""
    return {item["metadata"]["name"]: item for item in manifests() if item["kind"] == "Deployment"}


def resolve(words: list[str]) -> Any:
    """Return the command that ``coalmine words…`` runs. Fails where there is none."""
    assert words[0] in _COMMANDS, f"no command is called {words[0]}"
    command = load(words[0], _COMMANDS[words[0]].target)
    for word in words[1:]:
        children = getattr(command, "commands", None)
        if children is None:
            break
        assert word in children, f"{words[0]} has no command {word}"
        command = children[word]
    assert getattr(command, "commands", None) is None, f"{' '.join(words)} is no whole command"
    return command


def test_the_example_settings_load() -> None:
    """coalmine.yaml is valid as it is, wherever it is loaded from, with its files found."""
    settings = load_settings(EXAMPLES / "coalmine.yaml", {})
    route = settings.routes["support-bot"]
    assert route.contract is not None
    assert route.contract.json_schema == json.loads(
        (EXAMPLES / "ticket.schema.json").read_text(encoding="utf-8")
    )
    assert settings.judge is not None
    assert Path(settings.judge.rubric or "").read_text(encoding="utf-8").strip()


def test_the_example_shows_every_setting() -> None:
    """A reader finds each setting that there is, written out or as a comment."""
    text = (EXAMPLES / "coalmine.yaml").read_text(encoding="utf-8")
    sections: dict[str, type[BaseModel]] = {"": Settings, **SECTIONS}
    for section, model in sections.items():
        for name in model.model_fields:
            assert re.search(rf"^[\s#-]*(.*[{{,]\s*)?{name}:", text, re.MULTILINE), (section, name)


def test_the_example_says_the_defaults() -> None:
    """Values of the sections that run processes are the defaults, as the file's head says."""
    settings = load_settings(EXAMPLES / "coalmine.yaml", {})
    defaults = Settings()
    assert settings.gateway == defaults.gateway
    assert settings.worker == defaults.worker
    assert settings.control == defaults.control
    assert settings.redaction == defaults.redaction
    assert settings.retention == defaults.retention
    assert settings.store_bodies is defaults.store_bodies
    assert (settings.store, settings.data_dir) == (defaults.store, defaults.data_dir)


def test_the_example_contract_tells_tickets_apart() -> None:
    """The example's schema accepts a ticket and refuses prose, other keys and a missing reply."""
    schema = json.loads((EXAMPLES / "ticket.schema.json").read_text(encoding="utf-8"))
    check = jsonschema_rs.validator_for(schema)
    ticket = {
        "category": "billing",
        "priority": "normal",
        "reply": "The invoice of 3 May is paid.",
        "needs_human": False,
        "order_ids": ["AB123456"],
    }
    assert check.is_valid(ticket)
    assert not check.is_valid("The invoice of 3 May is paid.")
    assert not check.is_valid({**ticket, "mood": "good"})
    assert not check.is_valid({**ticket, "category": "weather"})
    assert not check.is_valid({key: value for key, value in ticket.items() if key != "reply"})


def test_the_example_rollout_fits_the_example_settings() -> None:
    """rollout.yaml is a valid spec about a route and a candidate that coalmine.yaml declares."""
    spec = load_spec((EXAMPLES / "rollout.yaml").read_text(encoding="utf-8"))
    settings = load_settings(EXAMPLES / "coalmine.yaml", {})
    assert spec.route in settings.routes
    assert spec.candidate.deployment in settings.deployments
    assert spec.candidate.deployment != settings.routes[spec.route].baseline
    assert [step.set_weight for step in spec.steps if step.set_weight] == [5, 25, 50, 100]
    given = read(EXAMPLES / "rollout.yaml")
    assert set(given) == set(RolloutSpec.model_fields)


def test_kubernetes_objects_have_what_they_need() -> None:
    """Every object has kind, version, name and namespace, and kustomization lists its file."""
    listed = read(KUBERNETES / "kustomization.yaml")["resources"]
    present = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == present
    names = [(item["kind"], item["metadata"]["name"]) for item in manifests()]
    assert len(names) == len(set(names))
    for item in manifests():
        assert item["apiVersion"]
        if item["kind"] != "Namespace":
            assert item["metadata"]["namespace"] == "coalmine"


@pytest.mark.parametrize("name", ["coalmine-gateway", "coalmine-worker", "coalmine-control"])
def test_kubernetes_workloads_run_safely(name: str) -> None:
    """Each process is probed, runs without root or a writable image, and gets its secrets."""
    spec = workloads()[name]["spec"]
    template = spec["template"]
    labels = template["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    pod = template["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in (*pod["containers"], *pod.get("initContainers", [])):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert container["envFrom"] == [{"secretRef": {"name": "coalmine-secrets"}}]
        resolve(container["args"])
    [container] = pod["containers"]
    ports = {port["name"] for port in container["ports"]}
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
    assert container["resources"]["limits"]["memory"]


def test_kubernetes_gateways_drain_before_they_are_killed() -> None:
    """The grace period is longer than the pause before SIGTERM and the drain together."""
    pod = workloads()["coalmine-gateway"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    drain = GatewaySettings().drain_timeout
    assert pod["terminationGracePeriodSeconds"] > pause + drain
    worker = workloads()["coalmine-worker"]["spec"]["template"]["spec"]
    assert worker["terminationGracePeriodSeconds"] > WorkerSettings().drain_timeout
    assert "initContainers" not in pod, "a gateway starts without the store"


def test_kubernetes_services_reach_their_pods() -> None:
    """Services and disruption budgets select pods that exist, at ports that these have."""
    by_label = {
        item["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]: item
        for item in workloads().values()
    }
    kinds = [item for item in manifests() if item["kind"] in {"Service", "PodDisruptionBudget"}]
    assert {item["kind"] for item in kinds} == {"Service", "PodDisruptionBudget"}
    for item in kinds:
        selector = item["spec"]["selector"]
        target = by_label[selector.get("matchLabels", selector)["app.kubernetes.io/name"]]
        if item["kind"] == "Service":
            [container] = target["spec"]["template"]["spec"]["containers"]
            names = {port["name"] for port in container["ports"]}
            assert {port["targetPort"] for port in item["spec"]["ports"]} <= names
        else:
            assert item["spec"]["minAvailable"] < target["spec"]["replicas"]


def test_kubernetes_settings_load(tmp_path: Path) -> None:
    """The config map holds valid settings that listen where services and probes look."""
    [config] = [item for item in manifests() if item["kind"] == "ConfigMap"]
    for name, text in config["data"].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    store = "postgresql+psycopg://coalmine:secret@postgres/coalmine"
    settings = load_settings(tmp_path / "coalmine.yaml", {"COALMINE_STORE": store})
    assert settings.store == store
    ports = {
        name: {
            port["name"]: port["containerPort"]
            for port in item["spec"]["template"]["spec"]["containers"][0]["ports"]
        }
        for name, item in workloads().items()
    }
    assert ports == {
        "coalmine-gateway": {
            "http": settings.gateway.port,
            "metrics": settings.gateway.metrics_port,
        },
        "coalmine-worker": {"metrics": settings.worker.metrics_port},
        "coalmine-control": {"metrics": settings.control.port},
    }
    hosts = {settings.gateway.host, settings.gateway.metrics_host}
    assert hosts | {settings.worker.metrics_host, settings.control.host} == {"0.0.0.0"}


def test_compose_runs_real_commands() -> None:
    """Every Coalmine service of compose runs a command that exists, with its stop in time."""
    compose = read(DEPLOY / "compose.yaml")
    services = {
        name: service
        for name, service in compose["services"].items()
        if service["image"].startswith("coalmine:")
    }
    assert set(services) == {"migrate", "gateway", "worker", "control"}
    for service in services.values():
        resolve(service["command"])
    for name, drain in (
        ("gateway", GatewaySettings().drain_timeout),
        ("worker", WorkerSettings().drain_timeout),
    ):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > drain


def test_compose_settings_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of compose is read as settings, and names every key that they need."""
    environment = dict(read(DEPLOY / "compose.yaml")["services"]["gateway"]["environment"])
    environment["COALMINE_STORE"] = re.sub(
        r"\$\{\w+:\?[^}]*\}", "pw", environment["COALMINE_STORE"]
    )
    settings = load_settings(EXAMPLES / "coalmine.yaml", environment)
    assert settings.store == "postgresql+psycopg://coalmine:pw@postgres/coalmine"
    assert settings.gateway.host == settings.control.host == "0.0.0.0"
    needed = {client.key_env for client in settings.clients}
    needed |= {each.api_key_env for each in settings.deployments.values() if each.api_key_env}
    assert needed <= environment.keys()
    ours = {name for name in environment if name.startswith("COALMINE_")}
    sections = {name.removeprefix("COALMINE_").lower().split("__")[0] for name in ours}
    assert sections <= Settings.model_fields.keys()


def test_compose_mounts_and_publishes_what_exists() -> None:
    """Mounted files exist, named volumes are declared, and ports are on loopback only."""
    compose = read(DEPLOY / "compose.yaml")
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), f"{name}: {source}"
            else:
                assert source in compose["volumes"], f"{name}: {source}"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"
        for other in service.get("depends_on", []):
            assert other in compose["services"]


def test_the_image_is_built_from_what_exists() -> None:
    """Every file that the Dockerfile copies is there and not kept from the builder."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split("\n")
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert {"pyproject.toml", "gateway", "shadow", "rollout"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in allowed
    assert re.search(r"^USER \d+$", text, re.MULTILINE)
    [entry] = re.findall(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)
    assert json.loads(entry) == ["coalmine"]
    variables = re.findall(r"\bCOALMINE_(\w+)=", text)
    assert {name.lower() for name in variables} - {"config"} <= Settings.model_fields.keys()


def test_commands_that_we_tell_people_to_run_exist(
    commands_in: Callable[[str], Iterator[list[str]]],
) -> None:
    """Each `coalmine …` in deploy/, in panels and in alerts is a command of the CLI."""
    paths = [
        *DEPLOY.rglob("*.md"),
        *DEPLOY.rglob("*.y*ml"),
        *(ROOT / "grafana").glob("*.md"),
    ]
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}
    for path in (ROOT / "grafana" / "dashboards").glob("*.json"):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            texts[f"{path.name}: {panel['title']}"] = panel.get("description", "")
    seen = 0
    for place, text in texts.items():
        for words in commands_in(text):
            seen += 1
            plain = shlex.split(" ".join(words).replace("{{ $labels.rollout }}", "NAME"))
            try:
                resolve([word for word in plain if not word.startswith("-")])
            except AssertionError as error:
                raise AssertionError(f"{place}: coalmine {' '.join(words)}: {error}") from None
    assert seen > 20
