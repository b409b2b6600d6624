"""The only HTTP client: one pooled client a provider, and the provider as dispatch sees it.

Owns the passage from an adapter's Request to its Reply, and the stage of a failure on the way. Must
not know any wire format, nor what a fault does to a message. It never retries and never follows a
redirect: both could reach a person twice, so both are decided where messages are.

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
    Adapter,
    NotSent,
    Outcome,
    ProviderConfig,
    Receipt,
    Reply,
    Request,
    Submission,
    Unknown,
)
from providers.http.transport import KeepAliveTransport
from providers.registry import make_adapter

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
        self, config: ProviderConfig, *, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        """Raises ValueError with a sentence when base_url is not an http(s) address."""
        url = httpx2.URL(_base_url(config))
        self._path = url.raw_path.decode("ascii").rstrip("/")
        self._common = (("Host", url.netloc.decode("ascii")), *_COMMON_HEADERS)
        self._transport = KeepAliveTransport(
            url,
            connections=config.connections,
            timeout_s=config.timeout_ms / 1000,
            ssl_context=ssl_context,
        )

    async def send(self, request: Request) -> Reply:
        """Sends one request and reads its whole answer, whatever its status.

        Raises NotSent when no byte of it can have left, Unknown when some may have, ValueError for
        one that may not be written at all.
        """
        payload = self._serialised(request)
        try:
            answer = await self._transport.exchange(payload)
        except (httpx2.PoolTimeout, httpx2.ConnectTimeout, httpx2.ConnectError) as error:
            raise NotSent(_NOT_SENT_CODES[type(error)], str(error)) from error
        except httpx2.TransportError as error:
            raise Unknown(_UNKNOWN_CODES.get(type(error), "http_failed"), str(error)) from error
        return Reply(answer.status, _by_name(answer.headers), answer.body)

    def _serialised(self, request: Request) -> bytes:
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


class Provider:
    """One configured provider: its adapter and its client, as dispatch uses it."""

    def __init__(self, config: ProviderConfig, adapter: Adapter, client: ProviderClient) -> None:
        self.config = config
        self.adapter = adapter
        self._client = client

    @classmethod
    def from_config(cls, config: ProviderConfig) -> Self:
        """Builds adapter and client. Raises ValueError with a sentence on a configuration fault."""
        return cls(config, make_adapter(config), ProviderClient(config))

    @property
    def batch_max(self) -> int:
        """Messages in one request: what is configured, within what the wire format takes."""
        return min(self.config.batch, self.adapter.batch_max)

    async def deliver(self, batch: Sequence[Submission]) -> list[Outcome]:
        """Sends 1..batch_max submissions in one request.

        Returns outcomes in the batch's order; a submission without one is unknown. Raises NotSent,
        Throttled, AccountFault, BadRequest or Unknown for the batch as a whole.
        """
        reply = await self._client.send(self.adapter.submit(batch))
        return self.adapter.outcomes(batch, reply)

    async def look_up(self, refs: Sequence[str]) -> list[Receipt]:
        """Asks what became of any number of refs, in as many requests as that takes, one by one.

        A ref without a receipt is one the provider does not know. Raises SendFault as soon as one
        of the requests fails; then nothing is known of any ref. Only when `adapter.can_look_up`.
        """
        found: list[Receipt] = []
        step = self.adapter.look_up_max
        for start in range(0, len(refs), step):
            reply = await self._client.send(self.adapter.look_up(refs[start : start + step]))
            found.extend(self.adapter.looked_up(reply))
        return found

    async def aclose(self) -> None:
        await self._client.aclose()


@lru_cache(_HEADS_MAX)
def _header_lines(headers: tuple[tuple[str, str], ...]) -> str:
    for name, value in headers:
        if any(char in name + value for char in "\r\n\0"):
            raise ValueError(f"The header {name!r} has a line break in it.")
    return "".join(f"{name}: {value}\r\n" for name, value in headers)


def _by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """One value a name: repeated ones are one list (RFC 9110, 5.3)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _base_url(config: ProviderConfig) -> str:
    try:
        url = httpx2.URL(config.base_url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"base_url of provider {config.name} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query:
        raise ValueError(f"base_url of provider {config.name} must look like https://host.")
    return str(url).rstrip("/")
