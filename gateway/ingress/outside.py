"""Asks for what callbacks refer to: the certificate of a signature, and addresses that are to be
visited so that a provider goes on to call back.

Which addresses may be asked for is said by the provider's adapter, never by the callback alone. No
redirect is followed, an answer is bounded in time and size, and whatever fails is a 503: the
provider calls again.
"""

from __future__ import annotations

import asyncio

import httpx2
import structlog

from gateway.ingress.http.problems import Refusal, refuse

TIMEOUT_S = 5.0
BYTES_MAX = 64 * 1024
KEPT_MAX = 16  # answers that are kept, the latest

_log = structlog.get_logger("ingress")


class Outside:
    """`transport` is the network, but in tests."""

    def __init__(self, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._transport = transport
        self._kept: dict[str, bytes] = {}

    async def kept(self, url: str) -> bytes:
        """As `get`, of what never changes: it is asked for once. Raises Refusal."""
        if (body := self._kept.get(url)) is None:
            body = self._kept[url] = await self.get(url)
            if len(self._kept) > KEPT_MAX:
                del self._kept[next(iter(self._kept))]
        return body

    async def get(self, url: str) -> bytes:
        """Raises Refusal."""
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                httpx2.AsyncClient(
                    transport=self._transport, timeout=TIMEOUT_S, trust_env=False
                ) as client,
                client.stream("GET", url) as answer,
            ):
                body = b""
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > BYTES_MAX:
                        raise _failed(url, f"The answer is over {BYTES_MAX} bytes.")
                if answer.status_code != 200:
                    raise _failed(url, f"The answer was HTTP {answer.status_code}.")
                return body
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            raise _failed(url, str(error) or "No answer came in time.") from error


def _failed(url: str, reason: str) -> Refusal:
    _log.warning("callback_reference_failed", url=url, reason=reason)
    return refuse("unavailable", "What the callback refers to could not be asked for: call again.")
