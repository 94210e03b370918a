"""Properties of the event splitter and the usage filter: chunk boundaries never matter."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.sse import MAX_PENDING, EventSplitter, StreamFilter, event_data

ENDINGS = st.sampled_from([b"\n", b"\r\n", b"\r"])
TEXTS = st.binary(max_size=12).map(lambda b: b.replace(b"\r", b"").replace(b"\n", b""))
USAGE = b'{"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}'
DELTA = b'{"id":"c","choices":[{"delta":{"content":"hi"}}],"usage":null}'


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Draw a stream of events with any line endings, and the data that they carry."""
    ending = draw(ENDINGS)
    texts = draw(st.lists(TEXTS, max_size=6))
    bom = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    comment = draw(st.booleans())
    stream = bom
    for text in texts:
        if comment:
            stream += b": ping" + ending
        stream += b"data: " + text + ending + ending
    return stream, texts


def cut(data: bytes, points: list[int]) -> list[bytes]:
    """Cut ``data`` at the given points, modulo its length."""
    edges = sorted({0, len(data), *(p % (len(data) + 1) for p in points)})
    return [data[a:b] for a, b in pairwise(edges)]


POINTS = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.binary(max_size=200), POINTS)
def test_events_join_to_the_stream(data: bytes, points: list[int]) -> None:
    """Whatever the bytes and the boundaries, nothing is lost, added or reordered."""
    splitter = EventSplitter()
    out = [event for chunk in cut(data, points) for event in splitter.feed(chunk)]
    assert b"".join(out) + splitter.flush() == data


@given(streams(), POINTS)
def test_data_does_not_depend_on_boundaries(
    stream: tuple[bytes, list[bytes]], points: list[int]
) -> None:
    """The same data comes out wherever the stream is cut, with LF, CRLF and CR."""
    data, texts = stream
    splitter = EventSplitter()
    events = [event for chunk in cut(data, points) for event in splitter.feed(chunk)]
    found = [event_data(event) for event in events]
    assert [text for text in found if text is not None] == texts
    assert splitter.flush().strip(b"\n") in (b"", b"\xef\xbb\xbf")


@given(st.binary(max_size=200), POINTS, st.booleans())
def test_filter_leaves_foreign_bytes_alone(data: bytes, points: list[int], strip: bool) -> None:
    """A stream without a usage chunk passes byte for byte."""
    stream = StreamFilter(strip_usage=strip)
    out = b"".join(stream.feed(chunk) for chunk in cut(data, points)) + stream.flush()
    assert out == data


@given(ENDINGS, st.integers(0, 4), st.integers(0, 3), POINTS)
def test_filter_removes_exactly_the_usage_chunk(
    ending: bytes, before: int, after: int, points: list[int]
) -> None:
    """The injected chunk is gone, everything around it is byte-identical, usage is known."""
    event = b"data: " + DELTA.replace(b',"usage":null', b"") + ending * 2
    usage = b"data: " + USAGE + ending * 2
    tail = event * after + b"data: [DONE]" + ending * 2
    data = event * before + usage + tail
    stream = StreamFilter(strip_usage=True)
    out = b"".join(stream.feed(chunk) for chunk in cut(data, points)) + stream.flush()
    assert out == event * before + tail
    assert (stream.answer.input_tokens, stream.answer.output_tokens) == (3, 5)


@given(
    st.sampled_from([b'{%b,"usage":null}', b'{%b , "usage" : null}', b'{"usage":null,%b}']), POINTS
)
def test_null_usage_that_the_asking_added_is_removed(form: bytes, points: list[int]) -> None:
    """A client that did not ask for usage sees the chunks as they would have been.

    OpenAI puts a null usage into every other chunk when asked. Text that looks alike stays.
    """
    inner = b'"id":"c","choices":[{"delta":{"content":",\\"usage\\":null}","usage":null}}]'
    plain = b"data: {" + inner + b"}\n\n"
    chunk = b"data: " + form % inner + b"\n\n"
    usage = b"data: " + USAGE + b"\n\n"
    data = chunk * 2 + usage + b"data: [DONE]\n\n"
    stream = StreamFilter(strip_usage=True)
    out = b"".join(stream.feed(part) for part in cut(data, points)) + stream.flush()
    assert out == plain * 2 + b"data: [DONE]\n\n"


@given(st.lists(st.integers(1, 4), max_size=6), st.booleans(), st.booleans())
def test_null_usage_goes_from_events_that_arrive_together(
    groups: list[int], strip: bool, mixed: bool
) -> None:
    """Whole events in one piece are filtered as they are one by one."""
    plain = b'data: {"id":"c","choices":[{"delta":{"content":"\\"usage\\":null}"}}]}\n\n'
    nulled = plain[:-3] + b',"usage":null}\n\n'
    stream = StreamFilter(strip_usage=strip)
    for size in groups:
        piece = (plain if mixed else b"") + nulled * size
        expected = piece if not strip else plain * (size + mixed)
        assert stream.between
        assert stream.feed(piece) == expected
    assert stream.feed(b"data: " + USAGE + b"\n\n") == (
        b"" if strip else b"data: " + USAGE + b"\n\n"
    )
    assert (stream.answer.input_tokens, stream.answer.output_tokens) == (3, 5)


PIECES = st.lists(
    st.sampled_from(
        [
            b"data: a\n\n",
            b"data: a\n\ndata: b\n\n",
            b"data: \xff\r\n\r\n",
            b"data: b\r\n\r",
            b"\n",
            b"\n\n",
            b"data: c",
            b"\r\r",
            b"data: " + DELTA + b"\n\n",
            b"data: " + USAGE + b"\n\n",
            b"data: " + USAGE,
            b"x" * (MAX_PENDING + 1),
        ]
    ),
    max_size=8,
)


@given(PIECES, st.booleans())
def test_between_events_the_filter_may_be_left_out(pieces: list[bytes], strip: bool) -> None:
    """Where it says so, not to feed it changes neither the bytes nor what it says afterwards."""
    always, spared = StreamFilter(strip_usage=strip), StreamFilter(strip_usage=strip)
    for piece in pieces:
        expected = always.feed(piece)
        if spared.between and piece.endswith(b"\n\n") and b'"usage"' not in piece:
            assert expected == piece
        else:
            assert spared.feed(piece) == expected
        assert spared.between is always.between
        assert spared.answer == always.answer
    end = b"data: {}\n\n"
    assert spared.cut(end) == always.cut(end)


@given(PIECES)
def test_the_filter_stands_between_events_only_when_it_holds_nothing(pieces: list[bytes]) -> None:
    """Everything that was fed has been passed on whenever it says so."""
    stream = StreamFilter()
    fed = out = b""
    for piece in pieces:
        fed += piece
        out += stream.feed(piece)
        assert fed.startswith(out)
        assert not stream.between or out == fed


@given(POINTS)
def test_filter_keeps_usage_that_the_client_asked_for(points: list[int]) -> None:
    """Without stripping the usage chunk stays and is still read."""
    data = b"data: " + DELTA + b"\n\ndata: " + USAGE + b"\n\ndata: [DONE]\n\n"
    stream = StreamFilter()
    out = b"".join(stream.feed(chunk) for chunk in cut(data, points)) + stream.flush()
    assert out == data
    assert stream.answer.output_tokens == 5


@given(POINTS)
def test_a_cut_stream_ends_in_one_whole_error_event(points: list[int]) -> None:
    """After a break in the middle of an event only whole events have left, then the error."""
    data = b"data: one\n\ndata: two\n\ndata: thr"
    stream = StreamFilter()
    out = b"".join(stream.feed(chunk) for chunk in cut(data, points))
    out += stream.cut(b"data: {}\n\n")
    assert out == b"data: one\n\ndata: two\n\ndata: {}\n\n"
