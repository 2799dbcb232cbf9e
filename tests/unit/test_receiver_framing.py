"""Requests come out of a connection whole, however their bytes were cut."""

from typing import Any

import pytest
from gunicorn.config import Config
from hypothesis import given
from hypothesis import strategies as st

from remediator.web.framing import GoAhead, Incoming, Malformed, RequestReader

LARGEST = 1000
PEER = ("127.0.0.1", 4711)


def _reader(*, welcome: bool = True) -> RequestReader:
    return RequestReader(Config(), PEER, LARGEST, lambda _authorization: welcome)


def _fed(data: bytes, *, welcome: bool = True) -> Any:
    reader = _reader(welcome=welcome)
    reader.feed(data)
    return reader.next()


def _post(*headers: str, body: bytes = b"", version: str = "1.1") -> bytes:
    return "\r\n".join((f"POST / HTTP/{version}", *headers, "", "")).encode() + body


def _chunked(parts: list[bytes]) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part)
    return _post("Transfer-Encoding: chunked", body=chunks + b"0\r\n\r\n")


_bodies = st.binary(max_size=50)
_requests = st.one_of(
    _bodies.map(lambda body: (_post(f"Content-Length: {len(body)}", body=body), body)),
    st.lists(_bodies, max_size=5).map(lambda parts: (_chunked(parts), b"".join(parts))),
    st.just((b"GET / HTTP/1.1\r\n\r\n", b"")),
)


@given(requests=st.lists(_requests, max_size=5), data=st.data())
def test_requests_are_the_same_however_their_bytes_are_cut(
    requests: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(sent for sent, _ in requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    reader, bodies = _reader(), []

    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[begin:end])
        while (found := reader.next()) is not None:
            assert isinstance(found, Incoming)
            bodies.append(found.body)

    assert bodies == [body for _, body in requests]
    assert reader.held == 0


@given(data=st.binary())
def test_random_bytes_never_break_it(data: bytes) -> None:
    for beginning in (b"", _post("Transfer-Encoding: chunked"), _post("Content-Length: 9")):
        found = _fed(beginning + data)

        assert found is None or isinstance(found, Incoming | Malformed)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(_post(f"Content-Length: {LARGEST + 1}"), id="announced"),
        pytest.param(_chunked([b"x" * LARGEST, b"x"]), id="in chunks"),
        pytest.param(_chunked([b"x" * (LARGEST + 1)])[:60], id="in one chunk"),
    ],
)
def test_a_body_that_is_too_large_is_refused_and_not_kept(sent: bytes) -> None:
    found = _fed(sent)

    assert isinstance(found, Incoming)
    assert (found.is_whole, found.body) == (False, b"")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(_post(f"Content-Length: {LARGEST}", body=b"x" * LARGEST), id="announced"),
        pytest.param(_chunked([b"x" * (LARGEST // 2)] * 2), id="in chunks"),
    ],
)
def test_a_body_as_large_as_may_be_is_taken(sent: bytes) -> None:
    found = _fed(sent)

    assert isinstance(found, Incoming)
    assert (found.is_whole, len(found.body)) == (True, LARGEST)


def test_who_is_not_welcome_is_refused_before_his_body_comes() -> None:
    waiting = _fed(_post("Content-Length: 5", "Expect: 100-continue"), welcome=False)
    arrived = _fed(_post("Content-Length: 5", body=b"hello"), welcome=False)

    assert isinstance(waiting, Incoming)
    assert not waiting.is_whole
    assert isinstance(arrived, Incoming)
    assert arrived.is_whole


def test_who_waits_for_a_go_ahead_gets_it_once() -> None:
    reader = _reader()
    reader.feed(_post("Content-Length: 5", "Expect: 100-Continue"))

    assert isinstance(reader.next(), GoAhead)
    assert reader.next() is None


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(
            _post("Content-Length: 2", "Expect: 100-continue", version="1.0"), id="HTTP/1.0"
        ),
        pytest.param(_post("Content-Length: 2"), id="not asked for"),
    ],
)
def test_who_does_not_know_of_go_aheads_gets_none(sent: bytes) -> None:
    assert _fed(sent) is None


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"\r\n", id="no size"),
        pytest.param(b"-1\r\n", id="negative"),
        pytest.param(b"0x5\r\n", id="prefixed"),
        pytest.param(b"1_0\r\n", id="underscore"),
        pytest.param(b"5\n", id="bare line feed"),
        pytest.param(b"2\r\nabc\r\n", id="longer than its size"),
        pytest.param(b"f" * 17 + b"\r\n", id="astronomic"),
        pytest.param(b"1;" + b"x" * 9000, id="endless extension"),
        pytest.param(b"0\r\n" + b"A: a\r\n" * 9000, id="endless trailer"),
    ],
)
def test_malformed_chunks_are_refused(chunks: bytes) -> None:
    found = _fed(_post("Transfer-Encoding: chunked", body=chunks))

    assert isinstance(found, Malformed)
    assert found.status == 400


def test_a_refusal_does_not_quote_what_was_sent() -> None:
    found = _fed(b"GET / HTTP/1.1\r\nAuthorization Bearer s3cret\r\n\r\n")

    assert isinstance(found, Malformed)
    assert "s3cret" not in found.reason
