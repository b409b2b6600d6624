"""Firebase Cloud Messaging as dispatch uses it: one request a device, over one pool of connections.

Kept connections and not HTTP/2: over TLS, 50 requests at a time, one costs 280 µs CPU on ours and
2,800 µs by httpx2 over h2 (2026-11-28, two busy cores, node's http2 server with answers after
20 ms). What a single connection saves is nothing beside that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from providers.contract import (
    AccountFault,
    FcmAddress,
    Outcome,
    ProviderConfig,
    Receive,
    Submission,
    TellTaken,
    WithoutLookUps,
)
from providers.fcm import service_account, wire
from providers.fcm.access import Access
from providers.fcm.service_account import AccessToken
from providers.fcm.settings import FcmSettings
from providers.http.adapter import Reply
from providers.http.client import ProviderClient
from providers.push.devices import to_all
from providers.push.settings import push_origin
from providers.settings import Configured


class FcmProvider(WithoutLookUps):
    batch_max = 1

    def __init__(self, configured: Configured, *, clock: Callable[[], float] = time.time) -> None:
        """Raises ValueError with a sentence for a file that cannot be used, and OSError."""
        settings = configured.settings
        assert isinstance(settings, FcmSettings), "a kind is given its own settings"
        file = Path(settings.service_account_file)
        try:
            self._account, self._key = service_account.read(file.read_bytes())
        except ValueError as error:
            raise ValueError(f"{file} {error}") from None
        origin = push_origin(configured, settings.base_url)
        self.config: ProviderConfig = origin
        self._client = ProviderClient(origin)
        self._tokens = ProviderClient(
            replace(origin, connections=1, base_url=self._account.token_origin)
        )
        self._access = Access(self._ask_for_token, origin.timeout_ms / 1000 / 2)
        self._clock = clock

    def tokens(self, batch: Sequence[Submission]) -> int:
        return len(batch)

    async def deliver(
        self,
        batch: Sequence[Submission],
        tell_taken: TellTaken | None = None,  # noqa: ARG002 - a batch is one message
    ) -> list[Outcome]:
        (sent,) = batch
        return [await to_all(sent, FcmAddress, self._send)]

    async def _send(self, sent: Submission, device: FcmAddress) -> Outcome:
        reply, token = await self._asked(sent, device)
        if _refuses_token(reply):  # it ended early, or was revoked; nothing was taken
            self._access.refused(token)
            reply, token = await self._asked(sent, device)
        if _refuses_token(reply):
            self._access.refused(token)
            raise AccountFault("UNAUTHENTICATED", "FCM refuses the service account's access token.")
        return wire.outcome(sent, device, reply)

    async def _asked(self, sent: Submission, device: FcmAddress) -> tuple[Reply, str]:
        token, now_s = await self._access.token(), int(self._clock())
        request = wire.request(self._account.project_id, token, sent, device, now_s)
        return await self._client.send(request), token

    async def _ask_for_token(self) -> AccessToken:
        request = service_account.token_request(self._account, self._key, int(self._clock()))
        return service_account.token_in(await self._tokens.send(request))

    async def run(self, receive: Receive) -> None:
        """Nothing to do: FCM reports nothing."""

    async def aclose(self) -> None:
        await self._client.aclose()
        await self._tokens.aclose()


def _refuses_token(reply: Reply) -> bool:
    return reply.status == 401 and wire.error_of(reply).code != "THIRD_PARTY_AUTH_ERROR"
