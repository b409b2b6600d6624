"""A small keep-alive HTTP/1.1 transport under httpx2: httptools over trio streams, one origin.

Owns sockets: connecting, TLS, the pool, writing one request, reading one answer within bounds. Must
not know providers or retries. It never resends, follows nothing and speaks to its origin only.

Every failure says whether a byte can have left, in httpx2's own words: PoolTimeout, ConnectTimeout
and ConnectError mean that provably none did; ReadTimeout, ReadError and RemoteProtocolError mean
that some may have. The proof is a count of the bytes the kernel took on this connection since the
request began, below TLS, so it does not guess from the kind of the exception.

Why not httpx's own pool: it costs 1.3 to 3.2 ms CPU a request as it grows, this 0.5 (measured on
two cores at 1 to 30 connections), and it may write to a connection that the peer has closed.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Iterable

import httptools
import httpx2
import trio

HEAD_BYTES_MAX = 64 * 1024  # status line, header lines and any 1xx answers before them
BODY_BYTES_MAX = 1024 * 1024
RECEIVE_BYTES = 64 * 1024
IDLE_S_MAX = 15.0  # below the keep-alive time of common servers, so that they seldom close first
IDLE_MARGIN_S = 1.0  # of a server's announced keep-alive time


class KeepAliveTransport(httpx2.AsyncBaseTransport):
    """At most `connections` sockets to one origin; one request on each at a time.

    `timeout_s` bounds a request as a whole: waiting for a socket, connecting, writing, reading.
    """

    def __init__(
        self,
        origin: httpx2.URL,
        *,
        connections: int,
        timeout_s: float,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._origin = _origin_of(origin)
        self._timeout_s = timeout_s
        self._slots = trio.Semaphore(connections)
        self._idle: list[_Connection] = []
        self._closed = False
        self._ssl: ssl.SSLContext | None = None
        if origin.scheme == "https":
            self._ssl = ssl_context or ssl.create_default_context()  # TLS 1.2 or newer

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends the request, reads the whole answer. Cancelled, it closes the socket it was using.

        Raises httpx2.TransportError subclasses as the module says; ValueError for a request that
        may not be written at all (another origin, a line break in a header).
        """
        if _origin_of(request.url) != self._origin:
            raise ValueError(f"This transport speaks to {self._origin} only.")
        payload = _serialise(request)
        attempt = _Attempt()
        with trio.move_on_after(self._timeout_s):
            return await self._attempt(attempt, payload)
        raise attempt.timeout()

    async def _attempt(self, attempt: _Attempt, payload: bytes) -> httpx2.Response:
        async with self._slots:
            if self._closed:
                raise httpx2.ConnectError("The transport is closed.")
            attempt.connecting = True
            connection = self._take_idle() or await self._connect()
            attempt.start(connection)
            try:
                answer = await connection.exchange(payload)
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
                raise attempt.failure("The connection broke") from error
            finally:
                self._put_back(connection)
            return httpx2.Response(answer.status, headers=answer.headers, content=answer.body)

    async def _connect(self) -> _Connection:
        _, host, port = self._origin
        try:
            tcp = await trio.open_tcp_stream(host, port)
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(f"No connection to {host}:{port}: {error}") from error
        wire = _Wire(tcp.socket)
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
        while self._idle and not self._idle[0].is_usable(now):
            self._idle.pop(0).close()
        if connection.can_be_kept and not self._closed:
            connection.rest(now)
            self._idle.append(connection)
        else:
            connection.close()

    async def aclose(self) -> None:
        """Closes what is idle; what is in use is closed when its request ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


class _Attempt:
    """How far one request got, to name its failure."""

    def __init__(self) -> None:
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
    """A TCP socket as a stream that counts the bytes the kernel took."""

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self._socket = socket
        self.bytes_out = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            with memoryview(data) as view:
                sent = 0
                while sent < len(view):
                    count = await self._socket.send(view[sent:])
                    sent += count
                    self.bytes_out += count
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def wait_send_all_might_not_block(self) -> None:
        await self._socket.wait_writable()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self._socket.recv(max_bytes or RECEIVE_BYTES)
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    def is_readable(self) -> bool:
        """Whether there is something to read now: on an idle connection, its end or a stray."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
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

    async def exchange(self, payload: bytes) -> _Answer:
        """Writes one request and reads its answer; the connection can be kept only if all is well.

        Raises httpx2.RemoteProtocolError, or what the stream raises.
        """
        self.can_be_kept = False
        await self._stream.send_all(payload)
        answer = _Answer()
        while not answer.done:
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if data:
                answer.feed(data)
            else:
                answer.end()
        self.can_be_kept = answer.keep_alive
        self._idle_s_max = answer.idle_s_max
        return answer

    def is_usable(self, now: float) -> bool:
        return now < self._idle_until and not self.wire.is_readable()

    def rest(self, now: float) -> None:
        self._idle_until = now + self._idle_s_max

    def close(self) -> None:
        # Without a TLS goodbye: closing must not wait, since it also happens while being cancelled.
        self.wire.close()


class _Answer:
    """Reads one answer with httptools; 1xx answers before it are skipped.

    Raises httpx2.RemoteProtocolError on anything malformed, too large, cut short or compressed.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.done = False
        self.keep_alive = False
        self.idle_s_max = IDLE_S_MAX
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._bytes_in = 0
        self._has_head = False
        self._has_more = False

    def feed(self, data: bytes | bytearray) -> None:
        self._bytes_in += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.done:
                raise httpx2.RemoteProtocolError(f"The answer is not HTTP: {error}") from error
            self._has_more = True
        if self._has_more:
            self.keep_alive = False  # bytes nobody asked for: the next answer could be misread
        if not self._has_head and self._bytes_in > HEAD_BYTES_MAX:
            raise httpx2.RemoteProtocolError(f"The head is over {HEAD_BYTES_MAX} bytes.")
        if self._bytes_in > HEAD_BYTES_MAX + BODY_BYTES_MAX:
            raise httpx2.RemoteProtocolError(f"The body is over {BODY_BYTES_MAX} bytes.")
        if self.done:
            self._refuse_compressed()

    def end(self) -> None:
        """The peer closed: the end of a body without a length, else an answer cut short."""
        if not self._has_head or self._header(b"content-length", b"transfer-encoding") is not None:
            raise httpx2.RemoteProtocolError("The connection ended before the answer did.")
        self._refuse_compressed()
        self._finish()

    def _refuse_compressed(self) -> None:
        # "identity" is what we ask for; unpacking what a server sends all the same would need
        # bounds of its own.
        if (self._header(b"content-encoding") or b"identity").lower() != b"identity":
            raise httpx2.RemoteProtocolError("The answer is compressed, which was not asked for.")

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self.done:
            self._has_more = True
        else:
            self.headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.done:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if not self.done:
            self.status = self._parser.get_status_code()
            self._has_head = self.status >= 200

    def on_body(self, data: bytes) -> None:
        if not self.done:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        if self._has_head and not self.done:
            self.keep_alive = self._parser.should_keep_alive()
            self._finish()

    def _finish(self) -> None:
        self.body = b"".join(self._chunks)
        self.idle_s_max = _idle_s(self._header(b"keep-alive"))
        self.done = True

    def _header(self, *names: bytes) -> bytes | None:
        return next((value for name, value in self.headers if name in names), None)


def _idle_s(keep_alive: bytes | None) -> float:
    """Seconds a connection may idle, from a `Keep-Alive: timeout=5, max=100` header."""
    for item in (keep_alive or b"").split(b","):
        name, _, value = item.strip().partition(b"=")
        if name.lower() == b"timeout" and value.isdigit():
            return min(max(int(value[:6]) - IDLE_MARGIN_S, 0.0), IDLE_S_MAX)
    return IDLE_S_MAX


def _origin_of(url: httpx2.URL) -> tuple[str, str, int]:
    return (
        url.scheme,
        url.raw_host.decode("ascii"),
        url.port or (443 if url.scheme == "https" else 80),
    )


def _serialise(request: httpx2.Request) -> bytes:
    head = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    head.extend(_header_lines(request.headers.raw))
    return b"\r\n".join([*head, b"", request.content])


def _header_lines(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[bytes]:
    for name, value in headers:
        if any(char in name + value for char in (b"\r", b"\n", b"\0")):
            raise ValueError(f"The header {name!r} has a line break in it.")
        yield b"%b: %b" % (name, value)
