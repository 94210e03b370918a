"""HTTP/1.1 as bytes in and values out: heads and bodies, read strictly, without any I/O."""

from __future__ import annotations

from gateway.http1.body import Body, ChunkedBody, FixedBody, RestBody
from gateway.http1.head import (
    MAX_FIELDS,
    MalformedError,
    RequestHead,
    ResponseHead,
    read_request,
    read_response,
)

__all__ = [
    "MAX_FIELDS",
    "Body",
    "ChunkedBody",
    "FixedBody",
    "MalformedError",
    "RequestHead",
    "ResponseHead",
    "RestBody",
    "read_request",
    "read_response",
]
