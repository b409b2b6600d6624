"""A stored user: the addresses and settings that an app keeps of a person, so that a message may
name only the user."""

from __future__ import annotations

import msgspec
from msgspec import field

from gateway.core.addresses import Addresses
from gateway.core.records.codec import Codec
from providers.contract import Category, Channel


class Consent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An opt-in as the app recorded it; without `channel` it is for every channel."""

    category: Category = field(name="c")
    given_ms: int = field(name="g")
    source: str = field(name="s")
    channel: Channel | None = field(name="h", default=None)


class StoredUser(msgspec.Struct, frozen=True, omit_defaults=True):
    """`app` is the one that stored it last; at `stored_ms` that last changed it."""

    app: str = field(name="b")
    stored_ms: int = field(name="m")
    addresses: Addresses = field(name="a", default=Addresses())
    tz: str | None = field(name="z", default=None)
    locale: str | None = field(name="l", default=None)
    consent: tuple[Consent, ...] = field(name="c", default=())


user_codec = Codec(StoredUser, "stored user")
