"""What stands between the network and uvicorn: limits on connections, headers, time and memory.

Uvicorn leaves a connection open to abuse: how many there are, how large the headers may be, how
long a request may take to arrive, how much is parsed before it can be answered, how long a
connection may keep what its peer does not read. One look at all connections a second costs nothing
a request. Each refusal is a problem document, written here because the application never saw the
request.

What is read goes to the parser in slices. Once PIPELINED_MAX requests wait for the answer before
them the rest is kept as it came, and nothing more is read until all of that is answered. So a
connection holds at most one read (256 KiB), and the requests of PIPELINED_MAX and one slice.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
import msgspec
from uvicorn._types import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.ingress.http.asgi import CONNECTION, AsgiScope, to_json
from gateway.ingress.http.gathering import GatheringTransport
from gateway.ingress.http.problems import KINDS, RETRY_AFTER_S, problem
from gateway.ingress.http.request_ids import REQUEST_ID, RequestIds
from gateway.ingress.http.waiting import WaitingBytes
from gateway.settings.tables import Server

HEADERS_MAX = 100
PIPELINED_MAX = 16  # requests of a connection that wait for the answer before them
SLICE_BYTES = 2_048  # parsed at a time: what it holds is parsed whatever waits
SWEEP_EVERY_S = 1.0
CLOSE_WAIT_S = 10.0  # for the peer of a closed connection to read what was written to it


class ConnectionLimits(msgspec.Struct, frozen=True):
    """Of one worker; times in seconds."""

    connections_max: int
    header_bytes_max: int
    request_timeout_s: float
    idle_timeout_s: float


def limits_of(server: Server) -> ConnectionLimits:
    return ConnectionLimits(
        connections_max=server.connections_max,
        header_bytes_max=server.header_bytes_max,
        request_timeout_s=server.request_timeout_ms / 1000,
        idle_timeout_s=server.idle_timeout_ms / 1000,
    )


class _Flow(FlowControl):
    """While it is `held`, nothing is read whoever asks for more."""

    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class LimitedProtocol(HttpToolsProtocol):
    """One connection. Subclassed a worker by `limited`, because uvicorn makes it by its class."""

    limits: ConnectionLimits
    waiting: WaitingBytes
    ids: RequestIds
    flow: _Flow

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._since = self.loop.time()  # the state below began
        self._in_headers = False  # a request has begun and its headers are not complete
        self._in_trailers = False  # a chunk has begun and has no body: the last one, maybe
        self._fed = 0  # bytes since either began, at most: what came in one piece is counted whole
        self._running: RequestResponseCycle | None = None  # what the application was given last
        self._refused = False
        self._upgrading = False  # the request's headers offer to: it is parsed again without
        self._body_is_apps = False
        self._closing_since = 0.0
        self._unread_since = 0.0  # the peer does not read what was written, since then
        self._ahead = memoryview(b"")  # was read and is not parsed

    # --- what uvicorn calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        gathering = GatheringTransport(cast("asyncio.Transport", transport), self.loop)
        super().connection_made(gathering)
        self.flow = _Flow(gathering)
        if len(self.connections) > self.limits.connections_max:
            self._refuse("unavailable", "Too many connections are open: try again later.")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_ahead()
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            _disconnect(self._running)  # uvicorn tells only the request that came last

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if len(data) <= SLICE_BYTES and not self._ahead:
            self._parse(data)
        elif self._is_answering() or self.waiting.has_room(len(data)):
            self.waiting.add(len(data))
            self._ahead = memoryview(b"".join((self._ahead, data)) if self._ahead else data)
            self._parse_ahead()
        else:
            self._refuse("unavailable", "Too many bytes of requests wait here: try again later.")

    def _is_answering(self) -> bool:
        """Whether a stream's answer is under way: it cannot be refused any more, and its own window
        bounds what is read of it."""
        cycle = self._running
        return cycle is not None and cycle.response_started and not cycle.response_complete

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_since = 0.0

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("AsgiScope", self.scope)[CONNECTION] = self  # uvicorn's type knows only ASGI's keys
        self._in_headers = True
        self._body_is_apps = False
        self._since = self.loop.time()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        if self._refused:  # it came behind what was refused, in the same read
            return
        if self.parser.should_upgrade() and any(name == b"upgrade" for name, _ in self.headers):
            self._upgrading = True
            return
        if len(self.headers) > HEADERS_MAX or (
            self._fed > self.limits.header_bytes_max
            and self._header_bytes() > self.limits.header_bytes_max
        ):
            self._refuse_headers()
            return
        # Behind a proxy a request without a host could be anybody's. HTTP/1.0 knew none.
        hosts = 0
        for name, _ in self.headers:
            if name == b"host":
                hosts += 1
        if hosts > 1 or (not hosts and self.parser.get_http_version() != "1.0"):
            self._refuse("malformed", "A request has one Host header.")
            return
        super().on_headers_complete()  # raises for a target that is none
        self.headers = []  # those behind a body are no part of the request's
        if self.pipeline:
            self.flow.held = True

    def on_chunk_header(self) -> None:
        self._in_trailers = True
        self._fed = 0

    def on_body(self, body: bytes) -> None:
        self._in_trailers = False
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._fed = 0
        self._in_trailers = False
        if not self._refused and not self._upgrading:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        # As uvicorn does, but for a timer a request: `look` ends a connection that is idle.
        self._since = self.loop.time()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        if not self.pipeline:
            if self._ahead:
                self._parse_ahead()
            self.flow.held = bool(self.pipeline or self._ahead)
        self.flow.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle  # `self.cycle` may be of a request behind it
        if cycle.scope["http_version"] == "1.0":
            app = _without_chunks(cycle, app)
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not ours
        self._refuse("malformed", "This is not an HTTP/1.1 request.")

    # --- what the application may ask for: it is the scope's CONNECTION ---

    def leave_body_to_app(self) -> None:
        """This request's body has no end: its timing is the application's work."""
        self._body_is_apps = True

    def abort(self) -> None:
        """Closes the connection at once; what was not read by the peer is lost."""
        if self._running is not None:
            _disconnect(self._running)
        self.transport.abort()

    # --- once a second ---

    def look(self, now: float) -> None:
        """Ends what has taken too long. `now` is of the loop's clock."""
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
            if now - self._closing_since > CLOSE_WAIT_S:
                self.abort()
        elif self._unread_since and now - self._unread_since > self.limits.request_timeout_s:
            self.abort()
        elif self._in_headers:
            if now - self._since > self.limits.request_timeout_s:
                self._refuse("timeout", "The headers did not arrive in time.")
        elif self._running is None or (self.cycle.response_complete and not self.cycle.more_body):
            if now - self._since > self.limits.idle_timeout_s:
                self.transport.close()
        elif self.cycle.more_body and now - self._since > self.limits.request_timeout_s:
            if self.cycle.response_complete:
                # It was answered early and is still sending.
                self.transport.close()
            elif not self._body_is_apps and not self.cycle.response_started:
                self._refuse("timeout", "The body did not arrive in time.")

    def _parse(self, data: bytes | memoryview) -> None:
        self._fed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._upgrading:
                self._parse_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")
        if self._fed > self.limits.header_bytes_max and (self._in_headers or self._in_trailers):
            self._refuse_headers()

    def _parse_without_upgrade(self, rest: bytes | memoryview) -> None:
        """The client offers another protocol (h2c, as Java's does), which the parser takes for
        agreed: the request begins again without the offer, and its body comes behind it."""
        self._upgrading = False
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._parse(b"\r\n".join((*lines, b"", b"")))
        self._parse(rest)

    def _parse_ahead(self) -> None:
        """Parses what was read, while few requests wait."""
        ahead, self._ahead = self._ahead, memoryview(b"")
        parsed = 0
        while parsed < len(ahead) and len(self.pipeline) < PIPELINED_MAX and not self._refused:
            self._parse(ahead[parsed : parsed + SLICE_BYTES])
            parsed = min(parsed + SLICE_BYTES, len(ahead))
        if self._refused:
            parsed = len(ahead)
        self.waiting.add(-parsed)
        self._ahead = ahead[parsed:]

    def _forget_ahead(self) -> None:
        self.waiting.add(-len(self._ahead))
        self._ahead = memoryview(b"")

    def _header_bytes(self) -> int:
        # A name, a value, a colon, a space and a line end.
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse_headers(self) -> None:
        most = self.limits.header_bytes_max
        detail = f"The headers may have {most} bytes and {HEADERS_MAX} lines."
        self._refuse("headers-too-large", detail)

    def _refuse(self, code: str, detail: str) -> None:
        """Answers in the place of the application and closes."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._forget_ahead()
        if self._in_trailers and self.cycle.response_complete:  # it was answered early
            self.transport.close()
            return
        if self._running is not None and not self._running.response_complete:
            _disconnect(self._running)
            if self._running.response_started:
                self.transport.close()
                return
        body, kind = to_json(problem(code, detail)), KINDS[code]
        retry = b"retry-after: %d\r\n" % RETRY_AFTER_S if code == "unavailable" else b""
        id_ = self.ids.of_headers(self.scope["headers"] if self.scope else ())
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\n%s%b: %b\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%s"
            % (kind.status, kind.title.encode(), retry, REQUEST_ID, id_, len(body), body)
        )
        self.transport.close()


def _disconnect(cycle: RequestResponseCycle) -> None:
    """The application is told that the client has gone; what it answers is written nowhere."""
    cycle.disconnected = True
    cycle.message_event.set()


def _without_chunks(cycle: RequestResponseCycle, app: ASGI3Application) -> ASGI3Application:
    """For a caller of HTTP/1.0, who knows no chunks: an answer without a length ends with its
    connection."""

    async def answer(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        endless = False

        async def send_plain(event: ASGISendEvent) -> None:
            nonlocal endless
            if event["type"] == "http.response.start":
                endless = all(name != b"content-length" for name, _ in event["headers"])
                if endless:
                    cycle.chunked_encoding = False
            elif endless and event["type"] == "http.response.body":
                cycle.expected_content_length = len(event["body"])
            await send(event)

        await app(scope, receive, send_plain)

    return answer


def limited(
    limits: ConnectionLimits, waiting: WaitingBytes, ids: RequestIds
) -> type[LimitedProtocol]:
    """The protocol class of a worker with these limits."""
    members = {"limits": limits, "waiting": waiting, "ids": ids}
    return type("Limited", (LimitedProtocol,), members)


async def keep_looking(state: ServerState) -> None:
    """Looks at every connection of a server until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_EVERY_S)
        now = loop.time()
        for connection in list(state.connections):
            if isinstance(connection, LimitedProtocol):
                connection.look(now)
