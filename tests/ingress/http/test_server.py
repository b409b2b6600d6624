"""The worker on real sockets: limits that uvicorn leaves open, stopping, and several workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from msgspec.structs import replace

from gateway.errors import ConfigurationError
from gateway.ingress.http import protocol, server
from gateway.settings.bootstrap import policy_of
from gateway.settings.changes import Configuration
from tests.worlds.ingress_world import OTP, quote, settings
from tests.worlds.patience import PATIENCE_S

KEY = "Authorization: Bearer shop-key\r\n"
JSON = "Content-Type: application/json\r\n"
Talk = Callable[[int], Awaitable[None]]


def serving(redis_url: str, table: str, talk: Talk, *more: socket.socket) -> None:
    """Runs `talk(port)` against a worker, then stops it by SIGTERM; it listens on `more` too."""
    config = settings(table)
    config = replace(config, redis=replace(config.redis, url=redis_url))

    async def main() -> None:
        (sock,) = server.listen("127.0.0.1", 0, 1)
        port = sock.getsockname()[1]
        up = asyncio.Event()
        running = Configuration(config, policy_of(config, quote), lambda: config)
        worker = asyncio.create_task(server.serve(running, [sock, *more], "1-test", up.set))
        async with asyncio.timeout(PATIENCE_S):
            await up.wait()
            try:
                await talk(port)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                await worker

    uvloop.run(main())


class Connection:
    """A client that says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def say(self, text: str) -> None:
        self.writer.write(text.encode())

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """One answer with a length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(first.split()[1]), headers, body

    async def closed(self) -> bool:
        """Whether the server closed it, all else having been read."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True
        finally:
            self.writer.close()


def post(body: str, headers: str = JSON) -> str:
    length = f"Content-Length: {len(body)}\r\n"
    return f"POST /v1/messages HTTP/1.1\r\nHost: x\r\n{KEY}{headers}{length}\r\n{body}"


def test_requests_on_one_connection_are_answered_one_after_the_other(redis_url: str) -> None:
    async def talk(port: int) -> None:
        connection = await Connection.open(port)
        connection.say(post(json.dumps(OTP)) + post(json.dumps(OTP)))
        assert (await connection.answer())[0] == 202
        assert (await connection.answer())[0] == 202
        connection.writer.close()

    serving(redis_url, "", talk)


def test_what_operators_ask_is_on_the_admin_port_alone(redis_url: str) -> None:
    (admin,) = server.listen("127.0.0.1", 0, 1)
    admin_port = admin.getsockname()[1]

    async def status(port: int, path: str) -> int:
        connection = await Connection.open(port)
        connection.say(f"GET {path} HTTP/1.1\r\nHost: x\r\n{KEY}\r\n")
        try:
            return (await connection.answer())[0]
        finally:
            connection.writer.close()

    async def talk(port: int) -> None:
        for path in ("/metrics", "/v1/ops", "/v1/ops/audit"):
            assert await status(port, path) == 404
        assert await status(admin_port, "/metrics") == 200
        assert await status(admin_port, "/v1/ops") == 403, "the key may not operate"
        for path in ("/v1/messages/unknown", "/v1/reports/cost", "/docs"):
            assert await status(admin_port, path) == 404
        assert await status(port, "/v1/reports/cost") == 200
        for either in (port, admin_port):
            assert await status(either, "/healthz") == await status(either, "/readyz") == 200

    serving(redis_url, f"admin_port = {admin_port}", talk, admin)


def test_large_headers_are_refused_however_they_come(redis_url: str) -> None:
    async def talk(port: int) -> None:
        for text in (
            f"GET /healthz HTTP/1.1\r\nX: {'a' * 3000}\r\n\r\n",
            f"GET /{'a' * 3000} HTTP/1.1\r\n\r\n",
            f"GET /healthz HTTP/1.1\r\nX: {'a' * 3000}",
            "GET /healthz HTTP/1.1\r\n" + "X: a\r\n" * (protocol.HEADERS_MAX + 1) + "\r\n",
        ):
            connection = await Connection.open(port)
            connection.say(text)
            status, headers, body = await connection.answer()
            assert (status, json.loads(body)["status"]) == (431, 431)
            assert headers["content-type"] == "application/problem+json"
            assert await connection.closed()
        # A large body beside small headers is none of it.
        connection = await Connection.open(port)
        connection.say(post(json.dumps(OTP | {"text": "y" * 900, "metadata": {"a": "x" * 900}})))
        assert (await connection.answer())[0] == 202
        connection.writer.close()

    serving(redis_url, "header_bytes_max = 1024", talk)


def test_what_is_not_http_is_refused(redis_url: str) -> None:
    async def talk(port: int) -> None:
        for text in ("nonsense\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
            connection = await Connection.open(port)
            connection.say(text)
            status, _, body = await connection.answer()
            assert (status, json.loads(body)["type"]) == (400, "/docs#malformed")
            assert await connection.closed()

    serving(redis_url, "", talk)


def test_slow_requests_are_ended(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SWEEP_EVERY_S", 0.05)

    async def talk(port: int) -> None:
        head = "POST /v1/messages HTTP/1.1\r\nHost: x\r\n"
        body = f"{head}{KEY}{JSON}Content-Length: 99\r\n\r\n{{"
        for text in (head, body):
            connection = await Connection.open(port)
            connection.say(text)
            status, _, problem = await connection.answer()
            assert (status, json.loads(problem)["type"]) == (408, "/docs#timeout")
            assert await connection.closed()
        # One that says nothing at all is closed without a word, one that was answered early too.
        assert await (await Connection.open(port)).closed()
        early = await Connection.open(port)
        early.say(body.replace("shop-key", "wrong"))
        assert (await early.answer())[0] == 401
        assert await early.closed()

    serving(redis_url, 'request_timeout = "200ms"\nidle_timeout = "200ms"', talk)


def test_more_connections_than_allowed_are_refused(redis_url: str) -> None:
    async def talk(port: int) -> None:
        first = await Connection.open(port)
        first.say("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await first.answer())[0] == 200
        second = await Connection.open(port)
        status, headers, _ = await second.answer()
        assert (status, "retry-after" in headers) == (503, True)
        assert await second.closed()
        first.writer.close()

    serving(redis_url, "connections_max = 1", talk)


def test_a_client_that_waits_to_be_asked_for_its_body(redis_url: str) -> None:
    async def talk(port: int) -> None:
        expect = JSON + "Expect: 100-continue\r\n"
        head, _, body = post(json.dumps(OTP), expect).partition("{")
        connection = await Connection.open(port)
        connection.say(head)
        assert (await connection.answer())[0] == 100
        connection.say("{" + body)
        assert (await connection.answer())[0] == 202
        # Refused before it is asked, it will not send the body: the connection ends.
        connection.say(head.replace("shop-key", "wrong"))
        status, headers, _ = await connection.answer()
        assert (status, headers["connection"]) == (401, "close")
        assert await connection.closed()

    serving(redis_url, "", talk)


def test_a_stream_is_answered_while_it_is_sent(redis_url: str) -> None:
    async def talk(port: int) -> None:
        connection = await Connection.open(port)
        kind = "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n"
        connection.say(f"POST /v1/messages HTTP/1.1\r\nHost: x\r\n{KEY}{kind}\r\n")
        line = json.dumps(OTP) + "\n"
        for number in (1, 2, 3):
            connection.say(f"{len(line):x}\r\n{line}\r\n")
            text = await connection.reader.readuntil(b"}\n")
            result = json.loads(text[text.index(b"{") :])
            assert (result["line"], result["outcome"]) == (number, "accepted")
        connection.say("0\r\n\r\n")
        await connection.reader.readuntil(b"0\r\n\r\n")
        connection.writer.close()

    serving(redis_url, "", talk)


def test_sigterm_lets_what_was_taken_finish(redis_url: str) -> None:
    async def talk(port: int) -> None:
        stream = await Connection.open(port)
        kind = "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n"
        line = json.dumps(OTP) + "\n"
        stream.say(
            f"POST /v1/messages HTTP/1.1\r\nHost: x\r\n{KEY}{kind}\r\n{len(line):x}\r\n{line}\r\n"
        )
        await stream.reader.readuntil(b"}\n")
        events = await Connection.open(port)
        events.say(f"GET /v1/events HTTP/1.1\r\nHost: x\r\n{KEY}\r\n")
        await events.reader.readuntil(b"follow\n\n")
        os.kill(os.getpid(), signal.SIGTERM)
        assert b"0\r\n\r\n" in await stream.reader.read()
        assert b"0\r\n\r\n" in await events.reader.read()
        stream.writer.close()
        events.writer.close()
        with pytest.raises(ConnectionError):
            await Connection.open(port)

    serving(redis_url, "", talk)


def test_a_port_in_use_is_told_in_a_sentence() -> None:
    (sock,) = server.listen("127.0.0.1", 0, 1)
    with sock, pytest.raises(ConfigurationError, match="cannot be listened on"):
        server.listen("127.0.0.1", sock.getsockname()[1], 1)


def test_without_a_redis_the_role_says_what_to_do() -> None:
    config = settings()
    with pytest.raises(ConfigurationError, match="kaskad up"):
        server.run(replace(config, redis=replace(config.redis, url="")))


def test_a_worker_whose_parent_is_gone_stops(redis_url: str) -> None:
    config = settings()
    config = replace(config, redis=replace(config.redis, url=redis_url))
    beats = [None, None]

    def beat() -> None:
        if not beats:
            raise BrokenPipeError
        beats.pop()

    async def main() -> None:
        (sock,) = server.listen("127.0.0.1", 0, 1)
        running = Configuration(config, policy_of(config, quote), lambda: config)
        async with asyncio.timeout(PATIENCE_S):
            await server.serve(running, [sock], "1-test", beat)

    uvloop.run(main())
    assert beats == []
