"""Server-sent events, without I/O: cutting a byte stream into events and taking one of them out.

Events are raw bytes including the blank line that ends them, so that joining them gives the
stream again, byte for byte. Lines may end in LF, CRLF or CR, as the HTML standard has it.
"""

from __future__ import annotations

import re

import msgspec

from gateway.splice import members
from gateway.wire import Answer, read_answer

__all__ = ["EventSplitter", "StreamFilter", "event_data"]

_END = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
_LINE = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"

MAX_PENDING = 256 * 1024
"""Bytes of one unfinished event that are held back; a longer event passes through in pieces."""


class EventSplitter:
    """Cuts chunks into events wherever the chunk boundaries fall.

    An event is given out as soon as its blank line is complete. Where a chunk ends between the CR
    and the LF of that blank line, the LF comes with the next event, where it is an empty line.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._scanned = 0

    @property
    def pending(self) -> int:
        """Bytes of the unfinished event held back."""
        return len(self._pending)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return the events that they complete."""
        buffer = self._pending
        buffer += data
        events: list[bytes] = []
        start = 0
        # the last three bytes may begin a blank line: \r\n and half of another
        position = max(0, self._scanned - 3)
        while match := _END.search(buffer, position):
            position = match.end()
            events.append(bytes(buffer[start:position]))
            start = position
        if start:
            del buffer[:start]
        self._scanned = len(buffer)
        return events

    def flush(self) -> bytes:
        """Return what is left of an unfinished event, and forget it."""
        rest = bytes(self._pending)
        self._pending.clear()
        self._scanned = 0
        return rest


def event_data(event: bytes) -> bytes | None:
    """Return the data of one raw event (``data:`` lines joined by LF), ``None`` without any."""
    lines = _LINE.split(event.removeprefix(_BOM))
    data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
    data += [b"" for line in lines if line == b"data"]
    return b"\n".join(data) if data else None


class _Chunk(msgspec.Struct):
    choices: object = None
    usage: object = None

    @property
    def only_usage(self) -> bool:
        """Whether this is the chunk that ``include_usage`` adds: usage and no choices."""
        return self.choices == [] and isinstance(self.usage, dict)


_CHUNK = msgspec.json.Decoder(_Chunk)


def _without_null_usage(event: bytes) -> bytes:
    """Return ``event`` without a top-level ``"usage": null`` in its data."""
    if event.endswith(b',"usage":null}\n\n'):  # the last member of the outermost object
        return event[:-16] + b"}\n\n"
    start = event.find(b"{")
    if start < 0 or event_data(event) is None or event.count(b"data:", 0, start) != 1:
        return event
    previous = 0
    try:
        for key, begin, end in members(event, start):
            if key == "usage" and event[begin:end] == b"null":
                if previous:
                    return event[:previous] + event[end:]
                rest = event[end:].lstrip(b" \t").removeprefix(b",")
                return event[: start + 1] + rest
            previous = end
    except ValueError:
        pass
    return event


class StreamFilter:
    """Lets a stream through unchanged and reads its usage; may take the usage chunk out.

    ``strip_usage`` is set where the gateway itself asked for the chunk. What the asking added is
    then taken out again, as OpenAI documents it: the first event with usage and empty ``choices``,
    and before it the ``"usage": null`` of all others. Nothing else is touched.

    Only whole events are let through, so that a stream which breaks off can be ended with an error
    event of our own; an event of more than :data:`MAX_PENDING` bytes is the exception.

    ``answer`` is what the stream said about usage and finish reason so far.
    """

    def __init__(self, *, strip_usage: bool = False) -> None:
        self.answer = Answer()
        self._strip = strip_usage
        self._splitter = EventSplitter()
        self._owed: bytes | None = None
        self._torn = False

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the stream and return those to pass on."""
        splitter = self._splitter
        if (
            data.endswith(b"\n\n")
            and b'"usage"' not in data
            and not splitter.pending
            and self._owed is None
        ):
            self._torn = False
            return data
        kept: list[bytes] = []
        for piece in splitter.feed(data):
            event = self._settle(piece, kept)
            removed = b'"usage"' in event and self._inspect(event)
            if self._strip and b'"usage"' in event:
                event = _without_null_usage(event)
            if event.endswith(b"\r\n\r"):
                self._owed = b"" if removed else b"\n"
            if not removed:
                self._torn = False
                kept.append(event)
        if splitter.pending > MAX_PENDING:
            self._torn = True
            kept.append(self._settle(splitter.flush(), kept))
        return b"".join(kept)

    def _settle(self, event: bytes, kept: list[bytes]) -> bytes:
        """Give an LF that a chunk boundary cut off to the event before, kept or removed."""
        owed, self._owed = self._owed, None
        if owed is None or not event.startswith(b"\n"):
            return event
        kept.append(owed)
        return event[1:]

    def flush(self) -> bytes:
        """Return what the stream ended with after its last whole event."""
        kept: list[bytes] = []
        kept.append(self._settle(self._splitter.flush(), kept))
        return b"".join(kept)

    def cut(self, event: bytes) -> bytes:
        """Return ``event`` to end a stream that broke off; the unfinished event is dropped."""
        self._splitter.flush()
        return b"\n\n" + event if self._torn else event

    def _inspect(self, event: bytes) -> bool:
        """Read the usage of ``event`` and say whether the event is to be removed."""
        data = event_data(event)
        if data is None:
            return False
        answer = read_answer(data)
        if answer.input_tokens is not None or answer.output_tokens is not None:
            self.answer = answer
        if not self._strip:
            return False
        try:
            chunk = _CHUNK.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if chunk.only_usage:
            self._strip = False
            return True
        return False
