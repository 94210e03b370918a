"""A small client of the admin API, for the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote, urlsplit

import httpx

from gateway.errors import ConnectFailed, RequestError, UpstreamProtocolError, UpstreamTimeout

__all__ = ["AdminClient", "default_url", "segment"]

_TIMEOUT_S = 30.0


def default_url() -> str:
    """Return control's address: ``COALMINE_URL``, or what the settings say.

    Raises :class:`gateway.errors.SettingsError` when the settings are needed and wrong.
    """
    given = os.environ.get("COALMINE_URL")
    if given:
        return given
    from gateway.settings import load_settings

    control = load_settings().control
    host = control.host
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{control.port}" if ":" in host else f"http://{host}:{control.port}"


def segment(name: str) -> str:
    """Return ``name`` as one segment of a path."""
    return quote(name, safe="")


class AdminClient:
    """Calls the admin API at ``url``; every error is one of Coalmine's, with one clear sentence.

    ``transport`` replaces the network in tests. ``timeout`` is in seconds.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        timeout: float = _TIMEOUT_S,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise RequestError(
                f"{url!r} is no address; write for example http://127.0.0.1:8081", param="--url"
            )
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._client = httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=timeout,
            # A proxy of the environment has no business between a user and their own machine.
            trust_env=parts.hostname not in {"127.0.0.1", "localhost", "::1"},
            transport=transport,
        )

    def __enter__(self) -> Self:
        """Return the client; leaving closes its connections."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, **query: str | float | None) -> dict[str, Any]:
        """Return the document at ``path``. ``None`` in the query is left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", path, params=given)

    def send(self, method: str, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Send a JSON document and return the answer; ``None`` values are left out."""
        given = {name: value for name, value in document.items() if value is not None}
        return self._call(method, path, json=given)

    def send_text(
        self, path: str, text: str, *, media_type: str, **query: str | float | None
    ) -> dict[str, Any]:
        """Post text as it is and return the answer. ``None`` in the query is left out."""
        return self._call(
            "POST",
            path,
            params={name: value for name, value in query.items() if value is not None},
            content=text.encode(),
            headers={"content-type": media_type},
        )

    def delete(self, path: str) -> dict[str, Any]:
        """Delete what is at ``path`` and return the answer."""
        return self._call("DELETE", path, headers={"content-type": "application/json"})

    def save(self, path: str, file: IO[bytes], **query: str | float | None) -> int:
        """Write the lines at ``path`` to a file as they come, and return how many there are.

        ``None`` in the query is left out.
        """
        given = {name: value for name, value in query.items() if value is not None}
        lines = 0
        try:
            with self._client.stream("GET", path, params=given) as response:
                if not response.is_success:
                    response.read()
                    raise _refused(response.status_code, _problem(response))
                for chunk in response.iter_bytes():
                    lines += chunk.count(b"\n")
                    file.write(chunk)
        except httpx.TimeoutException:
            raise UpstreamTimeout(
                f"control at {self.url} sent nothing for {self._timeout:g} s"
            ) from None
        except httpx.HTTPError as error:
            raise ConnectFailed(
                f"the connection to control at {self.url} broke ({error})"
            ) from None
        return lines

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, **arguments)
        except httpx.TimeoutException:
            raise UpstreamTimeout(
                f"control at {self.url} did not answer within {self._timeout:g} s"
            ) from None
        except httpx.HTTPError as error:
            raise ConnectFailed(
                f"no connection to control at {self.url} ({error}); is it running? "
                "Start it with `coalmine control` or `coalmine up`, or give --url"
            ) from None
        try:
            document = response.json()
        except ValueError:
            document = None
        if response.is_success and isinstance(document, dict):
            return document
        if isinstance(document, dict) and "detail" in document:
            raise _refused(response.status_code, document)
        raise UpstreamProtocolError(
            f"{self.url} answered {response.status_code}, but not as Coalmine's control does; "
            "is --url right?"
        )


def _problem(response: httpx.Response) -> Mapping[str, Any]:
    try:
        document = response.json()
    except ValueError:
        document = None
    known = isinstance(document, dict) and "detail" in document
    return document if known else {"detail": f"control answered {response.status_code}"}


def _refused(status: int, problem: Mapping[str, Any]) -> RequestError:
    detail = str(problem["detail"])
    if status == 401:
        detail += " (give --token or set COALMINE_TOKEN)"
    kind = str(problem.get("type", "")).rpartition(":")[2]
    return RequestError(detail, status=status, code=kind, param=problem.get("field"))
