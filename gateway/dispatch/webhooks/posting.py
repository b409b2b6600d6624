"""The calls of one webhook: signed over the bytes that are sent, to a public address.

The address is looked up and judged anew for each connection, and no redirect is followed. Hosts of
the allow-list may be private, and be reached by plain http.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection
from typing import NamedTuple

import httpx2
import trio

from gateway.core.records.webhook import Webhook
from gateway.core.webhooks import signed
from providers.http.client import stage
from providers.http.public_hosts import open_public_stream
from providers.http.replies import retry_after_ms
from providers.http.transport import KeepAliveTransport, OpenStream

TIMEOUT_S = 15.0
BODY_S = 2.0  # for a body once its head came: the status says what counts
CONNECTIONS = 16
ANSWER_CHARS = 256  # of the answer that are kept
BUSY, BUSY_MS = 429, 60_000  # and for how long, where it does not say


class CallAnswer(NamedTuple):
    """What came of a call. `status` 0: no answer; `error` says why. `wish_ms`: for how long the
    receiver wishes to be left alone."""

    status: int = 0
    text: str = ""
    error: str = ""
    wish_ms: int = 0

    @property
    def leave_ms(self) -> int:
        """For how long it is to be left alone."""
        return self.wish_ms or (BUSY_MS if self.status == BUSY else 0)


class Posting:
    """`open_stream` connects to where the address may be checked: a test may put its own there."""

    def __init__(
        self,
        url: str,
        hosts: Collection[str],
        ssl_context: ssl.SSLContext | None,
        open_stream: OpenStream = open_public_stream,
    ) -> None:
        self.url = url
        address = httpx2.URL(url)
        target, host = address.raw_path.decode("ascii"), address.netloc.decode("ascii")
        self._head = (
            f"POST {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kaskad\r\n"
            "Accept-Encoding: identity\r\nContent-Type: application/json\r\n"
        )
        is_allowed = address.host in hosts
        self._transport: KeepAliveTransport | None = None
        if is_allowed or address.scheme == "https":
            self._transport = KeepAliveTransport(
                address,
                connections=CONNECTIONS,
                timeout_s=TIMEOUT_S,
                ssl_context=ssl_context,
                open_stream=trio.open_tcp_stream if is_allowed else open_stream,
                body_s=BODY_S,
            )

    async def call(self, webhook: Webhook, event_id: str, now_ms: int, body: bytes) -> CallAnswer:
        """Makes one call and reads its answer."""
        if self._transport is None:
            return CallAnswer(error="refused: plain http is for hosts of webhooks.allow_hosts")
        at_s = now_ms // 1000
        signature = signed(webhook.signs_with(now_ms), event_id, at_s, body)
        head = (
            f"{self._head}Content-Length: {len(body)}\r\nwebhook-id: {event_id}\r\n"
            f"webhook-timestamp: {at_s}\r\nwebhook-signature: {signature}\r\n\r\n"
        )
        try:
            reply = await self._transport.exchange(head.encode("ascii") + body)
        except httpx2.TransportError as error:
            return CallAnswer(error=str(stage(error))[:ANSWER_CHARS])
        text = reply.body[: 4 * ANSWER_CHARS].decode(errors="replace")[:ANSWER_CHARS]
        if 200 <= reply.status < 300:  # then nobody asks for how long
            return CallAnswer(reply.status, text)
        told = {name.decode("latin-1"): value.decode("latin-1") for name, value in reply.headers}
        return CallAnswer(reply.status, text, wish_ms=retry_after_ms(told) or 0)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


OpenPosting = Callable[[str], Posting]


def opens(hosts: Collection[str]) -> OpenPosting:
    """Opens the connections to an address; `hosts` may be private."""
    context: list[ssl.SSLContext] = []  # one for all: to make it costs 50 ms of CPU and more

    def open_posting(url: str) -> Posting:
        if not context and url.startswith("https:"):
            context.append(ssl.create_default_context())
        return Posting(url, hosts, context[0] if context else None)

    return open_posting
