"""Asking a Prometheus server for the value of a query, now."""

from __future__ import annotations

import json
import ssl
import time

import httpx

from rollout.queries import Answer, read_answer

__all__ = ["Prometheus"]

_MAX_BYTES = 4 * 1024**2
_MAX_SLOW = 3  # slow answers in one round, after which the server is given up for the round


class Prometheus:
    """A Prometheus server to be asked. Build it where it is used; it keeps a connection open.

    ``timeout`` is in seconds, for one query in all.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 5.0) -> None:
        self._url = f"{url}/api/v1/query"
        self._timeout = timeout
        self._client = httpx.Client(
            headers={"authorization": f"Bearer {token}"} if token else {},
            verify=ssl.create_default_context(),
            timeout=timeout,
            trust_env=False,
        )
        self._unreachable: str | None = None
        self._slow = 0

    def begin(self) -> None:
        """Begin a round of queries. A server that can't be reached is asked once in a round."""
        self._unreachable, self._slow = None, 0

    def ask(self, query: str, at: float) -> Answer:
        """Evaluate a query at an instant (Unix seconds)."""
        if self._unreachable is not None:
            return Answer({}, self._unreachable)
        deadline = time.monotonic() + self._timeout
        body = bytearray()
        try:
            with self._client.stream(
                "GET", self._url, params={"query": query, "time": f"{at:.3f}"}
            ) as answer:
                for data in answer.iter_bytes():
                    body += data
                    if len(body) > _MAX_BYTES:
                        return Answer({}, "the answer of Prometheus is too long")
                    if time.monotonic() > deadline:
                        raise httpx.ReadTimeout("the answer takes too long")
        except httpx.TimeoutException as error:
            self._slow += 1
            late = f"Prometheus did not answer within {self._timeout:g} s"
            if isinstance(error, httpx.ConnectTimeout) or self._slow >= _MAX_SLOW:
                self._unreachable = late
            return Answer({}, late)
        except httpx.HTTPError as error:
            self._unreachable = f"Prometheus can't be reached ({type(error).__name__})"
            return Answer({}, self._unreachable)
        try:
            return read_answer(json.loads(body))
        except ValueError:
            return Answer({}, f"Prometheus answered with status {answer.status_code} and no JSON")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
