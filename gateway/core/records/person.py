"""What a person was sent lately, under one identity, and who else the person is."""

from __future__ import annotations

import msgspec
from msgspec import field

from gateway.core.records import schema2
from gateway.core.records.codec import Codec
from ratelimit.caps import Slot

DAY_MS = 86_400_000
REMEMBERED_MS = 365 * DAY_MS  # by whom a person was reached, and when it reacted last


class DedupeClaim(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """(person, campaign) belongs to one message. `until_ms` 0 while the message is live; a moment
    once it was delivered."""

    message: str = field(name="m")
    until_ms: int = field(name="u", default=0)


class ChannelMemory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is remembered of a person on one channel, in some 40 bytes. `address` is a mark of the
    address for which it was learned whether the person is reached; it says nothing of another.
    Exposures and reactions are thousandths, faded to the moment `counted_s`; `deliveries` are
    counted up to as many as must be unseen of who hides that something was seen."""

    known_s: int = 0  # when that was learned; 0: it is not known
    reached: bool = False
    address: int = 0
    keep_d: int = 0  # the day, of those since 1970, on which all of this is forgotten
    exposures: int = 0
    reactions: int = 0
    counted_s: int = 0
    deliveries: int = 0
    seen: bool = False  # something was, ever
    acted: bool = False  # the person clicked or replied, ever


class Person(msgspec.Struct, omit_defaults=True, gc=False):
    """What is kept under one identity. Read and written by `unpack_person` and `pack_person`.

    A home has no `home`. An alias names its home, or one that became an alias itself; what it holds
    is from when it was a home. The record has some claims at most, so that a person of ten
    thousand campaigns is read and written as one of twenty; the others are records of their own."""

    claims: dict[str, DedupeClaim] = field(name="c", default_factory=dict)
    home: str = field(name="h", default="")
    aliases: list[str] = field(name="a", default_factory=list)  # of a home: its other identities
    former: list[str] = field(name="f", default_factory=list)  # those that may hold something still
    slots: list[Slot] = field(name="s", default_factory=list)
    keep_ms: int = field(name="k", default=0)  # nothing is held here after this
    # Until when its aliases stand at least; of an alias: it itself.
    linked_ms: int = field(name="l", default=0)
    # A late delivery took a claim from a live message: that one may not hold its claim any more.
    contested: bool = field(name="t", default=False)
    # Until when claims may stand in records of their own; None: until `keep_ms`, for all we know.
    # Whoever makes a record says 0.
    apart_ms: int | None = field(name="o", default=None)
    channels: dict[str, ChannelMemory] = field(name="r", default_factory=dict)
    # Marks of campaigns that reached the person, each with the day since 1970, where another asks.
    reached: dict[int, int] = field(name="e", default_factory=dict)
    reacted_s: int = field(name="y", default=0)  # when the person reacted last, where it is asked

    @property
    def until_ms(self) -> int:
        """When the record as a whole may go."""
        until_ms = max(self.keep_ms, self.linked_ms)
        for memory in self.channels.values():
            until_ms = max(until_ms, memory.keep_d * DAY_MS)
        if self.reached:
            until_ms = max(until_ms, max(self.reached.values()) * DAY_MS + REMEMBERED_MS)
        if self.reacted_s:
            until_ms = max(until_ms, self.reacted_s * 1000 + REMEMBERED_MS)
        return until_ms


def pack_person(person: Person) -> bytes:
    """The record as it is kept under its identity, with the claims that are in `person`."""
    return person_codec.encode(person)


def unpack_person(record: bytes | None) -> Person:
    """Reads what `pack_person` made, and records of schema 2, which hold all their claims; None
    holds nothing. Raises NewerRecordError and msgspec.DecodeError."""
    return Person() if record is None else person_codec.decode(record)


def _person_of_2(record: bytes) -> Person:
    old = schema2.decode_person(record)
    return Person(
        slots=[Slot(s.message, s.at_ms, s.category, s.channel) for s in old.slots],
        claims={campaign: DedupeClaim(c.message, c.until_ms) for campaign, c in old.claims.items()},
    )


person_codec = Codec(Person, "person", _person_of_2)
claim_codec = Codec(DedupeClaim, "claim")
