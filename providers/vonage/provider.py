"""Vonage as dispatch uses it: HTTP, each request with a token that is signed here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from providers.contract import Outcome, Submission, TellTaken
from providers.http.adapter import Adapter
from providers.http.client import HttpProvider
from providers.http.settings import http_config
from providers.settings import Configured
from providers.vonage.access import Access, private_key
from providers.vonage.settings import VonageSettings


class VonageProvider(HttpProvider):
    def __init__(
        self,
        configured: Configured,
        adapter: Adapter,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises ValueError with a sentence for a file that cannot be used, and OSError."""
        settings = configured.settings
        assert isinstance(settings, VonageSettings), "a kind is given its own settings"
        super().__init__(http_config(configured), adapter)
        file = Path(settings.private_key_file)
        try:
            key = private_key(file.read_bytes())
        except ValueError as error:
            raise ValueError(f"{file} {error}") from None
        self._access = Access(settings.application_id, key)
        self._clock = clock

    async def deliver(
        self,
        batch: Sequence[Submission],
        tell_taken: TellTaken | None = None,  # noqa: ARG002 - one answer for all
    ) -> list[Outcome]:
        request = self._adapter.submit(batch)
        value = self._access.authorization(int(self._clock()), secrets.token_hex(16))
        headers = (("Authorization", value), *request.headers)
        reply = await self._client.send(replace(request, headers=headers))
        return self._adapter.outcomes(batch, reply)
