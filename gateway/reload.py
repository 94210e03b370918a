"""Taking other settings while requests are served: what changes, what can't, and what is kept.

Everything here prepares; :meth:`gateway.app.Gateway.reload` reads the settings in a thread and puts
what was prepared in force at once, between two requests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.clients import Clients
from gateway.errors import SettingsError
from gateway.routes import Arm, build_arms
from gateway.settings import GatewaySettings, Settings
from gateway.upstream import Upstream

__all__ = ["Change", "Report", "Source", "keep_fixed", "prepare", "settings_hash"]

Source = Callable[[], Settings]
"""Reads the settings again, as the process once did. Raises :class:`SettingsError`."""

_FIXED = ("store", "data_dir", "log_level")
_FIXED_OPTIONS = ("host", "port", "workers", "metrics_host", "metrics_port")
_SERVED = ("gateway", "deployments", "routes", "clients", "redaction", "store_bodies")
_NOT_OF_CONNECTIONS = {
    "model",
    "api_key_env",
    "system_prompt",
    "parameters",
    "manifest",
    "dollars_per_million_input_tokens",
    "dollars_per_million_output_tokens",
}
_OF_CONNECTIONS = (
    "connect_timeout",
    "first_byte_timeout",
    "idle_timeout",
    "total_timeout",
    "pool_size",
    "pool_idle_timeout",
    "pool_max_age",
)


@dataclass(frozen=True, slots=True)
class Report:
    """What a gateway says of its settings.

    ``hash`` is that of the settings in force. ``at`` is when they were last read again, in Unix
    seconds, ``error`` why they stayed as they were then, and ``needs_restart`` names what changed
    and could not be taken over. ``number`` is the last reload asked for through the store that it
    has carried out, or tried to.
    """

    hash: str
    at: float | None = None
    error: str | None = None
    needs_restart: tuple[str, ...] = ()
    number: int | None = None

    def to_document(self) -> dict[str, Any]:
        """Return what is kept in the store."""
        return {
            "hash": self.hash,
            "at": self.at,
            "error": self.error,
            "needs_restart": list(self.needs_restart),
            "number": self.number,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be put in force. ``retired`` are the pools that no new request will use."""

    settings: Settings
    needs_restart: tuple[str, ...]
    arms: Mapping[str, Arm]
    clients: Clients
    retired: tuple[Upstream, ...]
    summary: str


def settings_hash(settings: Settings) -> str:
    """Return what tells two gateways apart that serve by different settings: a SHA-256.

    Only what can change while a gateway runs is part of it, so that gateways on different hosts
    and ports agree. Settings hold no secrets, only the names of variables that do.
    """
    document = settings.model_dump(
        mode="json", include=set(_SERVED), exclude={"gateway": set(_FIXED_OPTIONS)}
    )
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def keep_fixed(current: Settings, wanted: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Return ``wanted`` with what can't change while the gateway runs as it is.

    Also returns the names of the settings that were kept though they differ.
    """
    fixed = {name: getattr(current, name) for name in _FIXED}
    options = {name: getattr(current.gateway, name) for name in _FIXED_OPTIONS}
    kept = [name for name, value in fixed.items() if getattr(wanted, name) != value]
    kept += [
        f"gateway.{name}"
        for name, value in options.items()
        if getattr(wanted.gateway, name) != value
    ]
    section = wanted.gateway.model_copy(update=options)
    return wanted.model_copy(update={**fixed, "gateway": section}), tuple(kept)


def prepare(
    current: Settings, arms: Mapping[str, Arm], wanted: Settings, environ: Mapping[str, str]
) -> Change:
    """Build what ``wanted`` needs; the pools of deployments reached as before are kept.

    Raises :class:`SettingsError`, and then nothing has changed.
    """
    settings, needs_restart = keep_fixed(current, wanted)
    _check_secrets(settings, environ)
    built = build_arms(settings, environ)
    clients = Clients(settings.clients, environ)
    for name, arm in built.items():
        if name in arms and _reached_alike(name, current, settings):
            built[name] = replace(arm, upstream=arms[name].upstream)
    used = {id(arm.upstream) for arm in built.values()}
    retired = tuple(arm.upstream for arm in arms.values() if id(arm.upstream) not in used)
    return Change(
        settings, needs_restart, built, clients, retired, summary=_summary(current, settings)
    )


def _check_secrets(settings: Settings, environ: Mapping[str, str]) -> None:
    """Say what to do about a variable that is not there; a process can't be given one later."""
    wanted = {
        f"clients.{index}.key_env": client.key_env for index, client in enumerate(settings.clients)
    }
    for route in settings.routes.values():
        baseline = settings.deployments[route.baseline]
        for name in ("api_key_env", "proxy_auth_env"):
            variable = getattr(baseline, name)
            if variable is not None:
                wanted[f"deployments.{route.baseline}.{name}"] = variable
    for field, variable in wanted.items():
        if not environ.get(variable):
            raise SettingsError(
                f"the variable {variable} is not in this process's environment, and can't be put "
                "there while it runs; set it and restart",
                field=field,
            )


def _reached_alike(name: str, current: Settings, settings: Settings) -> bool:
    before, after = current.deployments[name], settings.deployments[name]
    reached = before.model_dump(exclude=_NOT_OF_CONNECTIONS)
    if reached != after.model_dump(exclude=_NOT_OF_CONNECTIONS):
        return False
    # A file may hold other certificates than it did when it was read.
    if any(value is not None for field, value in reached.items() if field.endswith("_file")):
        return False
    return _pooling(current.gateway) == _pooling(settings.gateway)


def _pooling(options: GatewaySettings) -> tuple[Any, ...]:
    return tuple(getattr(options, name) for name in _OF_CONNECTIONS)


def _summary(current: Settings, settings: Settings) -> str:
    """Say in a few words what is different now."""
    found = []
    for section in ("deployments", "routes"):
        before, after = getattr(current, section), getattr(settings, section)
        found += [f"{section}.{name} added" for name in after if name not in before]
        found += [f"{section}.{name} removed" for name in before if name not in after]
        found += [
            f"{section}.{name} changed"
            for name in after
            if before.get(name, after[name]) != after[name]
        ]
    if current.clients != settings.clients:
        found.append("clients changed")
    found += [
        f"{name} changed"
        for name in ("redaction", "store_bodies")
        if getattr(current, name) != getattr(settings, name)
    ]
    found += [
        f"gateway.{name} changed"
        for name in GatewaySettings.model_fields
        if getattr(current.gateway, name) != getattr(settings.gateway, name)
    ]
    return ", ".join(found) or "nothing is different"
