"""A TCP (or TLS) server that does exactly what a test says, byte by byte."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

TLS = Path(__file__).parent / "tls"  # a self-signed certificate for localhost, valid for a century
Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's side of one connection; `number` counts connections from 0."""

    def __init__(self, stream: trio.abc.Stream, number: int) -> None:
        self.stream = stream
        self.number = number
        self._buffer = bytearray()

    async def request(self) -> bytes:
        """Reads one whole request; b"" when the client closed."""
        while b"\r\n\r\n" not in self._buffer:
            if not await self._fill():
                return b""
        head, _, _ = bytes(self._buffer).partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        size = len(head) + 4 + length
        while len(self._buffer) < size:
            if not await self._fill():
                return b""
        whole = bytes(self._buffer[:size])
        del self._buffer[:size]
        return whole

    async def _fill(self) -> bool:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            return False
        self._buffer += data
        return bool(data)

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)


class Server:
    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.connections = 0


@asynccontextmanager
async def serving(script: Script, *, tls: bool = False) -> AsyncIterator[Server]:
    """Runs `script` for each connection; a script's own error fails the test."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    server = Server(f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}")

    async def handle(tcp: trio.SocketStream) -> None:
        stream: trio.abc.Stream = tcp
        if tls:
            stream = trio.SSLStream(tcp, server_context(), server_side=True, https_compatible=True)
        number, server.connections = server.connections, server.connections + 1
        try:
            await script(Peer(stream, number))
        except trio.BrokenResourceError:
            pass  # the client went away, which some tests want
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        try:
            yield server
        finally:
            nursery.cancel_scope.cancel()


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "localhost-cert.pem", TLS / "localhost-key.pem")
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(TLS / "localhost-cert.pem"))


def ok(body: bytes = b"ok", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)
