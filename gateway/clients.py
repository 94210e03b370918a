"""Who may call: client keys, kept and compared as hashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from gateway.errors import RequestError, SettingsError
from gateway.settings import Client

__all__ = ["ANYONE", "Caller", "Clients"]


@dataclass(frozen=True, slots=True)
class Caller:
    """What a client may do."""

    name: str
    may_force_variant: bool = False
    shadow: bool = True


ANYONE = Caller("anyone")
"""The caller where no clients are declared: its own key passes through to the upstream."""


class Clients:
    """The declared clients, by the SHA-256 of their keys, which are read from ``environ``.

    Raises :class:`SettingsError` where a declared key is missing or used twice.
    """

    def __init__(self, clients: Sequence[Client], environ: Mapping[str, str]) -> None:
        self._callers: dict[bytes, tuple[bytes, Caller]] = {}
        self._headers: dict[bytes, tuple[bytes, Caller]] = {}
        for index, client in enumerate(clients):
            key = environ.get(client.key_env, "")
            field = f"clients.{index}.key_env"
            if not key:
                raise SettingsError(
                    f"the environment variable {client.key_env} is not set; "
                    f"it must hold the key of client {client.name!r}",
                    field=field,
                )
            digest = sha256(key.encode()).digest()
            if digest in self._callers:
                raise SettingsError("holds the same key as another client's", field=field)
            caller = Caller(client.name, client.may_force_variant, client.shadow)
            self._callers[digest] = (digest, caller)
            if key == key.strip():
                digest = sha256(b"Bearer " + key.encode()).digest()
                self._headers[digest] = (digest, caller)

    @property
    def declared(self) -> bool:
        """Whether callers must show a key of ours."""
        return bool(self._callers)

    def identify(self, authorization: bytes | None) -> Caller:
        """Return who calls. Raises :class:`RequestError` (401) for a missing or unknown key.

        Only hashes are looked up and compared, and compared in constant time, so that how long an
        answer takes says nothing about any key. The header as nearly every client writes it is
        known by a hash of its own, so that it need not be taken apart.
        """
        if not self._callers:
            return ANYONE
        if authorization is not None:
            digest = sha256(authorization).digest()
            found = self._headers.get(digest)
            if found is not None and compare_digest(found[0], digest):
                return found[1]
        return self._identify(authorization)

    def _identify(self, authorization: bytes | None) -> Caller:
        if authorization is None or authorization[:7].lower() != b"bearer ":
            raise RequestError(
                "No API key was sent; send it as 'Authorization: Bearer KEY'.",
                status=401,
                code="invalid_api_key",
            )
        digest = sha256(authorization[7:].strip()).digest()
        found = self._callers.get(digest)
        if found is None or not compare_digest(found[0], digest):
            raise RequestError(
                "This API key is not known here; use one that the gateway's settings declare.",
                status=401,
                code="invalid_api_key",
            )
        return found[1]
