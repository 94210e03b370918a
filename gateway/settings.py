"""The settings: ``coalmine.yaml``, overridden by the environment.

Every setting is declared once, with its help: here, and by part in ``gateway/settings_*.py``. An
environment variable ``COALMINE_A__B`` overrides ``a.b``; values that are not plain words are
written as JSON. Secrets are never written into the file: a setting that ends in ``_env`` names the
variable that holds the secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from gateway.settings_checks import (
    Contract,
    Escalation,
    KnownFailure,
    KnownFailures,
    Must,
    RefusalSettings,
    must_refuse_source,
)
from gateway.settings_deployments import Deployment, Manifest
from gateway.settings_health import JudgeHealthSettings
from gateway.settings_judge import FirstStage, JudgeSettings, LocalJudge
from gateway.settings_privacy import RedactionSettings, RetentionSettings, RouteRedaction
from gateway.settings_processes import ControlSettings, GatewaySettings, WorkerSettings
from gateway.settings_reading import apply_environment, read_yaml, resolve_files, settings_error
from gateway.settings_review import RouteReview
from gateway.settings_values import Name, parse_bytes, parse_duration
from gateway.settings_values import Section as _Section

__all__ = [
    "Client",
    "Contract",
    "ControlSettings",
    "Deployment",
    "Escalation",
    "FirstStage",
    "GatewaySettings",
    "JudgeHealthSettings",
    "JudgeSettings",
    "KnownFailure",
    "KnownFailures",
    "LocalJudge",
    "Manifest",
    "Must",
    "RefusalSettings",
    "Route",
    "Settings",
    "WorkerSettings",
    "load_settings",
    "parse_bytes",
    "parse_duration",
]


class Route(_Section):
    """A public model name, and what stands behind it."""

    baseline: Name = Field(description="Deployment that serves the route.")
    contract: Contract | None = Field(None, description="What every answer must satisfy.")
    segment: str | None = Field(
        None, description="Where a request's category stands: header:NAME or metadata.KEY."
    )
    risk: str | None = Field(
        None, description="Where a request's risk tier stands: header:NAME or metadata.KEY."
    )
    redaction: RouteRedaction | None = Field(
        None, description="What is redacted otherwise than for all routes."
    )
    store_bodies: bool | None = Field(None, description="Instead of that for all routes.")

    rubric: str | None = Field(
        None, description="Path of the judge's rubric for this route; unset: the judge's own."
    )
    criteria: tuple[Annotated[str, Field(min_length=3, max_length=2000)], ...] = Field(
        (), description="Sentences that the judge weighs on this route, added to the rubric."
    )

    must_refuse: str | None = Field(
        None,
        description="Whether a request must be refused: metadata.KEY or body:PATH that is true, "
        "segment:VALUE, risk:VALUE, always or never; unset: not known.",
    )
    known_failures: KnownFailures = Field(
        default_factory=KnownFailures,
        description="Past failures, each with what its answer must satisfy; a path to a YAML file.",
    )

    review: RouteReview | None = Field(
        None,
        description="Blind review by people; unset: only where a rollout asks for human labels.",
    )

    @field_validator("must_refuse")
    @classmethod
    def _known_place(cls, value: str | None) -> str | None:
        return must_refuse_source(value)

    @field_validator("segment", "risk")
    @classmethod
    def _source(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(
            r"(header:[A-Za-z0-9-]+|(body:)?metadata\.[\w.-]+|body:[\w.-]+)", value
        ):
            raise ValueError("is no place in a request; write header:NAME or metadata.KEY")
        return value


class Client(_Section):
    """Someone who may call the data plane."""

    name: Name = Field(description="Name in logs; never the key.")
    key_env: str = Field(min_length=1, description="Variable that holds the client's key.")
    may_force_variant: bool = Field(
        False, description="May choose the arm with x-coalmine-force-variant."
    )
    shadow: bool = Field(True, description="Whether this client's requests may be mirrored.")


class Settings(_Section):
    """All settings, validated. Built by :func:`load_settings`."""

    store: str = Field(
        "sqlite:///coalmine-data/coalmine.db",
        description="sqlite:///PATH, or postgresql+psycopg://USER@HOST/DATABASE.",
    )
    data_dir: Path = Field(
        Path("coalmine-data"), description="Folder for the split's snapshot and local state."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="How much is logged."
    )
    gateway: GatewaySettings = Field(default_factory=GatewaySettings, description="The data plane.")
    control: ControlSettings = Field(
        default_factory=ControlSettings, description="Admin API and controller."
    )
    worker: WorkerSettings = Field(
        default_factory=WorkerSettings, description="The background evaluator."
    )
    deployments: dict[Name, Deployment] = Field(
        default_factory=dict, description="Models, by name."
    )
    routes: dict[Name, Route] = Field(
        default_factory=dict, description="Public model names, and what serves them."
    )
    judge: JudgeSettings | None = Field(None, description="The judge; unset: no judging.")
    refusal: RefusalSettings = Field(
        default_factory=RefusalSettings, description="Who decides what the rules are not sure of."
    )
    clients: tuple[Client, ...] = Field(
        (), description="Who may call; none: the client's own key passes through to the upstream."
    )
    redaction: RedactionSettings = Field(
        default_factory=RedactionSettings,
        description="What is replaced in captures before anything is stored.",
    )
    store_bodies: bool = Field(
        True,
        description="Whether requests and answers are kept once their pairs are finished; false: "
        "only features, checks and verdicts are.",
    )
    retention: RetentionSettings = Field(
        default_factory=RetentionSettings, description="How long captures are kept."
    )

    @field_validator("store")
    @classmethod
    def _store_url(cls, value: str) -> str:
        if value.startswith("postgresql://"):
            value = "postgresql+psycopg://" + value.removeprefix("postgresql://")
        if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError(
                "is no store; write sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"
            )
        return value

    @model_validator(mode="after")
    def _references(self) -> Settings:
        known = ", ".join(sorted(self.deployments)) or "none"
        for name, route in self.routes.items():
            if route.baseline not in self.deployments:
                raise ValueError(
                    f"routes.{name}.baseline: no deployment is called {route.baseline!r}; "
                    f"declared are: {known}"
                )
            try:
                self.redaction.for_route(route.redaction)
            except ValueError as error:
                raise ValueError(f"routes.{name}.redaction.custom: {error}") from None
        names = [client.name for client in self.clients]
        if len(set(names)) != len(names):
            raise ValueError("clients: two clients have the same name")
        return self

    @model_validator(mode="after")
    def _judges(self) -> Settings:
        known = ", ".join(sorted(self.deployments)) or "none"
        if self.refusal.decider == "judge" and self.judge is None:
            raise ValueError("refusal.decider: is judge, and no judge is declared; declare one")
        judges = self.judge.deployments() if self.judge is not None else {}
        for field, judge in judges.items():
            if judge not in self.deployments:
                raise ValueError(
                    f"{field}: no deployment is called {judge!r}; declared are: {known}"
                )
            for name, route in self.routes.items():
                if route.baseline == judge:
                    raise ValueError(
                        f"{field}: {judge!r} also serves the route {name!r}; "
                        "a judge never judges itself"
                    )
        if len(set(judges.values())) < len(judges):
            raise ValueError(
                "judge.first_stage.deployment: is the judge itself; name a cheaper deployment, "
                "or leave first_stage out"
            )
        return self

    def keeps_bodies(self, route: str) -> bool:
        """Say whether a route's requests and answers are kept once their pairs are finished."""
        declared = self.routes.get(route)
        if declared is None or declared.store_bodies is None:
            return self.store_bodies
        return declared.store_bodies

    def baseline_of(self, route: str) -> str:
        """Return the declared baseline of ``route``. Raises ``KeyError`` for an unknown route."""
        return self.routes[route].baseline


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read ``path`` (default: ``coalmine.yaml`` where it exists) and apply the environment.

    Relative file names inside (schemas, rubric, certificates) are taken from the file's folder.
    Raises :class:`SettingsError` that names the setting and says what would be right.
    """
    environ = os.environ if environ is None else environ
    if path is None:
        chosen = Path(environ.get("COALMINE_CONFIG", "coalmine.yaml"))
        path = chosen if chosen.exists() or "COALMINE_CONFIG" in environ else None
    document: dict[str, Any] = {}
    folder = Path.cwd()
    if path is not None:
        folder = path.resolve().parent
        document = read_yaml(path)
    apply_environment(document, environ, Settings.model_fields.keys())
    resolve_files(document, folder)
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise settings_error(error) from None
