"""What a person was sent lately, under one identity, and who else the person is."""

from __future__ import annotations

import msgspec
from msgspec import field

from gateway.core.records import schema2
from gateway.core.records.codec import Codec
from ratelimit.caps import Slot


class DedupeClaim(msgspec.Struct, frozen=True, omit_defaults=True):
    """(person, campaign) belongs to one message. `until_ms` 0 while the message is live; a moment
    once it was delivered."""

    message: str = field(name="m")
    until_ms: int = field(name="u", default=0)


class Person(msgspec.Struct, omit_defaults=True):
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
    apart_ms: int | None = field(name="o", default=None)

    @property
    def until_ms(self) -> int:
        """When the record as a whole may go."""
        return max(self.keep_ms, self.linked_ms)


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


def _claim_of_2(_: bytes) -> DedupeClaim:
    raise msgspec.DecodeError("In schema 2 a claim was no record of its own.")


person_codec = Codec(Person, "person", _person_of_2)
claim_codec = Codec(DedupeClaim, "claim", _claim_of_2)
