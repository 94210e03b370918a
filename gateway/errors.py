"""Every exception that Coalmine raises on purpose.

::

    CoalmineError
    ├── SettingsError            a setting is missing or wrong
    ├── SpecError                a rollout's spec is wrong
    ├── TransitionError          the event is not allowed in the present phase
    ├── NotFound                 no such rollout, route, deployment or token
    ├── Forbidden                the token's role does not allow it
    ├── StoreError
    │   ├── StoreUnavailable     the store can't be reached or is locked; try again
    │   └── Conflict             someone else changed the row first (compare-and-set)
    ├── RequestError             a client's request can't be served; has an HTTP status
    └── UpstreamError
        ├── ConnectFailed        no connection to the deployment
        ├── UpstreamTimeout      it did not answer in time
        ├── UpstreamClosed       it closed the connection before the answer ended
        └── UpstreamProtocolError  it does not speak HTTP/1.1

A failed check, a tie, an unscored judgment and an inconclusive verdict are values, not exceptions.
"""

from __future__ import annotations

__all__ = [
    "CoalmineError",
    "Conflict",
    "ConnectFailed",
    "Forbidden",
    "NotFound",
    "RequestError",
    "SettingsError",
    "SpecError",
    "StoreError",
    "StoreUnavailable",
    "TransitionError",
    "UpstreamClosed",
    "UpstreamError",
    "UpstreamProtocolError",
    "UpstreamTimeout",
]


class CoalmineError(Exception):
    """The base of all errors here: one sentence that says what is wrong and what would be right.

    ``field`` is the dotted path of the offending setting, spec key or parameter, if any.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class SettingsError(CoalmineError):
    """A setting in ``coalmine.yaml`` or the environment is missing or wrong."""


class SpecError(CoalmineError):
    """A rollout's spec is wrong; ``field`` is the path in the document."""


class TransitionError(CoalmineError):
    """The event is not allowed in the rollout's present phase; nothing has changed."""


class NotFound(CoalmineError):
    """Nothing of that name exists."""


class Forbidden(CoalmineError):
    """The token's role does not allow the action."""


class StoreError(CoalmineError):
    """The store refused or failed."""


class StoreUnavailable(StoreError):
    """The store can't be reached, or stayed locked past its timeout. Trying again may help."""


class Conflict(StoreError):
    """The row was changed by someone else since it was read; read again and decide again."""


class RequestError(CoalmineError):
    """A client's request can't be served. Rendered in OpenAI's error shape on the data plane.

    ``status`` is the HTTP status, ``type`` and ``code`` are OpenAI's words, ``param`` names the
    part of the request that is wrong.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",  # noqa: A002 - OpenAI's name for it
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, field=param)
        self.status = status
        self.type = type
        self.code = code
        self.param = param


class UpstreamError(CoalmineError):
    """A deployment did not answer as HTTP promises. ``cause`` is a bounded word for metrics."""

    cause = "upstream"


class ConnectFailed(UpstreamError):
    """No connection to the deployment could be made."""

    cause = "connect"


class UpstreamTimeout(UpstreamError):
    """The deployment did not answer in time."""

    cause = "timeout"


class UpstreamClosed(UpstreamError):
    """The deployment closed the connection before its answer was complete."""

    cause = "closed"


class UpstreamProtocolError(UpstreamError):
    """The deployment sent something that is not HTTP/1.1."""

    cause = "protocol"
