"""The settings: ``coalmine.yaml``, overridden by the environment.

Every setting is declared once, here, with its help. An environment variable ``COALMINE_A__B``
overrides ``a.b``; values that are not plain words are written as JSON. Secrets are never written
into the file: a setting that ends in ``_env`` names the variable that holds the secret.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gateway.errors import SettingsError
from gateway.settings_checks import (
    Contract,
    Escalation,
    KnownFailure,
    KnownFailures,
    Must,
    RefusalSettings,
    must_refuse_source,
)
from gateway.settings_judge import FirstStage, JudgeSettings, LocalJudge
from gateway.settings_review import RouteReview
from gateway.settings_values import ByteSize, Duration, Name, Port, parse_bytes, parse_duration
from gateway.settings_values import Section as _Section

__all__ = [
    "Client",
    "Contract",
    "ControlSettings",
    "Deployment",
    "Escalation",
    "FirstStage",
    "GatewaySettings",
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


class GatewaySettings(_Section):
    """The data plane."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8080, description="Port of the OpenAI-compatible API.")
    metrics_port: Port = Field(8082, description="Port of /metrics, of all worker processes.")
    metrics_host: str = Field("127.0.0.1", description="Address of the /metrics listener.")
    workers: int = Field(1, ge=1, le=64, description="Processes that share the port.")
    max_body_bytes: ByteSize = Field(16 * 1024**2, description="Largest request body accepted.")
    max_capture_bytes: ByteSize = Field(
        1024**2, description="Largest request or answer that is captured; above: over_size."
    )
    capture_buffer_bytes: ByteSize = Field(
        64 * 1024**2, description="Memory for captures not yet written; above: shed."
    )
    capture_buffer_count: int = Field(
        20_000, ge=1, description="Captures not yet written; above: shed."
    )
    flush_interval: Duration = Field(0.25, description="Seconds between writes to the store.")
    connect_timeout: Duration = Field(5.0, description="Seconds to connect to a deployment.")
    first_byte_timeout: Duration = Field(
        120.0, description="Seconds until a deployment's answer begins."
    )
    idle_timeout: Duration = Field(120.0, description="Seconds between two pieces of an answer.")
    total_timeout: Duration | None = Field(
        None, description="Seconds that an answer may take in all; unset: no limit."
    )
    pool_size: int = Field(1024, ge=1, description="Connections kept to one deployment.")
    pool_idle_timeout: Duration = Field(30.0, description="Seconds an idle connection is kept.")
    pool_max_age: Duration = Field(
        300.0, description="Seconds after which a connection is replaced, to follow DNS changes."
    )
    max_header_bytes: ByteSize = Field(
        64 * 1024, description="Largest header of a request that is accepted."
    )
    keep_alive_timeout: Duration = Field(
        75.0, description="Seconds that a client's connection is kept between two requests."
    )
    request_timeout: Duration = Field(
        60.0, description="Seconds until the whole of a request is here."
    )
    write_timeout: Duration = Field(
        300.0, description="Seconds in which a client that has much to read may read nothing."
    )
    drain_timeout: Duration = Field(
        30.0, description="Seconds that open answers get at shutdown before they are cut."
    )
    breaker_failures: int = Field(
        5, ge=1, description="Hard failures of the candidate that open the breaker ..."
    )
    breaker_window: int = Field(20, ge=1, description="... among this many of its last requests.")
    breaker_cooldown: Duration = Field(30.0, description="Seconds until an open breaker probes.")
    controller_ttl: Duration | None = Field(
        None,
        description="Seconds without a sign of the controller after which weights count as 0; "
        "unset: the last split is kept.",
    )


class ControlSettings(_Section):
    """Admin API, console, metrics and the controller."""

    host: str = Field("127.0.0.1", description="Address to listen on; not loopback needs tokens.")
    port: Port = Field(8081, description="Port of admin API, console and metrics.")
    tick_interval: Duration = Field(
        1.0, description="Seconds between two looks where nothing wakes the controller."
    )
    lease_ttl: Duration = Field(10.0, gt=0, description="Seconds a silent leader keeps its lease.")
    outcome_wait: Duration = Field(
        600.0, description="Seconds that a posted outcome waits for its request's capture."
    )
    outcome_retention: Duration = Field(
        30 * 86400.0,
        gt=0,
        description="Seconds that outcomes are kept; so long each counts once.",
    )
    prometheus_url: str | None = Field(
        None, description="Prometheus that a spec's metrics may be read from, up to before /api/v1."
    )
    prometheus_token_env: str | None = Field(
        None, description="Variable that holds the bearer token for it."
    )
    prometheus_interval: Duration = Field(
        15.0, gt=0, description="Seconds between two readings of a spec's queries."
    )
    prometheus_timeout: Duration = Field(5.0, gt=0, description="Seconds that one query may take.")
    prometheus_delay: Duration = Field(
        60.0,
        description="Seconds until what has happened is in there; a weight's counts begin so late.",
    )

    @field_validator("prometheus_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("is not an http(s) URL; write for example http://127.0.0.1:9090")
        if parts.username or parts.password:
            raise ValueError("carries a user or password; name a variable in prometheus_token_env")
        if parts.query or parts.fragment:
            raise ValueError("carries a query; write it up to before /api/v1")
        return value.rstrip("/").removesuffix("/api/v1")

    @field_validator("prometheus_token_env")
    @classmethod
    def _for_prometheus(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("prometheus_url", "") is None:
            raise ValueError("has no use without prometheus_url; set that too")
        return value

    def prometheus_token(self, environ: Mapping[str, str]) -> SecretStr | None:
        """Return the token for Prometheus from the environment, or ``None`` without one."""
        if self.prometheus_token_env is None:
            return None
        value = environ.get(self.prometheus_token_env)
        return SecretStr(value) if value else None


class WorkerSettings(_Section):
    """The background evaluator."""

    metrics_port: Port = Field(8092, description="Port of /metrics.")
    metrics_host: str = Field("127.0.0.1", description="Address of the /metrics listener.")
    concurrency: int = Field(16, ge=1, le=10_000, description="Pairs in work at a time.")
    claim_batch: int = Field(32, ge=1, le=1000, description="Pairs claimed in one transaction.")
    claim_lease: Duration = Field(
        180.0, gt=0, description="Seconds until a claimed pair is given to another worker."
    )
    max_attempts: int = Field(3, ge=1, description="Claims of a pair before it is given up.")
    capture_ttl: Duration = Field(
        3600.0, description="Seconds after which a capture not yet mirrored has expired."
    )
    drain_timeout: Duration = Field(30.0, description="Seconds to finish pairs at shutdown.")


class Manifest(_Section):
    """What a deployment is made of. Its hash is the candidate's revision."""

    model_config = ConfigDict(extra="allow", frozen=True)

    base_model: str | None = Field(None, description="The model that was tuned.")
    adapter: str | None = Field(None, description="Adapter or weights, with digest.")
    training_config: str | None = Field(None, description="How it was trained.")
    preference_data: str | None = Field(None, description="What it was tuned on.")
    tokenizer: str | None = Field(None, description="Tokenizer, with revision.")


_FILES = ("ca_file", "client_cert_file", "client_key_file")
_ACCESS = {"api_key_env", "proxy", "proxy_auth_env", *_FILES}
_PRICES = ("dollars_per_million_input_tokens", "dollars_per_million_output_tokens")


class Deployment(_Section):
    """A model behind an OpenAI-compatible API, and how requests are written for it."""

    base_url: str = Field(description="URL up to and including /v1.")
    model: str = Field(min_length=1, description="The name that the upstream knows it by.")
    api_key_env: str | None = Field(None, description="Variable that holds the upstream's key.")
    system_prompt: str | None = Field(
        None, description="Replaces the system message of every request, or is put first."
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Parameters set in every request, such as temperature."
    )
    ca_file: Path | None = Field(None, description="Certificates to trust instead of the system's.")
    client_cert_file: Path | None = Field(
        None, description="Certificate (PEM) to show to an upstream that asks for one (mTLS)."
    )
    client_key_file: Path | None = Field(
        None, description="Its key, unencrypted, where it is not in client_cert_file."
    )
    proxy: str | None = Field(
        None, description="HTTP proxy on the way there, such as http://proxy.internal:3128."
    )
    proxy_auth_env: str | None = Field(
        None, description="Variable that holds the proxy's USER:PASSWORD."
    )
    dollars_per_million_input_tokens: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Price of input; unset: cost is not known."
    )
    dollars_per_million_output_tokens: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Price of output, set with that of input."
    )
    manifest: Manifest = Field(default_factory=Manifest, description="What it is made of.")

    @field_validator("base_url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("is not an http(s) URL; write for example http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise ValueError("carries a user or password; name the key's variable in api_key_env")
        return value.rstrip("/")

    @field_validator("proxy")
    @classmethod
    def _proxy_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.username or parts.password or "@" in parts.netloc:
            raise ValueError(
                "carries a user or password; name the variable with USER:PASSWORD in proxy_auth_env"
            )
        rest = parts.path.strip("/") or parts.query or parts.fragment
        if parts.scheme != "http" or not parts.hostname or parts.port == 0 or rest:
            raise ValueError(
                "is not the URL of an HTTP proxy; write for example http://proxy.internal:3128"
            )
        return f"http://{parts.netloc}"

    @field_validator("client_cert_file", "client_key_file", "proxy_auth_env")
    @classmethod
    def _companions(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what would silently do nothing. Fields are validated in the order above."""
        if value is None or info.field_name is None:
            return value
        if info.field_name == "client_cert_file":
            if str(info.data.get("base_url", "https")).startswith("http:"):
                raise ValueError("is shown over TLS only; write base_url with https")
            return value
        other = {"client_key_file": "client_cert_file", "proxy_auth_env": "proxy"}[info.field_name]
        # a field that was refused itself is not among the data
        if info.data.get(other, "") is None:
            raise ValueError(f"has no use without {other}; set that too")
        return value

    @field_validator("parameters")
    @classmethod
    def _parameters(cls, value: dict[str, Any]) -> dict[str, Any]:
        reserved = sorted(value.keys() & {"model", "messages", "stream"})
        if reserved:
            raise ValueError(f"can't set {', '.join(reserved)}; those belong to the request")
        return value

    @model_validator(mode="after")
    def _both_prices(self) -> Deployment:
        priced = [getattr(self, name) is not None for name in _PRICES]
        if any(priced) and not all(priced):
            missing = _PRICES[priced.index(False)]
            raise ValueError(f"{missing} is missing; where tokens are free, write 0")
        return self

    def api_key(self, environ: Mapping[str, str]) -> SecretStr | None:
        """Return the upstream's key from the environment, or ``None`` where none is declared."""
        if self.api_key_env is None:
            return None
        value = environ.get(self.api_key_env)
        return SecretStr(value) if value else None

    def proxy_auth(self, environ: Mapping[str, str]) -> SecretStr | None:
        """Return the proxy's ``user:password`` from the environment, or ``None`` without one."""
        if self.proxy_auth_env is None:
            return None
        value = environ.get(self.proxy_auth_env)
        return SecretStr(value) if value else None

    def revision(self) -> str:
        """Return the deployment's identity: SHA-256 over the canonical JSON of what it serves.

        How it is reached (keys, certificates, the proxy) and what it costs are not part of it: that
        changes nothing that a user sees.
        """
        document = self.model_dump(mode="json", exclude={*_ACCESS, *_PRICES})
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


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
        names = [client.name for client in self.clients]
        if len(set(names)) != len(names):
            raise ValueError("clients: two clients have the same name")
        return self

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
        document = _read_yaml(path)
    _apply_environment(document, environ)
    _resolve_files(document, folder)
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise _settings_error(error) from None


def _read_yaml(path: Path) -> dict[str, Any]:
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


def _apply_environment(document: dict[str, Any], environ: Mapping[str, str]) -> None:
    for variable, text in sorted(environ.items()):
        if not variable.startswith("COALMINE_") or variable == "COALMINE_CONFIG":
            continue
        keys = variable.removeprefix("COALMINE_").lower().split("__")
        if keys[0] not in Settings.model_fields:
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


def _resolve_files(document: dict[str, Any], folder: Path) -> None:
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
    deployments = document.get("deployments")
    for deployment in deployments.values() if isinstance(deployments, dict) else ():
        for key in _FILES if isinstance(deployment, dict) else ():
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
        route["known_failures"] = _read_yaml(folder / given)
    except SettingsError as error:
        raise SettingsError(error.message, field=f"routes.{name}.known_failures") from None


def _resolve_rubric(section: Any, field: str, folder: Path) -> None:
    if isinstance(section, dict) and isinstance(section.get("rubric"), str):
        rubric = folder / section["rubric"]
        if not rubric.is_file():
            raise SettingsError(f"can't read {section['rubric']}: no such file", field=field)
        section["rubric"] = str(rubric)


def _settings_error(error: ValidationError) -> SettingsError:
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
