"""What a message says, by channel: kept with its record, and freed as soon as no further step can
need it."""

from __future__ import annotations

import msgspec
from msgspec import field

from gateway.core.channels import CHANNELS, ChannelContent
from gateway.core.records import schema2
from gateway.core.records.codec import Codec


class Content(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """`text` is the default of every channel; `overrides` are each channel's own, as msgpack, so
    that a channel this process does not know is kept as it is."""

    text: str = field(name="t", default="")
    overrides: dict[str, msgspec.Raw] = field(name="o", default_factory=dict)

    def of(self, channel: str) -> ChannelContent:
        """What is said on a channel, with the message's own text where it has none."""
        row, raw = CHANNELS[channel], self.overrides.get(channel)
        if raw is None:
            return row.content(text=self.text)
        said = msgspec.msgpack.decode(raw, type=row.content)
        return said if said.text is not None else msgspec.structs.replace(said, text=self.text)

    def text_for(self, channel: str) -> str:
        return (self.of(channel).text or "") if channel in self.overrides else self.text

    def lacks(self, channel: str) -> tuple[str, ...]:
        """The fields of which one is missing for anything to be sent; empty: nothing is."""
        row = CHANNELS[channel]
        if self.text and row.says_text:
            return ()
        said = self.of(channel)
        for group in row.needs:
            if not any(getattr(said, name) for name in group):
                return group
        return ()


NO_WORDS = Content()


def content_with(text: str, overrides: dict[str, ChannelContent]) -> Content:
    """The content of a text and each channel's own words."""
    raw = {name: msgspec.Raw(_encode(said)) for name, said in overrides.items()}
    return Content(text, raw)


_encode = msgspec.msgpack.Encoder().encode


def _content_of_2(record: bytes) -> Content:
    text, overrides = schema2.content_parts(record)
    return Content(text, {name: msgspec.Raw(_encode(said)) for name, said in overrides.items()})


content_codec = Codec(Content, "content", _content_of_2)
