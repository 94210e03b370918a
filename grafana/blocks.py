# ruff: noqa: INP001 - a script's neighbour, not a package
"""The building blocks of the dashboards: one function a kind of panel, one palette, one grid.

The functions return Grafana's dashboard JSON (classic schema) as plain dictionaries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Json = dict[str, Any]

# Named colours follow Grafana's light and dark theme. The arms are blue and orange everywhere:
# they stay apart for colour-blind readers, and neither says good or bad.
BASELINE = "blue"
CANDIDATE = "orange"
GOOD = "green"
WARN = "yellow"
BAD = "red"
QUIET = "text"
LIMIT = "dark-red"

ARMS = {"/^baseline/": BASELINE, "/^candidate/": CANDIDATE}
"""Colours of series whose legend begins with the arm."""

SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 42
COLUMNS = 24


def query(expr: str, legend: str = "", *, now: bool = False, table: bool = False) -> Json:
    """Return a target; ``now`` asks for the present value only, ``table`` for rows of labels."""
    target: Json = {"datasource": SOURCE, "editorMode": "code", "expr": expr}
    target |= {"instant": now, "range": not now, "legendFormat": legend or "__auto"}
    return target | ({"format": "table"} if table else {})


def timeseries(
    title: str,
    *targets: Json,
    shows: str,
    act: str,
    unit: str = "short",
    width: int = 8,
    height: int = 9,
    colours: Mapping[str, str] | None = None,
    lines: Sequence[tuple[float, str]] = (),
    overrides: Iterable[Json] = (),
    stacked: bool = False,
    bars: bool = False,
    steps: bool = False,
    calcs: Sequence[str] = ("lastNotNull", "max"),
    **defaults: Any,
) -> Json:
    """Return a graph over time. ``lines`` are dashed limits, each a value and its colour."""
    custom: Json = {
        "drawStyle": "bars" if bars else "line",
        "lineWidth": 1 if bars else 2,
        "fillOpacity": 70 if bars else (35 if stacked else 8),
        "gradientMode": "none",
        "lineInterpolation": "stepAfter" if steps else "linear",
        "showPoints": "never",
        "spanNulls": 60_000,
        "axisSoftMin": 0,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if lines else "off"},
    }
    custom |= defaults.pop("custom", {})
    panel = _panel(
        "timeseries",
        title,
        targets,
        shows=shows,
        act=act,
        unit=unit,
        size=(width, height),
        defaults=defaults,
    )
    panel["fieldConfig"]["defaults"] |= {"color": {"mode": "palette-classic"}, "custom": custom}
    if lines:
        panel["fieldConfig"]["defaults"]["thresholds"] = _steps(QUIET, lines)
    panel["fieldConfig"]["overrides"] = [*_coloured(colours), *overrides]
    panel["options"] = {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": list(calcs),
        },
        "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": False},
    }
    return panel


def stat(
    title: str,
    *targets: Json,
    shows: str,
    act: str,
    unit: str = "short",
    width: int = 4,
    height: int = 4,
    limits: Sequence[tuple[float, str]] = (),
    start: str = GOOD,
    names: bool = False,
    colours: Mapping[str, str] | None = None,
    graph: bool = True,
    **defaults: Any,
) -> Json:
    """Return one large value, coloured by ``limits``; ``names`` shows the series' name instead."""
    panel = _panel(
        "stat",
        title,
        targets,
        shows=shows,
        act=act,
        unit=unit,
        size=(width, height),
        defaults=defaults,
    )
    panel["fieldConfig"]["defaults"] |= {
        "color": {"mode": "thresholds"},
        "thresholds": _steps(start, limits),
    }
    panel["fieldConfig"]["overrides"] = list(_coloured(colours))
    panel["options"] = {
        "colorMode": "background" if names else "value",
        "graphMode": "area" if graph and not names else "none",
        "justifyMode": "center",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "name" if names else "value",
        "wideLayout": True,
    }
    return panel


def bar_gauge(
    title: str,
    *targets: Json,
    shows: str,
    act: str,
    unit: str = "short",
    width: int = 8,
    height: int = 9,
    limits: Sequence[tuple[float, str]] = (),
    start: str = BASELINE,
    colours: Mapping[str, str] | None = None,
    **defaults: Any,
) -> Json:
    """Return horizontal bars, one a series, that show the present values."""
    panel = _panel(
        "bargauge",
        title,
        targets,
        shows=shows,
        act=act,
        unit=unit,
        size=(width, height),
        defaults=defaults,
    )
    panel["fieldConfig"]["defaults"] |= {
        "color": {"mode": "thresholds"},
        "thresholds": _steps(start, limits),
    }
    panel["fieldConfig"]["overrides"] = list(_coloured(colours))
    panel["options"] = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "namePlacement": "left",
        "valueMode": "color",
        "showUnfilled": True,
        "minVizHeight": 14,
        "maxVizHeight": 32,
        "sizing": "auto",
        "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return panel


def lanes(
    title: str,
    *targets: Json,
    shows: str,
    act: str,
    width: int = 24,
    height: int = 7,
    colours: Mapping[str, str] | None = None,
) -> Json:
    """Return one lane a series, filled while the series is there: when what was the case."""
    panel = _panel(
        "state-timeline",
        title,
        targets,
        shows=shows,
        act=act,
        unit="none",
        size=(width, height),
        defaults={},
    )
    panel["fieldConfig"]["defaults"] |= {
        "color": {"mode": "fixed", "fixedColor": BASELINE},
        "custom": {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False},
        "mappings": [{"type": "value", "options": {"1": {"text": " ", "index": 0}}}],
    }
    panel["fieldConfig"]["overrides"] = list(_coloured(colours))
    panel["options"] = {
        "mergeValues": True,
        "showValue": "never",
        "alignValue": "left",
        "rowHeight": 0.8,
        "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return panel


def table(
    title: str,
    *targets: Json,
    shows: str,
    act: str,
    columns: Sequence[tuple[str, str]],
    overrides: Iterable[Json] = (),
    width: int = 24,
    height: int = 9,
    sort: str | None = None,
) -> Json:
    """Return one row a set of labels. ``columns`` maps what the queries call it to its heading.

    The first query is called ``Value #A``, the second ``Value #B``; columns that are not named
    are hidden.
    """
    panel = _panel(
        "table",
        title,
        targets,
        shows=shows,
        act=act,
        unit="short",
        size=(width, height),
        defaults={},
    )
    panel["fieldConfig"]["defaults"] |= {
        "color": {"mode": "thresholds"},
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True},
        "thresholds": _steps(QUIET, ()),
    }
    panel["fieldConfig"]["overrides"] = list(overrides)
    panel["options"] = {"showHeader": True, "cellHeight": "sm"}
    if sort:
        panel["options"]["sortBy"] = [{"displayName": sort, "desc": True}]
    order = {name: index for index, (name, _) in enumerate(columns)}
    panel["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "filterFieldsByName", "options": {"include": {"names": list(order)}}},
        {
            "id": "organize",
            "options": {"indexByName": order, "renameByName": dict(columns), "excludeByName": {}},
        },
    ]
    return panel


def column(heading: str, **properties: Any) -> Json:
    """Return an override of a table's column; keys with dots are written with two underscores."""
    return {
        "matcher": {"id": "byName", "options": heading},
        "properties": [
            {"id": key.replace("__", "."), "value": value} for key, value in properties.items()
        ],
    }


def series(pattern: str, **properties: Any) -> Json:
    """Return an override of the series whose legend matches the ``/pattern/``."""
    return column("", **properties) | {"matcher": {"id": "byRegexp", "options": pattern}}


def limit_line(legend: str) -> Json:
    """Return the override that draws the series called ``legend`` as a dashed limit."""
    return series(
        f"/^{legend}$/",
        color={"mode": "fixed", "fixedColor": LIMIT},
        custom__lineStyle={"fill": "dash", "dash": [10, 8]},
        custom__fillOpacity=0,
        custom__lineWidth=2,
    )


def words(**colours: str) -> list[Json]:
    """Return value mappings that colour words; a colour of ``text`` leaves the word as it is."""
    options = {
        word: {"color": colour, "text": word, "index": index}
        for index, (word, colour) in enumerate(colours.items())
    }
    return [{"type": "value", "options": options}]


def variable(
    name: str,
    label: str,
    expr: str,
    *,
    many: bool = False,
    chosen: str | None = None,
    description: str = "",
) -> Json:
    """Return a variable filled by a label query such as ``label_values(metric, label)``."""
    current: Json = {"text": ["All"], "value": ["$__all"]} if many else {}
    if chosen is not None:
        current = {"text": chosen, "value": chosen}
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": expr, "refId": f"Variable-{name}", "qryType": 1},
        "definition": expr,
        "refresh": 2,
        "sort": 1,
        "multi": many,
        "includeAll": many,
        "allValue": ".*" if many else None,
        "current": current,
        "options": [],
        "hide": 0,
        "skipUrlSync": False,
    }


def number_variable(name: str, label: str, value: str, description: str) -> Json:
    """Return a variable that the reader may type."""
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "textbox",
        "query": value,
        "current": {"text": value, "value": value},
        "options": [{"text": value, "value": value, "selected": True}],
        "hide": 0,
        "skipUrlSync": False,
    }


def annotation(name: str, expr: str, title: str, colour: str) -> Json:
    """Return events marked on every graph: where ``expr`` begins to have a value."""
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": expr,
        "step": "5s",
        "titleFormat": title,
        "textFormat": "",
        "tagKeys": "",
        "useValueForTime": False,
    }


def dashboard(
    uid: str,
    title: str,
    description: str,
    *,
    variables: Sequence[Json],
    rows: Sequence[tuple[str, Sequence[Json]]],
    annotations: Sequence[Json] = (),
) -> Json:
    """Return a dashboard: ``rows`` of a heading and its panels, laid out from left to right."""
    built_in = {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    }
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "current": {},
        "options": [],
        "hide": 0,
        "skipUrlSync": False,
    }
    links = {
        "type": "dashboards",
        "tags": ["coalmine"],
        "title": "Coalmine",
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["coalmine"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "id": None,
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "liveNow": False,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "timepicker": {"refresh_intervals": ["5s", "10s", "30s", "1m", "5m"]},
        "timezone": "browser",
        "weekStart": "",
        "links": [links],
        "annotations": {"list": [built_in, *annotations]},
        "templating": {"list": [source, *variables]},
        "panels": _lay_out(rows),
    }


def _panel(
    kind: str,
    title: str,
    targets: Sequence[Json],
    *,
    shows: str,
    act: str,
    unit: str,
    size: tuple[int, int],
    defaults: Json,
) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": f"{shows}\n\n**What to do:** {act}",
        "datasource": SOURCE,
        "gridPos": {"w": size[0], "h": size[1], "x": 0, "y": 0},
        "fieldConfig": {"defaults": {"unit": unit, **defaults}, "overrides": []},
        "targets": [
            target | {"refId": chr(ord("A") + index)} for index, target in enumerate(targets)
        ],
    }


def _lay_out(rows: Sequence[tuple[str, Sequence[Json]]]) -> list[Json]:
    """Place and number the panels; those that do not fit side by side begin a new line."""
    placed: list[Json] = []
    top = 0
    for heading, panels in rows:
        row = {"type": "row", "title": heading, "collapsed": False, "panels": []}
        placed.append(row | {"gridPos": {"w": COLUMNS, "h": 1, "x": 0, "y": top}})
        left, top, tallest = 0, top + 1, 0
        for panel in panels:
            size = panel["gridPos"]
            if left + size["w"] > COLUMNS:
                left, top, tallest = 0, top + tallest, 0
            placed.append(panel | {"gridPos": {**size, "x": left, "y": top}})
            left, tallest = left + size["w"], max(tallest, size["h"])
        top += tallest
    return [{"id": index, **panel} for index, panel in enumerate(placed, start=1)]


def _steps(start: str, limits: Sequence[tuple[float, str]]) -> Json:
    steps: list[Json] = [{"color": start, "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in limits]
    return {"mode": "absolute", "steps": steps}


def _coloured(colours: Mapping[str, str] | None) -> Iterable[Json]:
    for pattern, colour in (colours or {}).items():
        yield series(pattern, color={"mode": "fixed", "fixedColor": colour})
