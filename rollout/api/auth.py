"""Who may call the admin API: bearer tokens with roles, kept as hashes.

A token is ``cm_`` and 256 random bits; the store holds its SHA-256 only, so that reading the store
gives nobody access. Until the first token exists, control serves the local user alone, as admin.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

from sqlmodel import Session, col, select, update

from gateway.errors import Conflict, NotFound, RequestError, SettingsError, StoreError
from gateway.settings import Settings
from gateway.store import Store
from gateway.store.tables import TokenRow
from rollout.audit import Actor

__all__ = [
    "LOCAL",
    "Principal",
    "Role",
    "check_binding",
    "create_token",
    "find_principal",
    "is_loopback",
    "list_tokens",
    "revoke_token",
    "tokens_exist",
]

_TOKEN = re.compile(r"cm_[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_SEEN_INTERVAL_S = 60.0


class Role(IntEnum):
    """What a token may do; each role may do all that the ones below it may."""

    viewer = 1
    reviewer = 2
    operator = 3
    admin = 4


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling. ``name`` is the token's name and goes into receipts and the audit log.

    An ``expert`` may also review pairs of routes that ask for one.
    """

    name: str
    role: Role
    expert: bool = False

    @property
    def actor(self) -> Actor:
        """The same, as receipts and the audit log name it."""
        return Actor(self.name, self.role.name)


LOCAL = Principal("local", Role.admin)
"""The user of the machine, as long as no token exists."""


def tokens_exist(session: Session) -> bool:
    """Say whether a token was ever created. Revoked ones count: access never opens again."""
    return session.exec(select(TokenRow.id).limit(1)).first() is not None


def create_token(
    session: Session, name: str, role: Role, *, now: float, expert: bool = False
) -> tuple[TokenRow, str]:
    """Create a token and return its row and its secret, which is kept nowhere.

    An ``expert`` may review pairs of routes whose review is ``expert_only``.

    The first token must be an admin's: with any other, nobody could create or revoke tokens.
    Raises :class:`RequestError` for a name that is no name and :class:`Conflict` for one taken.
    """
    if not _NAME.fullmatch(name):
        raise RequestError(
            "is no name; write letters, digits and . _ @ -, 63 at most", status=422, param="name"
        )
    if name == LOCAL.name:
        raise RequestError("is the local user's name; choose another", status=422, param="name")
    if role is not Role.admin and not tokens_exist(session):
        raise RequestError(
            "the first token must be an admin's, or nobody could manage tokens",
            status=422,
            param="role",
        )
    if expert and role < Role.reviewer:
        raise RequestError(
            "is for reviewers and above; viewers review nothing", status=422, param="expert"
        )
    if session.exec(select(TokenRow.id).where(TokenRow.name == name)).first() is not None:
        raise Conflict(
            f"a token called {name!r} exists; names are kept for the audit log, choose another",
            field="name",
        )
    secret = f"cm_{secrets.token_urlsafe(32)}"
    row = TokenRow(name=name, role=role.name, expert=expert, hash=_digest(secret), created_at=now)
    session.add(row)
    session.flush()
    return row, secret


def list_tokens(session: Session) -> list[TokenRow]:
    """Return all tokens, revoked ones too, oldest first."""
    return list(session.exec(select(TokenRow).order_by(col(TokenRow.id))).all())


def revoke_token(session: Session, name: str, *, now: float) -> TokenRow:
    """Revoke a token at once. Raises :class:`NotFound`.

    Raises :class:`Conflict` for the last admin's token: create its successor first.
    """
    row = session.exec(select(TokenRow).where(TokenRow.name == name).with_for_update()).first()
    if row is None:
        raise NotFound(f"there is no token called {name!r}", field="name")
    if row.revoked_at is not None:
        return row
    if row.role == Role.admin.name:
        others = select(TokenRow.id).where(
            TokenRow.role == Role.admin.name,
            col(TokenRow.revoked_at).is_(None),
            TokenRow.name != name,
        )
        if session.exec(others.limit(1)).first() is None:
            raise Conflict(
                f"{name!r} is the last admin token; create another admin token first", field="name"
            )
    row.revoked_at = now
    session.add(row)
    session.flush()
    return row


def find_principal(store: Store, secret: str, *, now: float) -> Principal | None:
    """Return whose token ``secret`` is, or ``None`` when it is unknown or revoked."""
    if not _TOKEN.fullmatch(secret):
        return None
    digest = _digest(secret)
    with store.read() as session:
        row = session.exec(select(TokenRow).where(TokenRow.hash == digest)).first()
    if row is None or row.revoked_at is not None:
        return None
    if not hmac.compare_digest(row.hash, digest):
        return None
    if row.last_used_at is None or now - row.last_used_at > _SEEN_INTERVAL_S:
        with suppress(StoreError), store.write() as session:  # a convenience: never in the way
            session.exec(
                update(TokenRow).where(col(TokenRow.id) == row.id).values(last_used_at=now)
            )
    return Principal(row.name, Role[row.role], row.expert)


def is_loopback(host: str) -> bool:
    """Say whether ``host``, an address or a name without port, is this machine only."""
    bare = host.strip("[]").rstrip(".").lower()
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def check_binding(settings: Settings, store: Store) -> None:
    """Refuse to listen beyond loopback as long as no token protects the API.

    Raises :class:`SettingsError`.
    """
    host = settings.control.host
    if is_loopback(host):
        return
    with store.read() as session:
        if tokens_exist(session):
            return
    raise SettingsError(
        f"{host} can be reached from other machines, and there is no token yet; create one with "
        "`coalmine token create NAME --role admin --local`, or listen on 127.0.0.1",
        field="control.host",
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
