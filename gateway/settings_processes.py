"""How the processes of Coalmine listen, wait and share work."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from gateway.settings_values import ByteSize, Duration, Port
from gateway.settings_values import Section as _Section

__all__ = ["ControlSettings", "GatewaySettings", "WorkerSettings"]


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
