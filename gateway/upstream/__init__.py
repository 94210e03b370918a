"""The client for deployments: HTTP/1.1 on httptools, with a pool, and nothing that we don't use.

httpx costs about 2 ms of CPU per request under load; this costs some tens of microseconds.
"""

from __future__ import annotations

from gateway.upstream.connection import Exchange
from gateway.upstream.pool import Timeouts, Upstream

__all__ = ["Exchange", "Timeouts", "Upstream"]
