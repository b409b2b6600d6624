"""How a person unsubscribes by an address in what it was sent: `{{unsubscribe}}` in a text, and in
marketing that a mail program can unsubscribe from, a header. Pure.

A code has 128 bits: a keyed hash of channel and address, so that every message to somebody has the
same and nobody can tell another's. A code has one length, so parts and price are known before.
"""

from __future__ import annotations

import base64
import re
from hashlib import blake2b

import msgspec

from gateway.core.channels import CHANNELS, ChannelContent
from gateway.core.links.urls import Said, is_one_click
from gateway.core.records.message import Message
from gateway.core.records.unsubscriber import Unsubscriber

NAME = "unsubscribe"  # of the place that is filled in
CODE_CHARS = 22
_BITS = 128
_PURPOSE = b"unsubscribe"  # the key is that of links, which makes other codes as well
# What may name the address, by channel.
_FIELDS = {
    row.name: [name for name in ("text", "html") if name in row.content.__struct_fields__]
    for row in CHANNELS.values()
}
_ANY_CODE = "x" * CODE_CHARS

_place = re.compile(r"\{\{ *unsubscribe *\}\}")
is_code = re.compile(rf"[\w-]{{{CODE_CHARS}}}", re.ASCII).fullmatch


def code_for(who: Unsubscriber, key: bytes) -> str:
    told = f"{who.channel}\n{who.address}".encode()
    digest = blake2b(told, digest_size=_BITS // 8, key=key, person=_PURPOSE).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def text_to_price(text: str, root: str) -> str:
    """A text of marketing as long as it will be with its address."""
    return _place.sub(f"{root}/u/{_ANY_CODE}", text)


def _asking(channel: str, said: ChannelContent) -> list[str]:
    """The fields that have a place for the address."""
    return [
        name
        for name in _FIELDS[channel]
        if "{{" in (text := getattr(said, name) or "") and _place.search(text)
    ]


class UnsubscribeWriter:
    """Writes addresses into what is sent, and remembers whose they are: they are to be kept before
    it is. `root` is where our pages are; empty: nowhere."""

    def __init__(self, root: str, key: bytes) -> None:
        self._root = root
        self._key = key
        self._is_one_click = is_one_click(root)
        self.used: dict[str, Unsubscriber] = {}  # by code

    def is_asked_by(self, channel: str, said: ChannelContent) -> bool:
        """Whether what is said on a channel of marketing has an address in it or beside it."""
        beside = CHANNELS[channel].one_click and self._is_one_click
        return beside or bool(_asking(channel, said))

    def written(self, message: Message, said: Said) -> tuple[Said, str | None]:
        """What the current step of a message of marketing says, and the address of its header."""
        row = CHANNELS[message.step.channel]
        asking = _asking(row.name, said)
        one_click = row.one_click and self._is_one_click
        if not asking and not one_click:
            return said, None
        address = message.addresses.one(row.address).removeprefix("+")
        if not address:
            return said, None
        who = Unsubscriber(row.name, address)
        code = code_for(who, self._key)
        self.used[code] = who
        url = f"{self._root}/u/{code}"
        if asking:
            texts = {name: _place.sub(url, getattr(said, name)) for name in asking}
            said = msgspec.structs.replace(said, **texts)
        return said, url if one_click else None
