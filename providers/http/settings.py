"""The keys of a provider that is spoken to over HTTP and calls back.

The checks that need more than one key are here, and so is the way from keys to what the adapter,
the client and the callbacks are told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from providers.http.adapter import HttpConfig
from providers.http.callback_settings import CallbackSettings, callback_address
from providers.notation import Text
from providers.settings import (
    Configured,
    TableFault,
    address_faults,
    is_local,
)


class HttpSettings(CallbackSettings, frozen=True, kw_only=True):
    base_url: Text
    api_key_env: Text
    batch: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 100

    @property
    def sends_as(self) -> str:
        """The sender of what names none itself."""
        return self.sender

    @property
    def sends_to(self) -> str:
        """The address under which the adapter's paths are."""
        return self.base_url.rstrip("/")

    @property
    def is_signed(self) -> bool:
        """Whether its callbacks carry a signature of the provider's own."""
        return False

    def warnings(self) -> Iterator[TableFault]:
        if self.base_url.startswith("http:") and not is_local(self.base_url):
            reason = (
                "is plain http to a provider that is not local: use https, or its API key and the "
                "texts can be read on the way."
            )
            yield "base_url", reason

    def faults(self) -> Iterator[TableFault]:
        yield from address_faults("base_url", self.base_url)
        yield from self.proof_faults(signed=self.is_signed)


def http_config(configured: Configured) -> HttpConfig:
    """What the adapter and the client of a provider are told; with a token its callback address is
    a secret."""
    settings = configured.settings
    assert isinstance(settings, HttpSettings), "a kind is given its own settings"
    return HttpConfig(
        name=configured.name,
        kind=settings.kind,
        sender=settings.sends_as,
        rate_per_s=int(settings.rate_per_s),
        timeout_ms=int(settings.timeout_ms),
        connections=settings.connections,
        base_url=settings.sends_to,
        api_key=configured.secret(settings.api_key_env),
        batch=settings.batch,
        callback_url=callback_address(configured),
    )
