"""A reply as its app sees it. Pure; it cannot fail."""

from __future__ import annotations

import msgspec

from gateway.core.channels import ChannelName
from gateway.core.records.reply import KeptReply
from gateway.core.views.words import Time, rfc3339


class ReplyView(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What a person wrote back. `message` is what it was sent last from there; null where nobody
    knows, which only who manages is shown."""

    id: str
    at: Time
    channel: ChannelName
    provider: str
    from_: str
    to: str
    text: str
    message: str | None


def view_of(id_: str, reply: KeptReply) -> ReplyView:
    """A reply as its app sees it."""
    address = reply.identity[2:]
    return ReplyView(
        id=id_,
        at=rfc3339(reply.at_ms),
        channel=reply.channel,
        provider=reply.provider,
        from_="+" + address if reply.identity.startswith("p:") else address,
        to=reply.to,
        text=reply.text,
        message=reply.message or None,
    )
