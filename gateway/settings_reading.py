"""Reading the settings' file: YAML, the environment over it, file names made whole, faults said."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from gateway.errors import SettingsError
from gateway.settings_deployments import FILES

__all__ = ["apply_environment", "read_yaml", "resolve_files", "settings_error"]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a file that holds one mapping. Raises :class:`SettingsError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"can't read {path}: {error.strerror}", field="config") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8", field="config") from None
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not YAML: {_fault(error)}", field="config") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"{path} must be a mapping of settings", field="config")
    return document


def _fault(error: yaml.YAMLError) -> str:
    # Not the whole message: it quotes the file, which may hold the password of a store.
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or "it can't be parsed"
    return f"{what}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(what)


def apply_environment(
    document: dict[str, Any], environ: Mapping[str, str], known: Collection[str]
) -> None:
    """Put ``COALMINE_A__B`` into ``document`` as ``a.b``, for each ``a`` that is ``known``."""
    for variable, text in sorted(environ.items()):
        if not variable.startswith("COALMINE_") or variable == "COALMINE_CONFIG":
            continue
        keys = variable.removeprefix("COALMINE_").lower().split("__")
        if keys[0] not in known:
            continue
        target = document
        for key in keys[:-1]:
            child = target.setdefault(key, {})
            if not isinstance(child, dict):
                raise SettingsError(f"{variable} can't go inside a plain value", field=key)
            target = child
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        target[keys[-1]] = value


def resolve_files(document: dict[str, Any], folder: Path) -> None:
    """Take file names from ``folder``, and read what is to be in the settings themselves."""
    routes = document.get("routes")
    for name, route in routes.items() if isinstance(routes, dict) else ():
        contract = route.get("contract") if isinstance(route, dict) else None
        schema = contract.get("json_schema") if isinstance(contract, dict) else None
        if isinstance(contract, dict) and isinstance(schema, str):
            field = f"routes.{name}.contract.json_schema"
            try:
                contract["json_schema"] = json.loads((folder / schema).read_text(encoding="utf-8"))
            except OSError as error:
                raise SettingsError(f"can't read {schema}: {error.strerror}", field=field) from None
            except ValueError as error:
                raise SettingsError(f"{schema} is not JSON: {error}", field=field) from None
        _resolve_known_failures(name, route, folder)
        _resolve_rubric(route, f"routes.{name}.rubric", folder)
    _resolve_classifier(document.get("refusal"), folder)
    judge = document.get("judge")
    _resolve_rubric(judge, "judge.rubric", folder)
    first = judge.get("first_stage") if isinstance(judge, dict) else None
    local = first.get("local") if isinstance(first, dict) else None
    if isinstance(local, dict) and isinstance(local.get("path"), str):
        local["path"] = str(folder / local["path"])
    _resolve_anchors(judge, folder)
    deployments = document.get("deployments")
    for deployment in deployments.values() if isinstance(deployments, dict) else ():
        for key in FILES if isinstance(deployment, dict) else ():
            if isinstance(deployment.get(key), str):
                deployment[key] = str(folder / deployment[key])


def _resolve_classifier(refusal: Any, folder: Path) -> None:
    local = refusal.get("local") if isinstance(refusal, dict) else None
    if isinstance(local, dict) and isinstance(local.get("path"), str):
        local["path"] = str(folder / local["path"])


def _resolve_known_failures(name: str, route: Any, folder: Path) -> None:
    given = route.get("known_failures") if isinstance(route, dict) else None
    if not isinstance(given, str):
        return
    try:
        route["known_failures"] = read_yaml(folder / given)
    except SettingsError as error:
        raise SettingsError(error.message, field=f"routes.{name}.known_failures") from None


def _resolve_anchors(judge: Any, folder: Path) -> None:
    health = judge.get("health") if isinstance(judge, dict) else None
    if isinstance(health, dict) and isinstance(health.get("anchors"), str):
        anchors = folder / health["anchors"]
        if not anchors.is_file():
            raise SettingsError(
                f"can't read {health['anchors']}: no such file", field="judge.health.anchors"
            )
        health["anchors"] = str(anchors)


def _resolve_rubric(section: Any, field: str, folder: Path) -> None:
    if isinstance(section, dict) and isinstance(section.get("rubric"), str):
        rubric = folder / section["rubric"]
        if not rubric.is_file():
            raise SettingsError(f"can't read {section['rubric']}: no such file", field=field)
        section["rubric"] = str(rubric)


def settings_error(error: ValidationError) -> SettingsError:
    """Return what is wrong in a sentence that names the first setting that is."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"] if part != "[key]") or None
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "is no setting; see the list of settings in the README"
    if field is None and ": " in message:
        field, _, message = message.partition(": ")
    more = error.error_count() - 1
    if more:
        message += f" (and {more} more)"
    return SettingsError(message, field=field)
