"""The HTTP edge against a raw server: what is kept, what is bounded, at which stage it fails."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from providers.contract import NotSent, Unknown
from providers.http.adapter import ProviderRequest, Reply
from providers.http.client import ProviderClient
from providers.http.reply_reader import BODY_BYTES_MAX, HEAD_BYTES_MAX, IDLE_S_MAX
from tests.worlds.provider_examples import config
from tests.worlds.raw_server import Peer, Server, client_context, ok, serving

POST = ProviderRequest("POST", "/send", (("Authorization", "App k"),), b'{"a":1}')
GET = ProviderRequest("GET", "/logs?messageId=a", ())


def client_of(base_url: str, **changes: object) -> ProviderClient:
    context = client_context() if base_url.startswith("https") else None
    settings = config("infobip-sms", base_url=base_url, **changes)
    return ProviderClient(settings, ssl_context=context)


@dataclass
class Speaking:
    """A server that answers every request with the same bytes, and a client of it."""

    client: ProviderClient
    server: Server
    requests: list[bytes]

    async def get(self) -> Reply:
        return await self.client.send(GET)


@asynccontextmanager
async def speaking(
    answer: bytes, *, close: bool = False, tls: bool = False, **changes: object
) -> AsyncIterator[Speaking]:
    requests: list[bytes] = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            requests.append(request)
            await peer.say(answer)
            if close:
                return

    async with (
        serving(script, tls=tls) as server,
        client_of(server.base_url, **changes) as client,
    ):
        yield Speaking(client, server, requests)


async def test_a_request_is_written_as_it_is_and_its_answer_read_whole() -> None:
    async with speaking(ok(b"body", b"X-A: 1", b"x-a: 2", b"Retry-After: 7")) as wire:
        reply = await wire.client.send(POST)
        assert (reply.status, reply.body) == (200, b"body")
        assert reply.headers["retry-after"] == "7"
        assert reply.headers["x-a"] == "1, 2"
        (request,) = wire.requests
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /send HTTP/1.1\r\n")
        assert b"Authorization: App k" in head
        assert b"Content-Length: 7" in head
        assert body == POST.body


async def test_one_connection_serves_many_requests() -> None:
    async with speaking(ok()) as wire:
        for _ in range(5):
            await wire.client.send(POST)
            await wire.get()
        assert wire.server.connections == 1


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            b"abc",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\nLink: a\r\n\r\n" + ok(b"x"), b"x"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (ok(b""), b""),
    ],
)
async def test_framings_that_leave_the_connection_usable(answer: bytes, body: bytes) -> None:
    async with speaking(answer) as wire:
        assert (await wire.get()).body == body
        assert (await wire.get()).body == body
        assert wire.server.connections == 1


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with speaking(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", close=True) as wire:
        assert (await wire.get()).body == b"until the end"
        assert (await wire.get()).body == b"until the end"
        assert wire.server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"ok", b"Connection: close"),
        ok().replace(b"HTTP/1.1", b"HTTP/1.0"),
        ok() + b"stray bytes",
        ok() + ok(b"an answer nobody asked for"),
    ],
)
async def test_a_connection_that_must_not_be_reused_is_not(answer: bytes) -> None:
    async with speaking(answer) as wire:
        assert (await wire.get()).body == b"ok"
        assert (await wire.get()).body == b"ok"
        assert wire.server.connections == 2


@pytest.mark.parametrize(
    "status", [b"302 Found\r\nLocation: http://127.0.0.1:1/", b"429 Slow down", b"500 Oops"]
)
async def test_any_status_is_a_reply_and_no_redirect_is_followed(status: bytes) -> None:
    answer = b"HTTP/1.1 %b\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n" % status
    async with speaking(answer) as wire:
        assert (await wire.get()).status == int(status[:3])
        await wire.get()
        assert len(wire.requests) == 2
        assert b"cookie" not in wire.requests[1].lower()


async def test_a_body_of_the_maximum_is_read() -> None:
    async with speaking(ok(b"x" * BODY_BYTES_MAX)) as wire:
        assert len((await wire.get()).body) == BODY_BYTES_MAX


async def test_what_follows_a_body_is_no_header_and_is_read_once() -> None:
    """Joined one by one, 250,000 trailers of one name held a process for 3 to 4 s."""
    head = b"HTTP/1.1 429 Slow down\r\nX-Of: a\r\nX-Of: b\r\nTransfer-Encoding: chunked\r\n\r\n"
    trailers = b"Retry-After: 9\r\n" + b"a:\r\n" * 250_000
    async with speaking(head + b"1\r\nx\r\n0\r\n" + trailers + b"\r\n") as wire:
        reply = await wire.get()
        assert (reply.status, reply.body) == (429, b"x")
        assert reply.headers == {"x-of": "a, b", "transfer-encoding": "chunked"}


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"x" * (BODY_BYTES_MAX + HEAD_BYTES_MAX + 1)),
        ok(b"ok", b"X-Long: " + b"x" * (2 * HEAD_BYTES_MAX)),
        b"HTTP/1.1 200 OK\r\nX-Endless: " + b"x" * (3 * HEAD_BYTES_MAX),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        ok(b"\x1f\x8b", b"Content-Encoding: gzip"),
    ],
    ids=["body", "head", "endless", "1xx", "101", "ssh", "lengths", "gzip"],
)
async def test_an_answer_that_is_malformed_or_too_large_is_unknown(answer: bytes) -> None:
    async with speaking(answer, close=True) as wire:
        with pytest.raises(Unknown) as raised:
            await wire.get()
        assert raised.value.code in ("answer_malformed", "connection_lost")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
@pytest.mark.parametrize("tls", [False, True])
async def test_a_connection_lost_before_the_answer_is_whole_is_unknown(
    answer: bytes, tls: bool
) -> None:
    async with speaking(answer, close=True, tls=tls) as wire:
        with pytest.raises(Unknown):
            await wire.client.send(POST)


async def test_nobody_listening_is_not_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with client_of(f"http://127.0.0.1:{unused.getsockname()[1]}") as client:
            with pytest.raises(NotSent) as raised:
                await client.send(POST)
            assert raised.value.code == "connect_failed"


async def test_tls_is_spoken_and_kept_alive() -> None:
    async with speaking(ok(), tls=True) as wire:
        assert (await wire.get()).body == b"ok"
        assert (await wire.client.send(POST)).body == b"ok"
        assert len(wire.requests) == 2


async def test_a_certificate_nobody_vouches_for_is_not_sent() -> None:
    async def script(peer: Peer) -> None:
        assert await peer.request() == b""

    async with serving(script, tls=True) as server:
        settings = config("infobip-sms", base_url=server.base_url)
        async with ProviderClient(settings, ssl_context=ssl.create_default_context()) as client:
            with pytest.raises(NotSent) as raised:
                await client.send(POST)
            assert "certificate" in raised.value.detail


async def test_a_peer_that_does_not_speak_tls_is_not_sent() -> None:
    async def script(peer: Peer) -> None:
        await peer.stream.receive_some()
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(script) as server:
        url = server.base_url.replace("http://127.0.0.1", "https://localhost")
        async with client_of(url) as client:
            with pytest.raises(NotSent):
                await client.send(POST)


async def test_a_kept_connection_that_the_server_closed_is_never_written_to() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(ok(b"%d" % peer.number))

    async with serving(script) as server, client_of(server.base_url) as client:
        for expected in (b"0", b"1", b"2"):
            assert (await client.send(POST)).body == expected
            await wait_all_tasks_blocked()  # until the server's close has arrived


async def test_a_kept_connection_that_dies_after_the_request_is_unknown_and_not_resent() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.say(ok())
        seen.append(await peer.request())

    async with serving(script) as server, client_of(server.base_url) as client:
        await client.send(POST)
        with pytest.raises(Unknown):
            await client.send(POST)
        assert len(seen) == 2
        assert server.connections == 1


async def test_a_connection_idle_for_long_is_replaced(mock_clock: MockClock) -> None:
    async with speaking(ok()) as wire:
        await wire.get()
        mock_clock.jump(IDLE_S_MAX - 0.1)
        await wire.get()
        assert wire.server.connections == 1
        mock_clock.jump(IDLE_S_MAX + 0.1)
        await wire.get()
        assert wire.server.connections == 2


async def test_a_servers_announced_keep_alive_time_is_respected(mock_clock: MockClock) -> None:
    async with speaking(ok(b"ok", b"Keep-Alive: timeout=5, max=100")) as wire:
        await wire.get()
        mock_clock.jump(4.5)
        await wire.get()
        assert wire.server.connections == 2


async def test_an_answer_that_came_during_a_standstill_is_read(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By TLS it comes as two records, of which the second was not read."""

    async def script(peer: Peer) -> None:
        await peer.request()
        assert isinstance(peer.stream, trio.SSLStream)
        tcp = peer.stream.transport_stream

        async def say_and_stand_still(data: bytes) -> None:
            assert os.write(tcp.socket.fileno(), data) == len(data)
            mock_clock.jump(60.0)

        monkeypatch.setattr(tcp, "send_all", say_and_stand_still)
        await peer.say(ok(b"x" * 20_000))
        await peer.request()

    async with serving(script, tls=True) as server, client_of(server.base_url) as client:
        assert len((await client.send(GET)).body) == 20_000


async def test_an_answer_that_never_comes_is_unknown(mock_clock: MockClock) -> None:
    received = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        received.set()
        assert await peer.request() == b""  # the client hangs up

    async with serving(script) as server, client_of(server.base_url) as client:

        async def send() -> None:
            with pytest.raises(Unknown) as raised:
                await client.send(POST)
            assert raised.value.code == "answer_timeout"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await received.wait()
            mock_clock.jump(10.1)


async def test_a_handshake_that_never_ends_is_not_sent(mock_clock: MockClock) -> None:
    greeted = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.stream.receive_some()
        greeted.set()
        await trio.sleep_forever()

    async with serving(script) as server:
        url = server.base_url.replace("http://127.0.0.1", "https://localhost")
        async with client_of(url) as client, trio.open_nursery() as nursery:

            async def send() -> None:
                with pytest.raises(NotSent) as raised:
                    await client.send(POST)
                assert raised.value.code == "connect_timeout"

            nursery.start_soon(send)
            await greeted.wait()
            mock_clock.jump(10.1)


async def test_waiting_for_a_connection_counts_and_is_not_sent(mock_clock: MockClock) -> None:
    received = trio.Event()
    release = trio.Event()
    faults: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        received.set()
        await release.wait()
        await peer.say(ok())
        await peer.request()

    async with serving(script) as server, client_of(server.base_url, connections=1) as client:

        async def send() -> None:
            try:
                await client.send(POST)
            except (NotSent, Unknown) as fault:
                faults.append(fault.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await received.wait()
            mock_clock.jump(5)
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            assert server.connections == 1
            mock_clock.jump(5.1)
            await wait_all_tasks_blocked()
            release.set()
        # The first ran into its deadline; the second then had the slot, five seconds and an answer.
        assert faults == ["answer_timeout"]


async def test_a_full_pool_until_the_deadline_is_not_sent(mock_clock: MockClock) -> None:
    async def script(peer: Peer) -> None:
        await trio.sleep_forever()

    async with serving(script) as server, client_of(server.base_url, connections=1) as client:
        faults: list[str] = []

        async def send() -> None:
            with pytest.raises((NotSent, Unknown)) as raised:
                await client.send(POST)
            faults.append(raised.value.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(send)
            await wait_all_tasks_blocked(0.01)
            mock_clock.jump(10.1)
        assert sorted(faults) == ["answer_timeout", "pool_timeout"]


async def test_no_more_sockets_than_connections_are_open_at_once() -> None:
    release = trio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request():
            await release.wait()
            await peer.say(ok())

    async with serving(script) as server, client_of(server.base_url, connections=3) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(client.send, POST)
            await wait_all_tasks_blocked(0.01)
            assert server.connections == 3
            release.set()
        assert server.connections == 3


async def test_a_cancelled_request_closes_its_socket_and_frees_its_place() -> None:
    closed = trio.Event()
    received = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number:
            await peer.say(ok())
            return
        received.set()
        assert await peer.request() == b""
        closed.set()

    async with serving(script) as server, client_of(server.base_url, connections=1) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, POST)
            await received.wait()
            nursery.cancel_scope.cancel()
        await closed.wait()
        assert (await client.send(POST)).status == 200


async def test_a_write_that_no_byte_got_through_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The proof is the count of bytes, not the kind of error."""
    async with speaking(ok()) as wire:
        await wire.get()
        transport = wire.client._transport
        (connection,) = transport._idle
        connection.wire._socket.shutdown(socket.SHUT_WR)  # our own end can write no more
        monkeypatch.setattr(connection.wire, "is_readable", lambda: False)
        with pytest.raises(NotSent) as raised:
            await wire.client.send(POST)
        assert raised.value.code == "connect_failed"


async def test_a_closed_client_sends_nothing() -> None:
    async with speaking(ok()) as wire:
        await wire.get()
        await wire.client.aclose()
        with pytest.raises(NotSent, match="closed"):
            await wire.get()
        assert len(wire.requests) == 1


@pytest.mark.parametrize("path", ["send", "@evil.example/", "", "http://evil.example/"])
async def test_a_path_cannot_lead_to_another_host(path: str) -> None:
    async with client_of("http://127.0.0.1:9") as client:
        with pytest.raises(ValueError, match="slash"):
            await client.send(ProviderRequest("GET", path, ()))


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX-C: d", "/\x00", "/é"])
async def test_a_path_cannot_smuggle_a_line(path: str) -> None:
    async with client_of("http://127.0.0.1:9") as client:
        with pytest.raises(ValueError, match="percent-encoded"):
            await client.send(ProviderRequest("GET", path, ()))


async def test_a_header_cannot_smuggle_a_line() -> None:
    async with speaking(ok()) as wire:
        request = ProviderRequest("GET", "/", (("X-A", "b\r\nX-C: d"),))
        with pytest.raises(ValueError, match="line break"):
            await wire.client.send(request)
        assert wire.requests == []


@pytest.mark.parametrize(
    "base_url", ["", "api.example", "ftp://a", "https://", "https://u:p@a", "https://a?b=c"]
)
def test_a_base_url_that_is_none_is_refused_at_the_start(base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url") as raised:
        client_of(base_url)
    assert "u:p" not in str(raised.value)


async def test_base_url_may_have_a_path() -> None:
    async with speaking(ok()) as wire:
        async with client_of(wire.server.base_url + "/proxy/") as client:
            await client.send(GET)
        assert wire.requests[0].startswith(b"GET /proxy/logs?messageId=a HTTP/1.1\r\n")


# --- what is asked rarely, through httpx2's client ---


async def test_a_question_goes_the_same_way_over_the_same_connection() -> None:
    cookie = b"Set-Cookie: a=b\r\nX-Two: 1\r\nX-Two: 2"
    async with speaking(ok(b"ok", cookie)) as wire:
        told = await wire.get()
        asked = await wire.client.ask(GET)
        assert wire.server.connections == 1
    assert (asked.status, asked.body) == (told.status, told.body) == (200, b"ok")
    assert asked.headers == told.headers
    line, *headers = wire.requests[1].decode().rstrip().split("\r\n")
    assert line == "GET /logs?messageId=a HTTP/1.1"
    names = [header.split(":")[0].lower() for header in headers]
    assert sorted(names) == ["accept", "accept-encoding", "connection", "host", "user-agent"]
    assert "Accept-Encoding: identity" in headers


async def test_a_question_carries_the_path_of_the_address_the_key_and_a_body() -> None:
    async with speaking(ok()) as wire, client_of(f"{wire.server.base_url}/base/") as client:
        await client.ask(POST)
    head, body = wire.requests[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /base/send HTTP/1.1\r\n")
    assert b"Authorization: App k" in head
    assert b"Content-Length: 7" in head
    assert body == POST.body


async def test_a_redirect_of_a_question_is_not_followed() -> None:
    moved = (
        b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"
    )
    async with speaking(moved) as wire:
        assert (await wire.client.ask(GET)).status == 302
        assert len(wire.requests) == 1


async def test_a_question_fails_with_its_stage() -> None:
    async with client_of("http://127.0.0.1:1") as client:
        with pytest.raises(NotSent) as refused:
            await client.ask(GET)
    assert refused.value.code == "connect_failed"
    async with speaking(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", close=True) as wire:
        with pytest.raises(Unknown) as cut:
            await wire.client.ask(GET)
    assert cut.value.code == "answer_malformed"
