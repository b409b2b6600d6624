"""A small HTTP/1.1 client for the pusher: POST a body, learn the status, keep the connection.

Raises PushFailed for whatever kept the
answer from coming. A kept connection that died before any byte of an answer is tried once more on a
new one, as the peer may have closed it while idle; the peer must take repeats anyway.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

ANSWER_BYTES_MAX: Final = 1024 * 1024

Origin = tuple[str, str, int]  # scheme, host, port


class PushFailed(Exception):
    """The POST was not answered: refused, cut, timed out, or not HTTP."""


class Connection(asyncio.Protocol):
    """One kept connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[int] | None = None
        self._bytes = 0
        self.usable = False

    @property
    def silent(self) -> bool:
        """Whether no byte of an answer to the latest request has come."""
        return self._bytes == 0

    async def request(self, data: bytes) -> int:
        """Sends one request and returns the status of its answer. Raises PushFailed."""
        if self._transport is None or not self.usable:
            raise PushFailed("the connection is closed")
        self._waiter = asyncio.get_running_loop().create_future()
        self._bytes = 0
        self._transport.write(data)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods without the base class, so this cannot be asserted.
        self._transport = cast(asyncio.Transport, transport)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._waiter is None or self._bytes > ANSWER_BYTES_MAX:
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as fault:
            self._fail(f"the answer is not HTTP: {fault}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._fail("the connection was closed before the answer" if exc is None else str(exc))

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        self._parser = httptools.HttpResponseParser(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(status)

    def _fail(self, sentence: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(PushFailed(sentence))


class Client:
    """Keeps idle connections by origin, as many as its caller has posts under way at once."""

    def __init__(self) -> None:
        self._idle: dict[Origin, list[Connection]] = {}
        self._tls: ssl.SSLContext | None = None

    async def post(
        self, url: str, headers: Iterable[tuple[str, str]], body: bytes, timeout_s: float
    ) -> int:
        """Posts `body` and returns the status. Raises PushFailed, within `timeout_s` seconds."""
        origin, target = _split(url)
        lines = [f"POST {target} HTTP/1.1", f"host: {origin[1]}:{origin[2]}"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines.append(f"content-length: {len(body)}\r\n\r\n")
        data = "\r\n".join(lines).encode("latin-1", "replace") + body
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(origin, data)
        except TimeoutError:
            raise PushFailed(f"no answer within {timeout_s} s") from None
        except OSError as fault:
            raise PushFailed(str(fault)) from fault

    def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    async def _exchange(self, origin: Origin, data: bytes) -> int:
        idle = self._idle.setdefault(origin, [])
        while idle:
            kept = idle.pop()
            if not kept.usable:
                continue
            try:
                return await self._on(kept, idle, data)
            except PushFailed:
                if not kept.silent:
                    raise
                break
        return await self._on(await self._connect(origin), idle, data)

    async def _on(self, connection: Connection, idle: list[Connection], data: bytes) -> int:
        try:
            status = await connection.request(data)
        except BaseException:
            connection.close()
            raise
        if connection.usable:
            idle.append(connection)
        return status

    async def _connect(self, origin: Origin) -> Connection:
        scheme, host, port = origin
        if scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            Connection, host, port, ssl=self._tls if scheme == "https" else None
        )
        return connection


def _split(url: str) -> tuple[Origin, str]:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as fault:
        raise PushFailed(f"{url!r} is not a URL: {fault}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PushFailed(f"{url!r} is not an http or https URL")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return (parts.scheme, parts.hostname, port), target
