"""The dashboards ask for what Coalmine exports, say what to do, and load into Grafana."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rollout.states import Event, Phase

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "grafana"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
NAMES = ("rollout", "gateway", "shadow-and-judge")

# Units of Grafana's registry that the dashboards may use.
UNITS = {
    *("none", "short", "percentunit", "s", "bytes", "currencyUSD"),
    *("reqps", "cps", "cpm"),
}


def load(name: str) -> Any:
    """Return a dashboard."""
    return json.loads((GRAFANA / "dashboards" / f"{name}.json").read_text(encoding="utf-8"))


def panels(name: str) -> list[Any]:
    """Return the panels of a dashboard that show data."""
    return [panel for panel in load(name)["panels"] if panel["type"] != "row"]


def expressions(name: str) -> Iterator[tuple[str, str]]:
    """Yield every query of a dashboard with where it stands: panels, annotations, variables."""
    document = load(name)
    for panel in panels(name):
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in document["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], annotation["expr"]
    for variable in document["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
            assert match, variable["definition"]
            yield f"${variable['name']}", f"count by ({match[2]}) ({match[1]})"


def recorded() -> dict[str, frozenset[str]]:
    """Return the recorded series with the labels that they keep."""
    found = {}
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                kept = re.findall(r"by \(([^)]*)\)", rule["expr"])
                labels = {label.strip() for part in kept for label in part.split(",")}
                found[rule["record"]] = frozenset(labels - {"le"})
    return found


@pytest.mark.parametrize("name", NAMES)
def test_queries_use_declared_metrics_and_labels(
    name: str, faults: Callable[..., list[str]]
) -> None:
    """A panel, annotation or variable names only metrics and labels that a process exports."""
    wrong = [
        f"{place}: {fault}"
        for place, expression in expressions(name)
        for fault in faults(expression, recorded())
    ]
    assert not wrong


def test_an_unknown_metric_or_label_is_found(faults: Callable[..., list[str]]) -> None:
    """The check above can fail: misspelt metrics, labels, groupings and functions are told."""
    assert faults('sum(rate(coalmine_request_total{route="r"}[5m]))')
    assert faults('coalmine_requests_total{arm="baseline"}')
    assert faults("sum by (arm) (coalmine_requests_total)")
    assert faults("summ(coalmine_requests_total)")
    assert faults("gen_ai_client_token_usage")
    assert not faults("sum by (route) (rate(coalmine_requests_total[5m] offset 1h)) > 0")


@pytest.mark.parametrize("name", NAMES)
def test_legends_name_labels_that_the_query_keeps(
    name: str, taken_apart: Callable[[str], Any]
) -> None:
    """A legend's {{label}} is one that the query groups by, so no legend is blank."""
    for panel in panels(name):
        for target in panel["targets"]:
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = taken_apart(target["expr"]).groupings
            assert labels <= kept, f"{panel['title']}: {target['legendFormat']}"


@pytest.mark.parametrize("name", NAMES)
def test_variables_are_defined(name: str) -> None:
    """Every $variable in a query is one of the dashboard's or one that Grafana provides."""
    document = load(name)
    defined = {variable["name"] for variable in document["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(document["panels"])))
    used |= set(re.findall(r"\$\{?(\w+)", json.dumps(document["annotations"])))
    assert used <= defined | {"__rate_interval"}
    assert {"datasource"} <= defined


def test_words_in_matchers_exist(taken_apart: Callable[[str], Any]) -> None:
    """Phases and events that queries and colours name are phases and events of the table."""
    phases = {phase.value for phase in Phase}
    for name in NAMES:
        for place, expression in expressions(name):
            for _, label, value in taken_apart(expression).matchers:
                if label == "phase":
                    assert set(value.split("|")) <= phases, place
    rollout = {panel["title"]: panel for panel in panels("rollout")}
    assert coloured(rollout["Phases"]) == phases
    assert coloured(rollout["Phase"]) == phases
    assert coloured(rollout["Transitions"]) <= {event.value for event in Event}


def coloured(panel: Any) -> set[str]:
    """Return the words of ``/^(a|b)$/`` patterns in a panel's overrides."""
    patterns = [override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]]
    return {
        word for pattern in patterns for word in re.sub(r"[/^$()]", "", pattern).split("|") if word
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_explains_itself(name: str) -> None:
    """Every panel has a title of its own, a unit, a query, and says what to do when it is bad."""
    titles = [panel["title"] for panel in panels(name)]
    assert len(titles) == len(set(titles))
    for panel in panels(name):
        shows, _, act = panel["description"].partition("\n\n**What to do:** ")
        assert len(shows) > 20, panel["title"]
        assert len(act) > 20, panel["title"]
        assert panel["targets"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)), panel["title"]
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert source == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_the_arms_have_the_same_colours_everywhere(name: str) -> None:
    """Where a series is an arm, the baseline is blue and the candidate orange."""
    for panel in panels(name):
        for override in panel["fieldConfig"]["overrides"]:
            pattern = override["matcher"]["options"]
            colour = next((p["value"] for p in override["properties"] if p["id"] == "color"), None)
            arm = re.fullmatch(r"/\^(baseline|candidate)/", pattern)
            if arm and colour:
                expected = {"baseline": "blue", "candidate": "orange"}[arm[1]]
                assert colour["fixedColor"] == expected, panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_panels_do_not_overlap(name: str) -> None:
    """Panels lie side by side on Grafana's 24 columns, with ids of their own."""
    document = load(name)
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_dashboards_are_told_apart() -> None:
    """Every dashboard has a uid of its own, is tagged, and has a schema version of Grafana 12."""
    documents = [load(name) for name in NAMES]
    assert len({document["uid"] for document in documents}) == len(NAMES)
    for document in documents:
        assert document["id"] is None
        assert document["tags"] == ["coalmine"]
        assert 41 <= document["schemaVersion"] <= 42


def test_the_json_is_what_the_script_writes(tmp_path: Path) -> None:
    """Dashboards are changed in grafana/*.py: the JSON in the project is what they write."""
    copy = tmp_path / "grafana"
    shutil.copytree(GRAFANA, copy, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-B", str(copy / "build.py")]
    checked = subprocess.run([*build, "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    edited = copy / "dashboards" / "gateway.json"
    edited.write_text(edited.read_text(encoding="utf-8").replace("Open streams", "Streams"))
    stale = subprocess.run([*build, "--check"], capture_output=True, text=True, check=False)
    assert stale.returncode == 1
    assert "gateway.json" in stale.stdout
    written = subprocess.run(build, capture_output=True, text=True, check=False)
    assert written.returncode == 0
    for name in NAMES:
        assert (copy / "dashboards" / f"{name}.json").read_bytes() == (
            GRAFANA / "dashboards" / f"{name}.json"
        ).read_bytes()


def test_provisioning_points_at_what_is_there() -> None:
    """Compose mounts provisioning and dashboards where Grafana is told to look for them."""
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    grafana = compose["services"]["grafana"]
    mounts = {
        target: (ROOT / "deploy" / source).resolve()
        for source, target, *_ in (volume.split(":") for volume in grafana["volumes"])
        if source.startswith(".")
    }
    assert mounts["/etc/grafana/provisioning"] == GRAFANA / "provisioning"
    environment = grafana["environment"]
    assert mounts[environment["COALMINE_DASHBOARDS"]] == GRAFANA / "dashboards"

    [provider] = _provisioned("dashboards")["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "${COALMINE_DASHBOARDS}"
    [source] = _provisioned("datasources")["datasources"]
    assert source["type"] == "prometheus"
    assert source["url"] == "${COALMINE_PROMETHEUS_URL}"
    assert environment["COALMINE_PROMETHEUS_URL"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]

    home = environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    folder, _, file = home.rpartition("/")
    assert (mounts[folder] / file).is_file()


def test_the_data_source_knows_the_scrape_interval() -> None:
    """Grafana's rate window follows the interval at which Prometheus scrapes."""
    [source] = _provisioned("datasources")["datasources"]
    for path in (ROOT / "deploy" / "prometheus").glob("*.yml"):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "scrape_configs" in document:
            interval = document["global"]["scrape_interval"]
            assert source["jsonData"]["timeInterval"] == interval, path.name


def _provisioned(kind: str) -> Any:
    [path] = (GRAFANA / "provisioning" / kind).glob("*.yaml")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["apiVersion"] == 1
    return document
