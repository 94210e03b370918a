"""How a deployment is reached: what its TLS trusts and shows, and the proxy on the way.

The gateway, the mirror, the judge and the health probe all go by it, so that a deployment which one
of them reaches is reached by all.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from gateway.errors import SettingsError
from gateway.settings import Deployment

__all__ = ["Outbound", "Proxy", "outbound", "tls_context"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. ``url`` names no user; ``auth`` is ``user:password``."""

    url: str
    auth: SecretStr | None = field(default=None, repr=False)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    @property
    def lines(self) -> bytes:
        """The header line with the credentials, with its CRLF; empty without any."""
        if self.auth is None:
            return b""
        token = base64.b64encode(self.auth.get_secret_value().encode())
        return b"proxy-authorization: Basic %b\r\n" % token

    @property
    def url_with_auth(self) -> str:
        """The URL with the credentials in it, as HTTP libraries take them. Never log it."""
        if self.auth is None:
            return self.url
        user, _, password = self.auth.get_secret_value().partition(":")
        parts = urlsplit(self.url)
        return f"http://{quote(user, safe='')}:{quote(password, safe='')}@{parts.netloc}"


@dataclass(frozen=True, slots=True)
class Outbound:
    """The way to one deployment: ``tls`` where it speaks https, ``proxy`` where one is between."""

    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None

    @property
    def verify(self) -> ssl.SSLContext | bool:
        """What httpx and its kin take as ``verify``."""
        return True if self.tls is None else self.tls

    @property
    def proxy_url(self) -> str | None:
        """What httpx and its kin take as ``proxy``. Holds the credentials: never log it."""
        return None if self.proxy is None else self.proxy.url_with_auth


def outbound(name: str, deployment: Deployment, environ: Mapping[str, str]) -> Outbound:
    """Return the way to the deployment called ``name``.

    Credentials that are declared but not in ``environ`` are left out: the proxy will say so. Raises
    :class:`SettingsError` for a file that can't be used, and credentials of another form.
    """
    tls = None
    if deployment.base_url.startswith("https:"):
        tls = tls_context(
            name,
            ca_file=deployment.ca_file,
            cert_file=deployment.client_cert_file,
            key_file=deployment.client_key_file,
        )
    proxy = None
    if deployment.proxy is not None:
        auth = deployment.proxy_auth(environ)
        if auth is not None and ":" not in auth.get_secret_value():
            raise SettingsError(
                f"the environment variable {deployment.proxy_auth_env} has no colon; "
                "write USER:PASSWORD into it",
                field=f"deployments.{name}.proxy_auth_env",
            )
        proxy = Proxy(deployment.proxy, auth)
    return Outbound(tls, proxy)


def tls_context(
    name: str,
    *,
    ca_file: Path | None = None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
) -> ssl.SSLContext:
    """Return a context that verifies chain and name, from TLS 1.2 on, and offers HTTP/1.1 only.

    Raises :class:`SettingsError` that names the file's setting.
    """
    field_of = f"deployments.{name}."
    for setting, path in (("client_cert_file", cert_file), ("client_key_file", key_file)):
        try:
            if path is not None:
                path.open("rb").close()
        except OSError as error:
            raise SettingsError(
                f"can't read {path}: {error.strerror}", field=field_of + setting
            ) from None
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"can't read certificates from {ca_file}: {error.strerror or error}",
            field=field_of + "ca_file",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if cert_file is not None:
        try:
            # without a password OpenSSL would ask for it on the terminal
            context.load_cert_chain(cert_file, key_file, password="")
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "reason", None) or "no certificate and key in PEM"
            raise SettingsError(
                f"can't be used with its key: {reason}; it takes a certificate in PEM, and an "
                "unencrypted key that belongs to it",
                field=field_of + "client_cert_file",
            ) from None
    return context
