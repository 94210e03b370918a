"""A real Prometheus on a running system: every panel and every rule has something to show."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gateway.prompts import load_prompts
from gateway.store import open_store
from rollout.demo.scene import FAST, ROUTE, Scene, build_scene, simulator_document
from rollout.demo.traffic import Traffic
from rollout.states import FINISHED, Phase
from rollout.supervisor import Supervisor

pytestmark = pytest.mark.needs_prometheus

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = ("rollout", "gateway", "shadow-and-judge")

# A candidate that is good in shadow, is given a fifth of the users, and then fails: so there are
# fallbacks, a rollback with its time to zero, and metrics of every phase on the way. It goes on
# from shadow once Prometheus has seen it there, so that every change is between two scrapes.
CANDIDATE = "support-v7"
SPEC: dict[str, Any] = {
    "kind": "Rollout",
    "name": CANDIDATE,
    "route": ROUTE,
    "candidate": {"deployment": CANDIDATE},
    "mirror": {
        "percentage": 60,
        "adaptive": False,
        "max_concurrency": 48,
        "timeout": "10s",
        "noise_probe": "5%",
    },
    "steps": [
        {"mirror": {"min_pairs": 120, "max_duration": "10m"}},
        {"pause": {"approval": True}},
        {"set_weight": 20},
        {"analysis": {"min_samples": 100, "min_duration": "10m", "max_duration": "1h"}},
        {"set_weight": 100},
    ],
    "analysis": {
        "metrics": [
            {"name": "judge_win_rate", "margin": 0.2},
            {"name": "format_valid", "margin": 0.1},
            {"name": "error_rate", "margin": 0.1, "critical": True},
            {"name": "latency", "slo": "2s", "margin": 0.05, "role": "signal"},
            {"name": "output_tokens", "margin": "25%", "role": "signal"},
        ],
        "segments": ["category"],
    },
}
FAILING = {"error_rate": 0.9}

VARIABLES = {
    "$__rate_interval": "20s",  # what Grafana makes of a scrape interval of 5 s
    "$rollback_budget": "0.05",
    "$promote_budget": "0.05",
    "$segment": "all",
    "$rollout": CANDIDATE,
    "$route": ROUTE,
}

# What a system without faults has nothing to say about. Prometheus accepts these queries all the
# same, which the tests hold too.
SILENT_PANELS = {
    ("gateway", "Captures shed"): "the capture buffer is never full",
    ("shadow-and-judge", "Win rate by people"): "nobody reviews meanwhile",
    ("shadow-and-judge", "Anchor agreement"): "anchors are judged again a day later",
    ("shadow-and-judge", "Refusals decided by a model"): "no model is asked",
    ("shadow-and-judge", "Values replaced and captures withheld"): "no capture is withheld",
}
SILENT_SELECTORS = {
    'coalmine_captures_total{outcome="shed"}': "the capture buffer is never full",
    "coalmine_judge_drifted": "anchors are judged again a day later",
    'coalmine_judge_calls_total{result="error"}': "the simulated judge does not fail",
    'coalmine_requests_total{code="5xx"}': "the baseline answers what the candidate fails",
}

_START_S = 60.0
_ROLLOUT_S = 300.0
_DATA_S = 60.0


@dataclass(frozen=True)
class Panel:
    """One query of one panel."""

    dashboard: str
    title: str
    expression: str


@dataclass
class Seen:
    """What Prometheus answered: the values of each query, and the state of each rule."""

    phase: str
    panels: dict[Panel, list[float]] = field(default_factory=dict)
    annotations: dict[str, list[float]] = field(default_factory=dict)
    variables: dict[str, list[str]] = field(default_factory=dict)
    selectors: dict[str, list[float]] = field(default_factory=dict)
    rules: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)


def dashboard(name: str) -> Any:
    """Return a shipped dashboard."""
    path = ROOT / "grafana" / "dashboards" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def substituted(expression: str) -> str:
    """Return the query as Grafana would send it."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


def queries() -> Iterator[Panel]:
    """Yield every query of every panel."""
    for name in DASHBOARDS:
        for panel in dashboard(name)["panels"]:
            for target in panel.get("targets", []):
                yield Panel(name, panel["title"], substituted(target["expr"]))


def selectors() -> set[str]:
    """Return every series that an alert or a recording rule selects, without its range."""
    found = set()
    text = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8")
    for group in yaml.safe_load(text)["groups"]:
        for rule in group["rules"]:
            found |= set(re.findall(r"\b(?:coalmine|gen_ai)_\w+(?:\{[^}]*\})?", rule["expr"]))
            found |= set(re.findall(r"\bup\{[^}]*\}", rule["expr"]))
            found |= set(re.findall(r"\bcoalmine:\w+:\w+", rule["expr"]))
    return found


@pytest.fixture(scope="module")
def prometheus_program() -> str:
    """The prometheus program; without it the tests are skipped, or fail where asked to."""
    path = shutil.which("prometheus")
    if path is None:
        message = "prometheus is not installed (Debian: apt-get install prometheus)"
        if os.environ.get("COALMINE_REQUIRE_ALL") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="module")
def seen(prometheus_program: str, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What Prometheus has after a rollout that went from shadow to users and back."""
    return asyncio.run(_watch(prometheus_program, tmp_path_factory.mktemp("prometheus")))


def test_every_process_is_scraped(seen: Seen) -> None:
    """The shipped scrape configuration reaches gateway, worker and control."""
    assert seen.targets == dict.fromkeys(
        ("coalmine-gateway", "coalmine-worker", "coalmine-control"), "up"
    )


def test_every_panel_has_data(seen: Seen) -> None:
    """Every query of every panel returns numbers from a running system."""
    titles = {(panel.dashboard, panel.title) for panel in seen.panels}
    assert titles >= SILENT_PANELS.keys(), "a panel listed as silent no longer exists"
    assert len(seen.panels) > 60
    empty = [
        f"{panel.dashboard} / {panel.title}: {panel.expression}"
        for panel, values in seen.panels.items()
        if not values and (panel.dashboard, panel.title) not in SILENT_PANELS
    ]
    assert not empty, "\n".join(empty)


def test_every_rule_is_evaluated(seen: Seen) -> None:
    """Prometheus evaluates every rule without an error."""
    text = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8")
    groups = yaml.safe_load(text)["groups"]
    names = {rule.get("alert") or rule["record"] for group in groups for rule in group["rules"]}
    assert seen.rules.keys() == names
    assert {name: rule["health"] for name, rule in seen.rules.items()} == dict.fromkeys(names, "ok")
    assert not [rule["lastError"] for rule in seen.rules.values() if rule.get("lastError")]


def test_every_rule_looks_at_series_that_exist(seen: Seen) -> None:
    """Each series that a rule selects is there, but for those that only faults make."""
    assert seen.selectors.keys() >= SILENT_SELECTORS.keys(), "a listed selector no longer exists"
    empty = [
        selector
        for selector, values in seen.selectors.items()
        if not values and selector not in SILENT_SELECTORS
    ]
    assert not empty


def test_the_rollback_is_told(seen: Seen) -> None:
    """The candidate that fails its users is rolled back, and the alert says so by name."""
    assert seen.phase == Phase.ROLLED_BACK
    [alert] = seen.rules["CoalmineRolledBack"]["alerts"]
    assert alert["state"] == "firing"
    assert alert["labels"]["rollout"] == CANDIDATE
    assert alert["annotations"]["summary"] == f"{CANDIDATE} was rolled back on {ROUTE}"


def test_a_healthy_system_has_no_other_alarm(seen: Seen) -> None:
    """Nothing but the candidate's own failure is alarming."""
    firing = {
        name
        for name, rule in seen.rules.items()
        for alert in rule.get("alerts", [])
        if alert["state"] == "firing"
    }
    assert firing == {"CoalmineRolledBack"}


def test_annotations_mark_the_transitions(seen: Seen) -> None:
    """Phases and weight changes are marked on the rollout's graphs."""
    assert seen.annotations.keys() == {"Transitions", "Weight changes"}
    assert all(seen.annotations.values())


def test_variables_offer_what_there_is(seen: Seen) -> None:
    """The lists at the top of each dashboard offer the route, the rollout and its segments."""
    for name, values in seen.variables.items():
        expected = VARIABLES[f"${name.rpartition('/')[2]}"]
        assert expected in values, name


async def _watch(program: str, folder: Path) -> Seen:
    simulator = simulator_document(seed=5, time_scale=FAST.simulator_time_scale)
    prices = {
        "dollars_per_million_input_tokens": 2.0,
        "dollars_per_million_output_tokens": 8.0,
    }
    scene = build_scene(
        folder,
        simulator=simulator,
        pace=FAST,
        changes={"judge": {"deployment": "judge", "max_concurrency": 64, **prices}},
    )
    store = open_store(scene.settings.store)
    await asyncio.to_thread(store.migrate)
    store.close()
    supervisor = Supervisor(scene.parts(), drain_timeout=15.0)
    traffic = Traffic(scene.gateway_url, ROUTE, load_prompts(), rate=60.0, seed=5)
    stop = asyncio.Event()
    try:
        await supervisor.start(ready_within=_START_S)
        async with _prometheus(program, scene) as ask:
            users = asyncio.create_task(traffic.run(stop))
            try:
                phase = await _play(scene, ask)
                return await _gather(ask, phase)
            finally:
                stop.set()
                await users
    finally:
        await supervisor.stop()


async def _play(scene: Scene, ask: httpx.AsyncClient) -> str:
    """Take the candidate from shadow to users, let it fail, and return the rollout's last phase."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _ROLLOUT_S
    rollout = f"{scene.control_url}/api/v1/rollouts/{CANDIDATE}"
    failing = f"http://127.0.0.1:{scene.simulator_port}/sim/models/{CANDIDATE}"
    weight = f'coalmine_rollout_weight_ratio{{rollout="{CANDIDATE}"}}[10m]'
    requests = f'coalmine_requests_total{{route="{ROUTE}",variant="candidate"}}[10m]'
    shadowed = f"min_over_time({weight}) == 0"
    served = f"sum(increase({requests})) > 0 and max(changes({weight})) > 0"
    approved = failed = False
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        (await client.post(rollout.rpartition("/")[0], json=SPEC)).raise_for_status()
        while True:
            status = (await client.get(rollout)).raise_for_status().json()
            if Phase(status["phase"]) in FINISHED:
                return str(status["phase"])
            assert loop.time() < deadline, f"the rollout is still {status['phase']}: {status}"
            waits = "approve" in status["possible"]
            assert waits or status["phase"] != Phase.PAUSED, status["why"]
            if waits and not approved and await _data(ask, "query", {"query": shadowed}):
                (await client.post(f"{rollout}/approve", json={})).raise_for_status()
                approved = True
            if approved and not failed and await _data(ask, "query", {"query": served}):
                (await client.post(failing, json=FAILING)).raise_for_status()
                failed = True
            await asyncio.sleep(0.25)


@asynccontextmanager
async def _prometheus(program: str, scene: Scene) -> AsyncIterator[httpx.AsyncClient]:
    """Run Prometheus with the shipped configuration and rules on the scene's ports."""
    shipped = ROOT / "deploy" / "prometheus"
    settings = scene.settings
    ports = {
        "coalmine-gateway": settings.gateway.metrics_port,
        "coalmine-worker": settings.worker.metrics_port,
        "coalmine-control": settings.control.port,
    }
    document = yaml.safe_load((shipped / "prometheus.yml").read_text(encoding="utf-8"))
    for job in document["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports.pop(job['job_name'])}"]}]
    assert not ports
    folder = scene.folder / "prometheus"
    folder.mkdir()
    shutil.copy(shipped / "rules.yml", folder)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        program,
        *("--config.file", str(folder / "prometheus.yml")),
        *("--storage.tsdb.path", str(folder / "data")),
        *("--web.listen-address", "127.0.0.1:0"),
        stderr=subprocess.PIPE,
    )
    try:
        reading, address = await asyncio.wait_for(_address(process), _START_S)
        try:
            async with httpx.AsyncClient(
                base_url=f"http://{address}/api/v1", timeout=20, trust_env=False
            ) as client:
                yield client
        finally:
            reading.cancel()
    finally:
        process.terminate()
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> tuple[asyncio.Task[None], str]:
    """Return where Prometheus listens, by its log, which is read on to its end."""
    assert process.stderr is not None
    log = process.stderr
    lines = []
    while line := (await log.readline()).decode():
        lines.append(line)
        found = re.search(r"Listening on\"? address=(\S+)", line)
        if found:

            async def read_on() -> None:
                while await log.readline():
                    pass

            return asyncio.create_task(read_on()), found[1]
    raise AssertionError("prometheus ended: " + "".join(lines))


async def _gather(ask: httpx.AsyncClient, phase: str) -> Seen:
    """Ask everything again until it is answered with data, or the time is up."""
    loop = asyncio.get_running_loop()
    began, deadline = loop.time(), loop.time() + _DATA_S
    while True:
        seen = await _ask_all(ask, phase)
        missing = [
            panel
            for panel, values in seen.panels.items()
            if not values and (panel.dashboard, panel.title) not in SILENT_PANELS
        ]
        missing_series = [
            selector
            for selector, values in seen.selectors.items()
            if not values and selector not in SILENT_SELECTORS
        ]
        told = seen.rules and seen.rules["CoalmineRolledBack"].get("alerts")
        if not missing and not missing_series and told and seen.targets:
            return seen
        if loop.time() > deadline:
            return seen
        await asyncio.sleep(min(2.0, 0.5 + (loop.time() - began) / 10))


async def _ask_all(ask: httpx.AsyncClient, phase: str) -> Seen:
    seen = Seen(phase)
    for panel in queries():
        seen.panels[panel] = await _values(ask, panel.expression)
    for selector in selectors():
        seen.selectors[selector] = await _values(ask, selector)
    for name in DASHBOARDS:
        await _ask_around(ask, name, seen)
    for group in (await _data(ask, "rules", {}))["groups"]:
        for rule in group["rules"]:
            seen.rules[rule["name"]] = rule
    for target in (await _data(ask, "targets", {}))["activeTargets"]:
        seen.targets[target["labels"]["job"]] = target["health"]
    return seen


async def _ask_around(ask: httpx.AsyncClient, name: str, seen: Seen) -> None:
    """Ask what stands around a dashboard's panels: annotations and variables."""
    document = dashboard(name)
    for annotation in document["annotations"]["list"]:
        if "expr" in annotation:
            values = await _values(ask, substituted(annotation["expr"]))
            seen.annotations[annotation["name"]] = values
    for variable in document["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
            assert match
            seen.variables[f"{name}/{variable['name']}"] = await _data(
                ask, f"label/{match[2]}/values", {"match[]": substituted(match[1])}
            )


async def _values(ask: httpx.AsyncClient, expression: str) -> list[float]:
    """Return all numbers of a query over the last three minutes, those that are none left out."""
    now = (await _data(ask, "query", {"query": "time()"}))[0]
    span = {"start": str(now - 180), "end": str(now), "step": "5"}
    matrix = (await _data(ask, "query_range", {"query": expression, **span}))["result"]
    values = [float(value) for series in matrix for _, value in series["values"]]
    return [value for value in values if not math.isnan(value)]


async def _data(ask: httpx.AsyncClient, path: str, parameters: dict[str, str]) -> Any:
    answer = await ask.get(f"/{path}", params=parameters)
    document = answer.json()
    assert document["status"] == "success", (path, parameters, document)
    data = document["data"]
    return data["result"] if path == "query" else data
