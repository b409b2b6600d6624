"""A connection keeps little of what its peer sends ahead, and nothing of what is over."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.ingress.http.protocol import PIPELINED_MAX, SLICE_BYTES
from tests.ingress.http.test_protocol import LIMITS, WAITING_MAX, Server, on_a_loop, post

TINY = b"GET /early HTTP/1.1\r\nHost: h\r\n\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nl\r\n0\r\n"


def kept(server: Server) -> int:
    """Requests that wait for the answer before them."""
    return len(server.connection.pipeline)


@on_a_loop
async def test_of_many_requests_sent_ahead_few_are_parsed_and_all_are_answered() -> None:
    server = Server()
    many = 1_500
    await server.feed(post(b"h") + TINY * many)
    assert PIPELINED_MAX <= kept(server) <= PIPELINED_MAX + SLICE_BYTES // len(TINY)
    assert server.wire.paused
    assert 0 < server.waiting.held <= len(TINY) * many
    await server.let_go()
    while len(server.wire.answers()) < many + 1:
        assert server.wire.answers(), "it stands still"
        await server.settle()
    assert (kept(server), server.waiting.held, server.wire.paused) == (0, 0, False)
    await server.feed(post(b"after"))
    assert server.wire.answers()[-1] == "202 <after>"


@on_a_loop
async def test_nothing_more_is_read_while_a_request_waits_for_the_one_before_it() -> None:
    server = Server()
    await server.feed(post(b"h") + TINY)
    # The first one is asked for the end of its client, which resumes the reading otherwise.
    assert server.wire.paused
    server.connection.flow.resume_reading()
    assert server.wire.paused
    await server.let_go()
    assert not server.wire.paused


@on_a_loop
async def test_beyond_what_all_connections_may_keep_a_connection_is_refused() -> None:
    server = Server()
    server.waiting.take(WAITING_MAX - SLICE_BYTES)
    await server.feed(post(b"h"))
    await server.feed(TINY * 100)
    assert server.wire.written.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: " in server.wire.written
    assert server.wire.closed
    assert server.waiting.held == WAITING_MAX - SLICE_BYTES


@on_a_loop
async def test_what_was_sent_ahead_is_forgotten_when_the_client_goes_away() -> None:
    server = Server()
    await server.feed(post(b"h") + TINY * 1_500)
    running = server.connection._running
    assert running is not None
    server.connection.connection_lost(None)
    assert (kept(server), server.waiting.held, running.disconnected) == (0, 0, True)


@on_a_loop
async def test_a_client_that_does_not_read_is_cut_off_in_the_end() -> None:
    server = Server()
    now = asyncio.get_running_loop().time()
    server.connection.pause_writing()
    await server.feed(post(b"one"))
    server.connection.look(now + LIMITS.request_timeout_s / 2)
    assert not server.wire.closed
    server.connection.look(now + LIMITS.request_timeout_s + 1)
    assert server.wire.closed


@on_a_loop
async def test_a_client_that_reads_again_in_time_is_not_cut_off() -> None:
    server = Server()
    server.connection.pause_writing()
    server.connection.resume_writing()
    await server.feed(post(b"h"))
    server.connection.look(asyncio.get_running_loop().time() + LIMITS.request_timeout_s + 1)
    assert not server.wire.closed


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: b\r\n"])
def test_a_request_has_one_host(hosts: bytes) -> None:
    async def talk() -> None:
        server = Server()
        await server.feed(b"GET /early HTTP/1.1\r\n%bX-Request-Id: r-7\r\n\r\n" % hosts)
        assert server.wire.written.startswith(b"HTTP/1.1 400 ")
        assert b"\r\nx-request-id: r-7\r\n" in server.wire.written
        assert (server.wire.closed, server.state.tasks) == (True, set())

    asyncio.run(talk())


@on_a_loop
async def test_what_is_no_http_has_a_request_id_too() -> None:
    server = Server()
    await server.feed(b"nonsense\r\n\r\n")
    assert b"\r\nx-request-id: " in server.wire.written


@on_a_loop
async def test_a_caller_of_http_1_0_gets_no_chunks() -> None:
    for body in (b"s", b"h"):
        server = Server()
        head = b"POST /stream HTTP/1.0\r\nContent-Length: 1\r\n\r\n"
        await server.feed(head + body)
        await server.let_go()
        told, _, answer = server.wire.written.partition(b"\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 200 ")
        assert b"chunked" not in told
        assert b"connection: close" in told
        assert answer == b"first\nsecond\n"
        assert server.wire.closed
    server = Server()
    await server.feed(b"POST /x HTTP/1.0\r\nContent-Length: 1\r\n\r\ns")
    assert server.wire.answers() == ["202 <s>"]


@pytest.mark.parametrize(
    "trailer", [b"no colon\r\n\r\n", b": x\r\n\r\n", b"X: a\x00b\r\n\r\n", b"X : 1\r\n\r\n"]
)
@pytest.mark.parametrize("apart", [True, False])
def test_a_bad_line_behind_a_chunked_body_is_bad_http(
    trailer: bytes, apart: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk() -> None:
        server = Server()
        await server.feed(*((CHUNKED, trailer) if apart else (CHUNKED + trailer,)))
        assert server.wire.written.startswith(b"HTTP/1.1 400 ")
        assert (server.wire.closed, server.seen) == (True, [])

    asyncio.run(talk())
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@on_a_loop
async def test_a_line_behind_a_chunked_body_is_no_header_of_the_request() -> None:
    server = Server()
    await server.feed(CHUNKED + b"X-Request-Id: forged\r\n\r\n")
    assert server.wire.answers() == ["202 <l>"]
    assert b"forged" not in server.wire.written
