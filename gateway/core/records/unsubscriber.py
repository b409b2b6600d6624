"""Who unsubscribes by a code: an address, from marketing on a channel."""

from __future__ import annotations

import msgspec
from msgspec import field

from gateway.core.records.codec import Codec
from providers.contract import Channel


class Unsubscriber(msgspec.Struct, frozen=True, gc=False):
    """`address` as opt-outs have it: a phone's digits, or an e-mail address."""

    channel: Channel = field(name="h")
    address: str = field(name="a")


unsubscriber_codec = Codec(Unsubscriber, "unsubscriber")
