"""The calls of webhooks on the wire: what receivers get, and what of their answers counts."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from types import ModuleType

import pytest
import trio
from standardwebhooks import Webhook as Receiver

from gateway.core.records.webhook import Secret, Webhook
from gateway.dispatch.webhooks import posting
from gateway.dispatch.webhooks.posting import ANSWER_CHARS, CallAnswer, Posting
from providers.http import transport
from tests.providers.test_web_push import Resolver
from tests.worlds.raw_server import Peer, client_context, serving

SECRETS = ("whsec_" + "bmV3" * 10 + "bmV3", "whsec_" + "b2xk" * 10 + "b2xk")
BODY = b'{"type":"message.sent","timestamp":"2026-11-28T10:00:00.000Z","data":{"text":"\xc3\xa9"}}'
WEBHOOK = Webhook(
    "w1", "unused", ("message.sent",), (Secret(SECRETS[0]), Secret(SECRETS[1], 1 << 60))
)
pytestmark = pytest.mark.trio
LOCAL = ("127.0.0.1", "localhost")


def parts(request: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = dict(each.split(": ", 1) for each in lines)
    return line, {name.lower(): value for name, value in headers.items()}, body


async def call(url: str, hosts: tuple[str, ...] = LOCAL, times: int = 1) -> list[CallAnswer]:
    calls = Posting(url, hosts, client_context())
    now_ms = int(time.time() * 1000)
    try:
        return [await calls.call(WEBHOOK, f"evt_{n}", now_ms, BODY) for n in range(times)]
    finally:
        calls.close()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_receiver_takes_the_bytes_that_were_sent_with_either_secret(tls: bool) -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            got.append(request)
            await peer.say(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with serving(script, tls=tls) as server:
        answers = await call(server.base_url + "/hooks/a?b=c%20d", times=3)
        assert [answer.status for answer in answers] == [204, 204, 204]
        assert server.connections == 1
    for number, request in enumerate(got):
        line, headers, body = parts(request)
        assert line == "POST /hooks/a?b=c%20d HTTP/1.1"
        assert headers["content-type"] == "application/json"
        assert (headers["webhook-id"], body) == (f"evt_{number}", BODY)
        for secret in SECRETS:
            assert Receiver(secret).verify(body, headers) == json.loads(BODY)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", CallAnswer(200, "ok")),
        (b"HTTP/1.1 307 Moved\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n", CallAnswer(307)),
        (
            b"HTTP/1.1 503 No\r\nRetry-After: 90\r\nContent-Length: 2\r\n\r\nno",
            CallAnswer(503, "no", wish_ms=90_000),
        ),
        (b"HTTP/1.1 429 No\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n", CallAnswer(429)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe", CallAnswer(200, "\ufffd\ufffd")),
    ],
)
async def test_an_answer_is_taken_as_it_is(said: bytes, wanted: CallAnswer) -> None:
    asked = 0

    async def script(peer: Peer) -> None:
        nonlocal asked
        while await peer.request():
            asked += 1
            await peer.say(said)

    async with serving(script) as server:
        assert await call(server.base_url + "/") == [wanted]
    assert asked == 1


async def test_of_a_long_answer_the_beginning_is_kept() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 500 No\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9_000)

    async with serving(script) as server:
        (answer,) = await call(server.base_url + "/")
    assert answer.text == "x" * ANSWER_CHARS


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"", "answer_malformed"),
        (b"garbage\r\n\r\n", "answer_malformed"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, "answer_malformed"),
    ],
)
async def test_what_is_no_answer_is_none(said: bytes, code: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(said)

    async with serving(script) as server:
        (answer,) = await call(server.base_url + "/")
    assert (answer.status, answer.error.partition(":")[0]) == (0, code)


GZIPPED = b"HTTP/1.1 410 Gone\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", CallAnswer(200, "short")),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3_000_000, CallAnswer(200, "x" * ANSWER_CHARS)),
        (
            b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nz",
            CallAnswer(202, "ok"),
        ),
        (GZIPPED, CallAnswer(410)),
    ],
)
async def test_the_status_counts_whatever_the_body_is(said: bytes, wanted: CallAnswer) -> None:
    """A receiver that said 200 has the event: it is not told again for three days."""

    async def script(peer: Peer) -> None:
        await peer.request()
        with suppress(trio.BrokenResourceError):
            await peer.say(said)

    async with serving(script) as server:
        assert await call(server.base_url + "/") == [wanted]


@pytest.mark.parametrize(
    ("module", "name", "seconds"),
    [(posting, "BODY_S", 0.05), (transport, "BODY_MARGIN_S", posting.TIMEOUT_S - 0.05)],
)
async def test_a_body_that_does_not_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, seconds: float
) -> None:
    """Neither for long nor beyond the time for the whole call."""
    monkeypatch.setattr(posting, "BODY_S", posting.TIMEOUT_S)
    monkeypatch.setattr(module, name, seconds)
    asked = 0

    async def script(peer: Peer) -> None:
        nonlocal asked
        await peer.request()
        asked += 1
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsh")
        await trio.sleep_forever()

    async with serving(script) as server:
        assert await call(server.base_url + "/", times=2) == [CallAnswer(200, "sh")] * 2
    assert asked == 2


async def test_a_receiver_that_hangs_is_waited_for_so_long_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(posting, "TIMEOUT_S", 0.05)

    async def script(peer: Peer) -> None:
        await peer.request()
        await trio.sleep_forever()

    async with serving(script) as server:
        (answer,) = await call(server.base_url + "/")
    assert answer.error.startswith("answer_timeout")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_address_inside_is_not_connected_to(host: str) -> None:
    async def never(peer: Peer) -> None:
        raise AssertionError("somebody connected")

    async with serving(never, tls=True) as server:
        port = server.base_url.rpartition(":")[2]
        (answer,) = await call(f"https://{host}:{port}/", hosts=())
    assert answer.status == 0
    assert answer.error.startswith("connect_failed")
    assert "no public address" in answer.error


async def test_a_name_is_judged_anew_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was public when one was made, and leads inside when the next one is."""
    connect = trio.open_tcp_stream
    asked: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    async with serving(script, tls=True) as server:
        port = int(server.base_url.rpartition(":")[2])

        async def to_server(address: str, _port: int) -> trio.SocketStream:
            asked.append(address)
            trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.1"))
            return await connect("127.0.0.1", port)

        monkeypatch.setattr(trio, "open_tcp_stream", to_server)
        trio.socket.set_custom_hostname_resolver(Resolver("10.0.0.1", "8.8.8.8"))
        first, second = await call(f"https://localhost:{port}/", hosts=(), times=2)
    assert (first.status, second.status) == (204, 0)
    assert "no public address" in second.error
    assert asked == ["8.8.8.8"]


async def test_plain_http_is_for_the_allow_list_alone() -> None:
    (answer,) = await call("http://8.8.8.8/", hosts=())
    assert answer == CallAnswer(error="refused: plain http is for hosts of webhooks.allow_hosts")


async def test_a_certificate_that_is_not_the_hosts_is_refused() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    async with serving(script, tls=True) as server:
        port = server.base_url.rpartition(":")[2]
        (answer,) = await call(f"https://127.0.0.1:{port}/")
    assert answer.error.startswith("connect_failed")
    assert "TLS" in answer.error
