"""The keys that every provider of notifications has beside those of any provider, and what its
clients are told."""

from __future__ import annotations

from typing import Literal

from providers.http.adapter import HttpOrigin
from providers.settings import Configured, ProviderSettings


class PushSettings(ProviderSettings, frozen=True, kw_only=True):
    """Nobody reports what becomes of a notification: it is delivered when it is accepted."""

    sender: str = ""  # a notification has none: it is its application's
    delivered_on: Literal["accepted"] = "accepted"


def push_origin(configured: Configured, base_url: str) -> HttpOrigin:
    settings = configured.settings
    return HttpOrigin(
        name=configured.name,
        kind=settings.kind,
        sender=settings.sender,
        rate_per_s=int(settings.rate_per_s),
        timeout_ms=int(settings.timeout_ms),
        connections=settings.connections,
        base_url=base_url,
    )
