"""What a person wrote back, as it is kept for some days."""

from __future__ import annotations

import msgspec
from msgspec import field

from gateway.core.records.codec import Codec
from providers.contract import Channel


class KeptReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """`identity` is who wrote; `app` and `message` what it was told last from there: empty where
    nobody knows."""

    provider: str = field(name="p")
    channel: Channel = field(name="h")
    identity: str = field(name="f")
    to: str = field(name="o")
    text: str = field(name="t")
    at_ms: int = field(name="m")
    app: str = field(name="a", default="")
    message: str = field(name="i", default="")


reply_codec = Codec(KeptReply, "reply")
