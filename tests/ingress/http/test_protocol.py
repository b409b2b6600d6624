"""A connection answers the same however its bytes arrive, and ends what is not HTTP or too slow."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from gateway.ingress.http import protocol
from gateway.ingress.http.protocol import LimitedProtocol
from gateway.ingress.http.request import Request
from gateway.ingress.http.request_ids import RequestIds
from gateway.ingress.http.waiting import WaitingBytes

LIMITS = protocol.ConnectionLimits(
    connections_max=10, header_bytes_max=4096, request_timeout_s=5.0, idle_timeout_s=3.0
)
WAITING_MAX = 64 * 1024
GARBAGE = b"\x00 garbage\r\n\r\n"


class Wire(asyncio.Transport):
    """The client's end: what was written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.paused = False

    def write(self, data: Any) -> None:
        self.written += data
        assert not self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def answers(self) -> list[str]:
        """ "<status> <body>" each."""
        found = re.findall(
            rb"HTTP/1\.1 ([0-9]{3}) .*?\r\n\r\n(<.*?>|\{.*?\}$)", self.written, re.DOTALL
        )
        return [f"{status.decode()} {body.decode()[:20]}" for status, body in found]


class Server:
    """One connection; a body that begins with "h" is answered when `let_go` is called."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self._may_go = asyncio.Event()
        config = uvicorn.Config(
            self._app, interface="asgi3", log_config=None, lifespan="off", proxy_headers=False
        )
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"today")]
        self.wire = Wire()
        self.waiting = WaitingBytes(WAITING_MAX)
        self.ids = RequestIds()
        self.connection: LimitedProtocol = protocol.limited(LIMITS, self.waiting, self.ids)(
            config, self.state, {}
        )
        self.connection.connection_made(self.wire)

    async def feed(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self.connection.data_received(chunk)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def let_go(self) -> None:
        self._may_go.set()
        await self.settle()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/early":
            await Request(scope, receive, send, self.ids, self.waiting).respond(202, b"<early>")
            return
        if scope["path"] == "/answering":
            request = Request(scope, receive, send, self.ids, self.waiting)
            await request.begin(200, ())
            while (event := await receive())["type"] == "http.request" and event["more_body"]:
                pass
            await request.write(event["type"].encode())
            await request.end()
            return
        body = b""
        while True:
            event = await receive()
            if event["type"] != "http.request":
                return
            body += event["body"]
            if not event["more_body"]:
                break
        self.seen.append(body)
        if scope["path"] == "/stream":
            request = Request(scope, receive, send, self.ids, self.waiting)
            await request.begin(200, ())
            for line in (b"first\n", b"second\n"):
                await request.write(line)
            await request.end()
            return
        if body.startswith(b"h"):
            await self._may_go.wait()
        await Request(scope, receive, send, self.ids, self.waiting).respond(202, b"<%b>" % body)


def post(body: bytes, *more: bytes, target: bytes = b"/x") -> bytes:
    lines = [b"POST %b HTTP/1.1" % target, b"Host: h", b"Content-Length: %d" % len(body), *more]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(body: bytes) -> bytes:
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    return (
        b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
    )


def on_a_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 10))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


# As a client of Java's begins, which would rather speak HTTP/2.
OFFER = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAA")
REQUESTS = st.sampled_from(
    [
        post(b"one"),
        post(b""),
        post(b"x" * 300),
        chunked(b"other"),
        post(b"three", target=b"/elsewhere"),
        b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n",
        post(b"offered", *OFFER),
        b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ]
)


@given(requests=st.lists(REQUESTS, min_size=1, max_size=5), data=st.data())
def test_however_the_bytes_are_cut_the_answers_are_the_same(
    requests: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(requests)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6).map(sorted))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]

    async def both() -> None:
        calm, hasty = Server(), Server()
        for request in requests:
            await calm.feed(request)
        await hasty.feed(*chunks)
        assert len(calm.seen) == len(hasty.seen) == len(calm.wire.answers()) == len(requests)
        assert hasty.wire.answers() == calm.wire.answers()

    asyncio.run(both())


@on_a_loop
async def test_a_connection_is_kept_until_its_client_asks_for_its_end() -> None:
    server = Server()
    await server.feed(post(b"whole"))
    await server.feed(post(b"cut")[:-2], b"ut")
    await server.feed(post(b"asks", b"Expect: 100-continue"))
    assert not server.wire.closed
    await server.feed(post(b"last", b"Connection: close"))
    assert server.seen == [b"whole", b"cut", b"asks", b"last"]
    assert server.wire.closed


@on_a_loop
async def test_an_offer_of_another_protocol_is_left_and_its_request_is_whole() -> None:
    server = Server()
    await server.feed(post(b"offered", *OFFER), post(b"x" * 5_000, *OFFER) + post(b"after"))
    long = b"\r\n".join((b"POST /x HTTP/1.1", b"Host: h", *OFFER, b"Transfer-Encoding: chunked"))
    await server.feed(long + b"\r\n\r\n5\r\npiec", b"e\r\n0\r\n\r\n")
    assert server.seen == [b"offered", b"x" * 5_000, b"after", b"piece"]
    assert not server.wire.closed
    many = [b"X-%d: y" % number for number in range(protocol.HEADERS_MAX)]
    await server.feed(post(b"too many", *OFFER, *many))
    assert server.wire.written.count(b"HTTP/1.1 431") == 1


@on_a_loop
async def test_an_answer_has_the_servers_headers_and_its_own() -> None:
    server = Server()
    await server.feed(post(b"s", b"X-Request-Id: mine"))
    assert server.wire.written == (
        b"HTTP/1.1 202 Accepted\r\ndate: today\r\ncontent-type: application/json\r\n"
        b"content-length: 3\r\nx-request-id: mine\r\n\r\n<s>"
    )


@on_a_loop
async def test_what_follows_waits_for_the_answer_before_it() -> None:
    server = Server()
    await server.feed(post(b"h-first") + post(b"second"))
    await server.feed(post(b"third"))
    assert (server.wire.answers(), server.wire.paused) == ([], True)
    await server.let_go()
    assert server.wire.answers() == ["202 <h-first>", "202 <second>", "202 <third>"]
    assert not server.wire.paused


@on_a_loop
async def test_what_has_garbage_behind_it_is_not_begun() -> None:
    server = Server()
    await server.feed(post(b"one") + GARBAGE)
    assert server.seen == []
    assert server.wire.written.startswith(b"HTTP/1.1 400 ")
    assert server.wire.closed


@on_a_loop
async def test_garbage_after_a_request_under_way_ends_the_connection_unanswered() -> None:
    server = Server()
    await server.feed(post(b"h"))
    await server.feed(GARBAGE)
    written = server.wire.written
    await server.let_go()
    assert written.startswith(b"HTTP/1.1 400 ")
    assert server.wire.written == written


@on_a_loop
async def test_a_body_that_breaks_off_in_the_middle_is_not_begun() -> None:
    server = Server()
    await server.feed(
        b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\ns\r\nzz\r\n"
    )
    assert (server.seen, server.state.tasks) == ([], set())
    assert server.wire.written.startswith(b"HTTP/1.1 400 ")


@on_a_loop
async def test_nothing_is_written_to_a_client_that_went_away() -> None:
    server = Server()
    await server.feed(post(b"h"))
    server.connection.connection_lost(None)
    await server.let_go()
    assert (server.seen, server.wire.written) == ([b"h"], b"")


@on_a_loop
async def test_nothing_is_written_to_a_connection_that_was_given_up_meanwhile() -> None:
    server = Server()
    await server.feed(post(b"h") + post(b"queued") + b"POST /x HT")
    server.connection.look(asyncio.get_running_loop().time() + LIMITS.request_timeout_s + 1)
    written = server.wire.written
    assert written.startswith(b"HTTP/1.1 408 ")
    await server.let_go()
    assert (server.seen, server.wire.written) == ([b"h"], written)


@pytest.mark.parametrize("target", [b"http://h", b"http://h:99999/x"])
@pytest.mark.parametrize("body", [b"", b"whole", b"half"])
def test_a_target_that_is_none_is_refused_as_bad_http(target: bytes, body: bytes) -> None:
    asyncio.run(refused_as_bad_http(target, body))


async def refused_as_bad_http(target: bytes, body: bytes) -> None:
    server = Server()
    head = b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n" % target
    await server.feed(head + body)
    assert server.wire.written.startswith(b"HTTP/1.1 400 ")
    assert server.wire.closed
    server.connection.look(asyncio.get_running_loop().time() + 100)
    assert server.seen == []


CHUNKED = b"POST /%b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@on_a_loop
async def test_headers_behind_a_body_have_the_limit_of_those_before_it() -> None:
    for trailers in ([b"x: y\r\n" * 100] * 5, [b"x: ", *[b"y" * 1000] * 3]):
        server = Server()
        few = [b"x: y\r\n\r\n"]
        await server.feed(CHUNKED % b"x", b"1\r\nl\r\n0\r\n", *few)
        assert server.wire.answers() == ["202 <l>"]
        server.wire.written = b""
        await server.feed(CHUNKED % b"x", b"1\r\nl\r\n0\r\n", *trailers)
        assert server.wire.written == b""
        await server.feed(*trailers)
        assert server.wire.written.startswith(b"HTTP/1.1 431 ")
        assert server.wire.closed
        assert server.seen == [b"l"]


@on_a_loop
async def test_headers_behind_a_body_that_was_answered_early_end_the_connection() -> None:
    server = Server()
    await server.feed(CHUNKED % b"early", b"1\r\nl\r\n0\r\n", *[b"x: y\r\n" * 100] * 6)
    assert server.wire.answers() == ["202 <early>"]
    await server.feed(b"x: y\r\n" * 200)
    assert server.wire.answers() == ["202 <early>"]
    assert server.wire.closed


@on_a_loop
async def test_a_body_in_chunks_is_none_of_the_headers() -> None:
    server = Server()
    chunks = [b"ff\r\n", b"y" * 255 + b"\r\n"] * (LIMITS.header_bytes_max // 100)
    await server.feed(CHUNKED % b"x", *chunks, b"0\r\n\r\n")
    assert server.seen == [b"y" * 255 * (len(chunks) // 2)]
    assert len(server.wire.answers()) == 1
    assert not server.wire.closed


@on_a_loop
async def test_what_comes_behind_a_refused_request_is_not_begun() -> None:
    server = Server()
    too_many = [b"X-%d: y" % number for number in range(protocol.HEADERS_MAX)]
    await server.feed(post(b"large", *too_many) + post(b"long") + post(b"one"))
    assert server.wire.written.startswith(b"HTTP/1.1 431 ")
    assert (server.seen, server.state.tasks) == ([], set())


@on_a_loop
async def test_a_stopping_server_answers_what_is_under_way_and_closes() -> None:
    server = Server()
    await server.feed(post(b"h"))
    server.connection.shutdown()
    assert not server.wire.closed
    await server.let_go()
    assert b"connection: close\r\n" in server.wire.written
    assert server.wire.closed


@on_a_loop
async def test_a_stream_under_way_is_not_cut_off_where_too_much_waits() -> None:
    server = Server()
    head, body = post(b"x" * 5_000, target=b"/answering").split(b"\r\n\r\n")
    await server.feed(head + b"\r\n\r\n")
    server.waiting.add(WAITING_MAX)
    await server.feed(body)
    assert b"http.request" in server.wire.written
    assert server.waiting.held == WAITING_MAX
    await server.feed(post(b"y" * 5_000))
    assert b"HTTP/1.1 503" in server.wire.written, "a new request is refused"


@on_a_loop
async def test_a_client_that_does_not_read_its_answers_is_waited_for() -> None:
    server = Server()
    server.connection.pause_writing()
    await server.feed(post(b"one"))
    assert server.wire.written == b""
    server.connection.resume_writing()
    await server.settle()
    assert server.wire.answers() == ["202 <one>"]


@on_a_loop
async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    server = Server()
    await server.feed(post(b"h"))
    much_later = asyncio.get_running_loop().time() + 100
    server.connection.look(much_later)
    assert not server.wire.closed
    await server.let_go()
    server.connection.look(asyncio.get_running_loop().time() + LIMITS.idle_timeout_s / 2)
    assert not server.wire.closed
    server.connection.look(much_later)
    assert server.wire.closed
