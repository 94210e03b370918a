"""The models that serve: where they are reached, what is sent with a request, what they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import (
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gateway.settings_values import Section as _Section

__all__ = ["FILES", "Deployment", "Manifest"]


class Manifest(_Section):
    """What a deployment is made of. Its hash is the candidate's revision."""

    model_config = ConfigDict(extra="allow", frozen=True)

    base_model: str | None = Field(None, description="The model that was tuned.")
    adapter: str | None = Field(None, description="Adapter or weights, with digest.")
    training_config: str | None = Field(None, description="How it was trained.")
    preference_data: str | None = Field(None, description="What it was tuned on.")
    tokenizer: str | None = Field(None, description="Tokenizer, with revision.")


FILES = ("ca_file", "client_cert_file", "client_key_file")
_ACCESS = {"api_key_env", "proxy", "proxy_auth_env", *FILES}
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
