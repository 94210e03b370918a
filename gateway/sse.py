"""Server-sent events, without I/O: cutting a byte stream into events and taking one of them out.

Events are raw bytes including the blank line that ends them, so that joining them gives the
stream again, byte for byte. Lines may end in LF, CRLF or CR, as the HTML standard has it.
"""

from __future__ import annotations

import re

from gateway.splice import members
from gateway.wire import Answer, only_usage, read_answer

__all__ = ["EventSplitter", "StreamFilter", "event_data"]

_END = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
_LINE = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"
_NULL_USAGE = b',"usage":null}\n\n'  # the last member of the outermost object
_NOTHING = Answer()

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


def _without_null_usage(event: bytes) -> bytes:
    """Return ``event`` without a top-level ``"usage": null`` in its data."""
    if event.endswith(_NULL_USAGE):
        return event[: -len(_NULL_USAGE)] + b"}\n\n"
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
    r"""Lets a stream through unchanged and reads its usage; may take the usage chunk out.

    ``strip_usage`` is set where the gateway itself asked for the chunk. What the asking added is
    then taken out again, as OpenAI documents it: the first event with usage and empty ``choices``,
    and before it the ``"usage": null`` of all others. Nothing else is touched.

    Only whole events are let through, so that a stream which breaks off can be ended with an error
    event of our own; an event of more than :data:`MAX_PENDING` bytes is the exception.

    ``answer`` is what the stream said about usage and finish reason so far. ``between`` tells
    whether the stream stands between two events, nothing held back: bytes that end in ``\n\n``
    and hold no ``"usage"`` are then what :meth:`feed` would return for them, and it need not be
    called.
    """

    __slots__ = ("_owed", "_splitter", "_strip", "_torn", "answer", "between")

    def __init__(self, *, strip_usage: bool = False) -> None:
        self.answer = _NOTHING
        self.between = True
        self._strip = strip_usage
        self._splitter = EventSplitter()
        self._owed: bytes | None = None
        self._torn = False

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the stream and return those to pass on."""
        if self.between and data.endswith(b"\n\n"):
            if b'"usage"' not in data:
                return data
            if data.count(b'"usage"') == data.count(_NULL_USAGE):
                return data.replace(_NULL_USAGE, b"}\n\n") if self._strip else data
        kept: list[bytes] = []
        data = self._pass_whole(data, kept)
        for piece in self._splitter.feed(data) if data else ():
            event = self._settle(piece, kept)
            removed = b'"usage"' in event and self._inspect(event)
            if self._strip and b'"usage"' in event:
                event = _without_null_usage(event)
            if event.endswith(b"\r\n\r"):
                self._owed = b"" if removed else b"\n"
            if not removed:
                self._torn = False
                kept.append(event)
        pending = self._splitter.pending
        if pending > MAX_PENDING:
            self._torn = True
            kept.append(self._settle(self._splitter.flush(), kept))
        self.between = not pending and self._owed is None and not self._torn
        return b"".join(kept)

    def _pass_whole(self, data: bytes, kept: list[bytes]) -> bytes:
        """Pass on all events up to the last blank line at once, and return what is left to cut.

        They go as they are, so that they need not be told apart, if none speaks of usage.
        """
        end = data.rfind(b"\n\n") + 2
        if end < 2 or self._owed is not None:
            return data
        whole, rest = self._splitter.flush() + data[:end], data[end:]
        if b"\r" in whole or b'"usage"' in whole:
            return whole + rest
        self._torn = False
        kept.append(whole)
        return rest

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
        if only_usage(data):
            self._strip = False
            return True
        return False
