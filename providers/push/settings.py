"""The keys that every provider of notifications has beside those of any provider."""

from __future__ import annotations

from typing import Literal

from providers.settings import ProviderSettings


class PushSettings(ProviderSettings, frozen=True, kw_only=True):
    """Nobody reports what becomes of a notification: it is delivered when it is accepted."""

    sender: str = ""  # a notification has none: it is its application's
    delivered_on: Literal["accepted"] = "accepted"
