"""The client for deployments: HTTP/1.1 with a pool, and nothing that we don't use.

httpx costs about 2 ms of CPU per request under load; this costs some microseconds.
"""

from __future__ import annotations

from gateway.upstream.connection import Connection, Link, Receiver, Request
from gateway.upstream.exchange import Exchange
from gateway.upstream.outbound import Outbound, Proxy, outbound
from gateway.upstream.pool import Timeouts, Upstream

__all__ = [
    "Connection",
    "Exchange",
    "Link",
    "Outbound",
    "Proxy",
    "Receiver",
    "Request",
    "Timeouts",
    "Upstream",
    "outbound",
]
