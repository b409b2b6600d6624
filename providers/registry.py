"""Which adapters there are: the one table to which a new provider is added.

Pure: ingress reads receipts through it without ever importing trio. An unknown kind is a ValueError
that names the known ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from providers.contract import Adapter, ProviderConfig
from providers.infobip.sms import InfobipSms
from providers.infobip.viber import InfobipViber

ADAPTERS: Mapping[str, Callable[[ProviderConfig], Adapter]] = MappingProxyType(
    {
        InfobipSms.kind: InfobipSms,
        InfobipViber.kind: InfobipViber,
    }
)


def make_adapter(config: ProviderConfig) -> Adapter:
    """Builds the adapter of `config.kind`. Raises ValueError when there is none of that kind."""
    try:
        make = ADAPTERS[config.kind]
    except KeyError:
        known = ", ".join(sorted(ADAPTERS))
        raise ValueError(
            f"Provider {config.name} has the unknown kind {config.kind!r}; use one of: {known}."
        ) from None
    return make(config)
