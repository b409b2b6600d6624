"""What a process that must not load the archive's libraries asks of one that does, and what that
one answers: msgpack, behind its length in four bytes. Pure.
"""

from __future__ import annotations

import msgspec

from gateway.core.archive.manifest import EntryId
from gateway.finance.lines.lines import LinesPage, LinesWanted
from gateway.store.archive.archiving import ArchiveBegun
from gateway.store.messages.message_search import ArchivedMessage
from gateway.store.messages.person_index import IndexPlace

LENGTH_BYTES = 4
READER_MODULE = "gateway.archive.reader"  # that other process


class MessagesAsked(msgspec.Struct, frozen=True, tag="messages"):
    """The latest records of messages."""

    ids: list[str]


class ThroughAsked(msgspec.Struct, frozen=True, tag="through"):
    """How far a shard's ledger is archived."""

    shard: int


class LinesAsked(msgspec.Struct, frozen=True, tag="lines"):
    """A page of the ledger's lines."""

    wanted: LinesWanted


class AcceptedAsked(msgspec.Struct, frozen=True, tag="accepted"):
    """Messages that were accepted before a place, at most `count`. `hashes`: of all whom one must
    name, by kind of identity, made with the key of which `key` is the mark."""

    before: IndexPlace
    count: int
    hashes: dict[str, str]
    key: str
    campaign: str | None = None


class MessagesFound(msgspec.Struct, frozen=True, tag="messages"):
    """By id; what is not archived is absent."""

    records: dict[str, bytes]


class ThroughFound(msgspec.Struct, frozen=True, tag="through"):
    through: EntryId


class LinesFound(msgspec.Struct, frozen=True, tag="lines"):
    page: LinesPage


class AcceptedFound(msgspec.Struct, frozen=True, tag="accepted"):
    """The newest first; `next`: the place before which to go on, None where there is no more."""

    items: list[ArchivedMessage]
    next: IndexPlace | None


class NotRead(msgspec.Struct, frozen=True, tag="fault"):
    """The archive could not be asked; `reason` is for the log."""

    reason: str


ArchiveQuestion = MessagesAsked | ThroughAsked | LinesAsked | AcceptedAsked


class Asked(msgspec.Struct, frozen=True):
    """A question, and what Redis knew of the archive when it was asked."""

    question: ArchiveQuestion
    begun: ArchiveBegun


ArchiveAnswer = MessagesFound | ThroughFound | LinesFound | AcceptedFound | NotRead

_encode = msgspec.msgpack.Encoder().encode
_asked = msgspec.msgpack.Decoder(Asked)
_found: msgspec.msgpack.Decoder[ArchiveAnswer] = msgspec.msgpack.Decoder(ArchiveAnswer)
decode_asked, decode_found = _asked.decode, _found.decode


def framed(call: Asked | ArchiveAnswer) -> bytes:
    """As it goes over the pipe."""
    octets = _encode(call)
    return len(octets).to_bytes(LENGTH_BYTES) + octets
