"""What a person was sent lately: campaign claims and cap slots, by one identity."""

from __future__ import annotations

import msgspec
from msgspec import field

from gateway.core.records import schema2
from gateway.core.records.codec import Codec
from ratelimit.caps import Slot


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """(person, campaign) belongs to one message. `until_ms` 0 while the message is live; a moment
    once it was delivered."""

    message: str = field(name="m")
    until_ms: int = field(name="u", default=0)


class Person(msgspec.Struct, omit_defaults=True):
    """One identity of a person. Pruned whenever it is written."""

    claims: dict[str, Claim] = field(name="c", default_factory=dict)
    slots: list[Slot] = field(name="s", default_factory=list)


def _person_of_2(record: bytes) -> Person:
    old = schema2.decode_person(record)
    return Person(
        {campaign: Claim(c.message, c.until_ms) for campaign, c in old.claims.items()},
        [Slot(s.message, s.at_ms, s.category, s.channel) for s in old.slots],
    )


person_codec = Codec(Person, "person", _person_of_2)
