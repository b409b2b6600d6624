"""Keep-alive HTTP/1.1 to one origin: httptools over trio's sockets.

It connects, keeps connections, writes one request and reads one answer within bounds. It never
resends, follows nothing and speaks to its origin only.

Every failure says whether a byte can have left, in httpx2's own words: PoolTimeout, ConnectTimeout
and ConnectError mean that provably none did; ReadTimeout, ReadError and RemoteProtocolError mean
that some may have. The proof is a count of the bytes the kernel took on this connection since the
request began, below TLS, so it does not guess from the kind of the exception.

Why not httpx2's own pool: it costs 1.3 to 3.2 ms CPU a request as it grows (measured on two cores
at 1 to 30 connections), and it may write to a connection that the peer has closed. Why not its
client over this: its request and response objects cost 150 of 290 µs a request (2026-11-22, 50
connections), which a provider of single messages pays for each.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial

import httpx2
import trio

from providers.http.reply_reader import IDLE_S_MAX, ReplyReader
from providers.standstill import read_on

RECEIVE_BYTES = 64 * 1024
BODY_MARGIN_S = 0.05  # before a request's time is over, when the head of its answer suffices

# Connects to a host and port; raises OSError.
OpenStream = Callable[[str, int], Awaitable[trio.SocketStream]]


class KeepAliveTransport:
    """At most `connections` sockets to one origin; one request on each at a time.

    `timeout_s` bounds a request as a whole: waiting for a socket, connecting, writing, reading.
    With `body_s` an answer is what its head says: a body that is too long, cut short, compressed,
    or not there so many seconds later, is what came of it.
    """

    def __init__(
        self,
        origin: httpx2.URL,
        *,
        connections: int,
        timeout_s: float,
        ssl_context: ssl.SSLContext | None = None,
        open_stream: OpenStream = trio.open_tcp_stream,
        body_s: float | None = None,
    ) -> None:
        self._open_stream = open_stream
        self._body_s = body_s
        self._host = origin.raw_host.decode("ascii")
        self._port = origin.port or (443 if origin.scheme == "https" else 80)
        self._timeout_s = timeout_s
        self._slots = trio.Semaphore(connections)
        self._idle: list[_Connection] = []
        self._closed = False
        self._ssl: ssl.SSLContext | None = None
        if origin.scheme == "https":
            self._ssl = ssl_context or ssl.create_default_context()  # TLS 1.2 or newer

    async def exchange(self, payload: bytes) -> ReplyReader:
        """Writes one whole request and reads the whole answer. Cancelled, it closes its socket.

        Raises httpx2.TransportError subclasses as the module says.
        """
        attempt = _Attempt(trio.current_time() + self._timeout_s)
        with trio.move_on_at(attempt.until):
            return await self._attempt(attempt, payload)
        raise attempt.timeout()

    async def _attempt(self, attempt: _Attempt, payload: bytes) -> ReplyReader:
        try:
            self._slots.acquire_nowait()  # `acquire` gives way to all other tasks first
        except trio.WouldBlock:
            await self._slots.acquire()
        try:
            if self._closed:
                raise httpx2.ConnectError("The transport is closed.")
            attempt.connecting = True
            connection = self._take_idle() or await self._connect()
            attempt.start(connection)
            try:
                return await connection.exchange(payload, self._body_s, attempt.until)
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
                raise attempt.failure("The connection broke") from error
            finally:
                self._put_back(connection)
        finally:
            self._slots.release()

    async def _connect(self) -> _Connection:
        host, port = self._host, self._port
        try:
            tcp = await self._open_stream(host, port)
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(f"No connection to {host}:{port}: {error}") from error
        wire = _Wire(tcp.socket.detach())
        if self._ssl is None:
            return _Connection(wire, wire)
        try:
            # Providers' servers close without a TLS goodbye; a truncated answer is still found out
            # by its length.
            tls = trio.SSLStream(wire, self._ssl, server_hostname=host, https_compatible=True)
            await tls.do_handshake()
        except (trio.BrokenResourceError, OSError) as error:
            wire.close()
            raise httpx2.ConnectError(
                f"No TLS with {host}:{port}: {error.__cause__ or error}"
            ) from error
        except BaseException:
            wire.close()
            raise
        return _Connection(wire, tls)

    def _take_idle(self) -> _Connection | None:
        now = trio.current_time()
        while self._idle:
            connection = self._idle.pop()  # the warmest first, so that the rest may grow cold
            if connection.is_usable(now):
                return connection
            connection.close()
        return None

    def _put_back(self, connection: _Connection) -> None:
        now = trio.current_time()
        while self._idle and self._idle[0].is_over(now):
            self._idle.pop(0).close()
        if connection.can_be_kept and not self._closed:
            connection.rest(now)
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Closes what is idle; what is in use is closed when its request ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


class _Attempt:
    """How far one request got, to name its failure."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.connecting = False
        self._connection: _Connection | None = None
        self._bytes_before = 0

    def start(self, connection: _Connection) -> None:
        self._connection = connection
        self._bytes_before = connection.wire.bytes_out

    def failure(self, what: str) -> httpx2.TransportError:
        if self._bytes_left():
            return httpx2.ReadError(f"{what} before the answer was complete.")
        return httpx2.ConnectError(f"{what} before a byte of the request was sent.")

    def timeout(self) -> httpx2.TransportError:
        if self._bytes_left():
            return httpx2.ReadTimeout("The answer did not come in time.")
        if self.connecting:
            return httpx2.ConnectTimeout("The connection did not come about in time.")
        return httpx2.PoolTimeout("No connection was free in time.")

    def _bytes_left(self) -> bool:
        connection = self._connection
        return connection is not None and connection.wire.bytes_out > self._bytes_before


class _Wire(trio.abc.Stream):
    """A connected TCP socket as a stream that counts the bytes the kernel took.

    A request is written and its answer waited for: trying the socket the other way round, as trio's
    own streams do, costs a system call more each time.
    """

    def __init__(self, fileno: int) -> None:
        self._socket = socket.socket(fileno=fileno)
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(fileno, select.POLLIN)
        self.bytes_out = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            with memoryview(data) as view:
                sent = 0
                while sent < len(view):
                    try:
                        count = self._socket.send(view[sent:])
                    except BlockingIOError:
                        await trio.lowlevel.wait_writable(self._socket)
                        continue
                    sent += count
                    self.bytes_out += count
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                try:
                    return self._socket.recv(max_bytes or RECEIVE_BYTES)
                except BlockingIOError:
                    continue
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    def is_readable(self) -> bool:
        """Whether there is something to read now: on an idle connection, its end or a stray."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


class _Connection:
    def __init__(self, wire: _Wire, stream: trio.abc.Stream) -> None:
        self.wire = wire
        self.can_be_kept = False
        self._stream = stream
        self._idle_s_max = IDLE_S_MAX
        self._idle_until = 0.0

    async def exchange(self, payload: bytes, body_s: float | None, until: float) -> ReplyReader:
        """Writes one request and reads its answer; the connection can be kept only if all is well.
        What came until then is read, though this process stood still.

        Raises httpx2.RemoteProtocolError, or what the stream raises.
        """
        self.can_be_kept = False
        await self._stream.send_all(payload)
        answer = ReplyReader()
        await read_on(partial(self._read_whole, answer, body_s), until)
        self.can_be_kept = answer.keep_alive
        self._idle_s_max = answer.idle_s_max
        return answer

    async def _read_whole(self, answer: ReplyReader, body_s: float | None) -> None:
        if body_s is not None:
            await self._read_head(answer, body_s)
        while not answer.done:
            await self._read(answer)

    async def _read(self, answer: ReplyReader) -> None:
        data = await self._stream.receive_some(RECEIVE_BYTES)
        if data:
            answer.feed(data)
        else:
            answer.end()

    async def _read_head(self, answer: ReplyReader, body_s: float) -> None:
        """The head at least, and of the body what comes."""
        with trio.CancelScope() as scope:
            try:
                while not answer.done:
                    await self._read(answer)
                    if answer.has_head and scope.deadline == math.inf:
                        end = trio.current_effective_deadline() - BODY_MARGIN_S
                        scope.deadline = min(trio.current_time() + body_s, end)
            except (httpx2.RemoteProtocolError, trio.BrokenResourceError, OSError):
                if not answer.has_head:
                    raise
                answer.cut()
        if not answer.done:
            answer.cut()

    def is_over(self, now: float) -> bool:
        """Whether it idled for too long. It is cheap; whether the peer closed is a system call."""
        return now >= self._idle_until

    def is_usable(self, now: float) -> bool:
        return not self.is_over(now) and not self.wire.is_readable()

    def rest(self, now: float) -> None:
        self._idle_until = now + self._idle_s_max

    def close(self) -> None:
        # Without a TLS goodbye: closing must not wait, since it also happens while being cancelled.
        self.wire.close()
