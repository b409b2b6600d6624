"""The only HTTP client: a provider's requests over one pool, and the provider as dispatch sees it.

It never retries and never follows a redirect: both could reach a person twice, so both are decided
where messages are. A failure says its stage.

Sends are written by hand to our own transport, because httpx2's request and response cost as much
again (see there). What is not asked once a message, such as a look-up, goes through httpx2's client
over the same transport.

Cancelled (a deadline of the caller, a shutdown) it closes the socket and lets trio.Cancelled pass;
the caller must then treat what it was sending as unknown.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Self

import httpx2
import trio

from providers.contract import (
    NotSent,
    Outcome,
    Receipt,
    Receive,
    Submission,
    TellTaken,
    Unknown,
)
from providers.http.adapter import Adapter, HttpConfig, HttpOrigin, ProviderRequest, Reply
from providers.http.transport import KeepAliveTransport, OpenStream

_COMMON_HEADERS = (("Accept-Encoding", "identity"), ("User-Agent", "kaskad"))
_HEADS_MAX = 64  # an adapter writes few different ones
_NOT_SENT_CODES: dict[type[httpx2.TransportError], str] = {
    httpx2.PoolTimeout: "pool_timeout",
    httpx2.ConnectTimeout: "connect_timeout",
    httpx2.ConnectError: "connect_failed",
}
_UNKNOWN_CODES: dict[type[httpx2.TransportError], str] = {
    httpx2.ReadTimeout: "answer_timeout",
    httpx2.ReadError: "connection_lost",
    httpx2.RemoteProtocolError: "answer_malformed",
}


class ProviderClient:
    """HTTP to one provider's base_url: keep-alive, at most `connections` sockets, bounded answers.

    `timeout_ms` of the configuration bounds a request as a whole. Proxies and other settings of the
    environment are not used. Use it as an async context manager, or call `aclose`.
    """

    def __init__(
        self,
        config: HttpOrigin,
        *,
        ssl_context: ssl.SSLContext | None = None,
        open_stream: OpenStream = trio.open_tcp_stream,
    ) -> None:
        """Raises ValueError with a sentence when base_url is not an http(s) address."""
        url = httpx2.URL(_base_url(config))
        self._path = url.raw_path.decode("ascii").rstrip("/")
        self._common = (("Host", url.netloc.decode("ascii")), *_COMMON_HEADERS)
        timeout_s = config.timeout_ms / 1000
        self._transport = KeepAliveTransport(
            url,
            connections=config.connections,
            timeout_s=timeout_s,
            ssl_context=ssl_context,
            open_stream=open_stream,
        )
        self._client = httpx2.AsyncClient(
            base_url=url,
            transport=_Pooled(self._transport),
            headers=dict(_COMMON_HEADERS),
            timeout=httpx2.Timeout(timeout_s),
            follow_redirects=False,
            trust_env=False,
        )

    async def send(self, request: ProviderRequest) -> Reply:
        """Sends one request and reads its whole answer, whatever its status.

        Raises NotSent when no byte of it can have left, Unknown when some may have, ValueError for
        one that may not be written at all.
        """
        payload = self._serialised(request)
        try:
            answer = await self._transport.exchange(payload)
        except httpx2.TransportError as error:
            raise stage(error) from error
        return Reply(answer.status, _by_name(answer.headers), answer.body)

    async def ask(self, request: ProviderRequest) -> Reply:
        """As `send`, for what is rare: through httpx2's client, over the same connections."""
        try:
            answer = await self._client.request(
                request.method,
                request.path,
                headers=list(request.headers),
                content=request.body or None,
            )
        except httpx2.TransportError as error:
            raise stage(error) from error
        return Reply(answer.status_code, _by_name(answer.headers.raw), answer.content)

    def _serialised(self, request: ProviderRequest) -> bytes:
        path = request.path
        if not path.startswith("/"):
            raise ValueError(f"A request's path starts with a slash, not {path!r}.")
        if not (path.isascii() and path.isprintable()) or " " in path:
            raise ValueError(f"A request's path is percent-encoded ASCII, not {path!r}.")
        length = f"Content-Length: {len(request.body)}\r\n" if request.method == "POST" else ""
        line = f"{request.method} {self._path}{path} HTTP/1.1\r\n"
        head = _header_lines(self._common + request.headers)
        return f"{line}{head}{length}\r\n".encode("ascii") + request.body

    async def aclose(self) -> None:
        self._transport.close()
        await self._client.aclose()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class _Pooled(httpx2.AsyncBaseTransport):
    """Our transport as httpx2's client uses one: the same connections, limits and timeout."""

    def __init__(self, transport: KeepAliveTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        target = request.url.raw_path
        lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), target)]
        lines += [b"%b: %b" % header for header in request.headers.raw]
        head = b"\r\n".join([*lines, b"", b""])
        answer = await self._transport.exchange(head + await request.aread())
        return httpx2.Response(answer.status, headers=answer.headers, content=answer.body)


class HttpProvider:
    """A provider that is spoken to over HTTP, as dispatch uses it: an adapter and a client."""

    def __init__(self, config: HttpConfig, adapter: Adapter) -> None:
        """Raises ValueError with a sentence on a configuration fault."""
        self.config = config
        self.can_look_up = adapter.can_look_up
        self._adapter = adapter
        self._client = ProviderClient(config)

    def reconfigure(self, config: HttpConfig, adapter: Adapter) -> None:
        """From the next request on; address, timeout and connections stay as they are."""
        self.config = config
        self._adapter = adapter

    @property
    def batch_max(self) -> int:
        """Messages in one request: what is configured, within what the wire format takes."""
        return min(self.config.batch, self._adapter.batch_max)

    @property
    def look_up_max(self) -> int:
        return max(self._adapter.look_up_max, 1)

    def tokens(self, batch: Sequence[Submission]) -> int:
        return len(batch)

    async def deliver(
        self,
        batch: Sequence[Submission],
        tell_taken: TellTaken | None = None,  # noqa: ARG002 - one answer for all
    ) -> list[Outcome]:
        reply = await self._client.send(self._adapter.submit(batch))
        return self._adapter.outcomes(batch, reply)

    async def look_up(self, refs: Sequence[str]) -> list[Receipt]:
        """In as many requests as that takes, one after the other."""
        found: list[Receipt] = []
        step = self.look_up_max
        for start in range(0, len(refs), step):
            reply = await self._client.ask(self._adapter.look_up(refs[start : start + step]))
            found.extend(self._adapter.looked_up(reply))
        return found

    async def run(self, receive: Receive) -> None:
        """Nothing to do: its receipts come to ingress, by callback."""

    async def aclose(self) -> None:
        await self._client.aclose()


def stage(error: httpx2.TransportError) -> NotSent | Unknown:
    """How far a request of our transport got, by what it failed with."""
    not_sent = _NOT_SENT_CODES.get(type(error))
    if not_sent is not None:
        return NotSent(not_sent, str(error))
    return Unknown(_UNKNOWN_CODES.get(type(error), "http_failed"), str(error))


@lru_cache(_HEADS_MAX)
def _header_lines(headers: tuple[tuple[str, str], ...]) -> str:
    for name, value in headers:
        if any(char in name + value for char in "\r\n\0"):
            raise ValueError(f"The header {name!r} has a line break in it.")
    return "".join(f"{name}: {value}\r\n" for name, value in headers)


def _by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """One value a name: repeated ones are one list (RFC 9110, 5.3)."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return {name: ", ".join(values) for name, values in found.items()}


def _base_url(config: HttpOrigin) -> str:
    try:
        url = httpx2.URL(config.base_url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"base_url of provider {config.name} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query:
        raise ValueError(f"base_url of provider {config.name} must look like https://host.")
    return str(url).rstrip("/")
