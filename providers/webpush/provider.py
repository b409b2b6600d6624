"""Web push as dispatch uses it: one encrypted request a browser, to the service of that browser.

The address comes from whoever subscribed, so only hosts of the allow-list are sent to, and only at
public addresses. One connection pool a service: they are few, and each takes many messages.
"""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from providers.contract import (
    Outcome,
    ProviderConfig,
    Receive,
    Refused,
    Submission,
    TellTaken,
    WebPushAddress,
    WithoutLookUps,
)
from providers.http.client import ProviderClient
from providers.http.public_hosts import open_public_stream
from providers.push.devices import gone, to_all
from providers.push.settings import push_origin
from providers.settings import Configured
from providers.webpush import wire
from providers.webpush.encryption import SALT_BYTES, BadKeys
from providers.webpush.settings import WebPushSettings
from providers.webpush.vapid import Vapid

SERVICES_MAX = 32  # connection pools; the longest unused is closed for a further one


class WebPushProvider(WithoutLookUps):
    batch_max = 1

    def __init__(
        self,
        configured: Configured,
        *,
        clock: Callable[[], float] = time.time,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Raises ValueError with a sentence for a key that is none."""
        settings = configured.settings
        assert isinstance(settings, WebPushSettings), "a kind is given its own settings"
        self._origin = push_origin(configured, settings.base_url or "")
        self.config: ProviderConfig = self._origin
        self._vapid = Vapid(configured.secret(settings.vapid_key_env), settings.subject)
        self._hosts = settings.hosts
        self._clock = clock
        # One for all services: to make it costs 50 ms of CPU and more.
        self._ssl_context = ssl_context or ssl.create_default_context()
        self._clients: dict[str, ProviderClient] = {}

    def tokens(self, batch: Sequence[Submission]) -> int:
        return len(batch)

    async def deliver(
        self,
        batch: Sequence[Submission],
        tell_taken: TellTaken | None = None,  # noqa: ARG002 - a batch is one message
    ) -> list[Outcome]:
        (sent,) = batch
        return [await to_all(sent, WebPushAddress, self._send)]

    async def _send(self, sent: Submission, device: WebPushAddress) -> Outcome:
        endpoint = wire.endpoint_of(device)
        if endpoint is None:
            return gone(sent.ref, wire.BAD_SUBSCRIPTION, device)
        if not wire.is_allowed(endpoint.host, self._hosts):
            # Not unreachable: that would be remembered when the list of hosts is mended.
            return Refused(sent.ref, wire.HOST_REFUSED)
        drawn = ec.generate_private_key(ec.SECP256R1()), secrets.token_bytes(SALT_BYTES)
        try:
            request = wire.request(sent, device, endpoint, self._vapid, int(self._clock()), drawn)
        except BadKeys:
            return gone(sent.ref, wire.BAD_SUBSCRIPTION, device)
        if isinstance(request, Refused):
            return request
        reply = await (await self._client(endpoint.origin)).send(request)
        return wire.outcome(sent, device, reply)

    async def _client(self, origin: str) -> ProviderClient:
        """The connections to one service."""
        base_url = self._origin.base_url or origin
        client = self._clients.pop(base_url, None)
        if client is None:
            client = self._connected(base_url)
        self._clients[base_url] = client
        if len(self._clients) > SERVICES_MAX:
            await self._clients.pop(next(iter(self._clients))).aclose()
        return client

    def _connected(self, base_url: str) -> ProviderClient:
        origin = replace(self._origin, base_url=base_url)
        if self._origin.base_url:
            return ProviderClient(origin, ssl_context=self._ssl_context)
        return ProviderClient(origin, ssl_context=self._ssl_context, open_stream=open_public_stream)

    async def run(self, receive: Receive) -> None:
        """Nothing to do: no push service reports."""

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()
