"""Where everything goes when a copy has another number of shards.

A person goes where the new number says, by each identity, and with it its claims and its messages,
so that one transaction still changes them. The id of a message keeps the shard in which it was
made: where that does not say any more where the message is, a record in its place does, for as long
as anybody may ask. Opt-outs, idempotency keys, conversions, provider ids and unmatched receipts go
by their own names; timers, queues of what is held and lane entries with their messages, the lanes
in the order of their entries. What campaigns say goes to every shard.

Ledger, totals, lists of closed messages and of clicks, what campaigns, rates and delays count,
links of messages, events, the index and what is set aside stay in the shard they were written in
(`gateway.store.former_shards`), so that sums, checkpoints and places in a stream stay what they
were. How many changes an event stream told is counted anew; the streams of shards that are no more
end with the messages' retention.

What cannot be read stays where its name says. Synchronous; raises CopyFault for a key that is none
of ours.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from gateway.core.ids import shard_of_id
from gateway.core.records.codec import NewerRecordError
from gateway.core.records.entries import unmatched_codec
from gateway.core.records.message import Message
from gateway.core.records.message_codec import unpack_message
from gateway.core.records.moved import MovedError, is_moved, pack_moved
from gateway.store.copies.sides import PAGE, CopyFault, KeyPage, KeyPart, Side, StringValue, call
from gateway.store.keys import keys_of, shard_of, shard_of_identity, shard_of_provider_id
from gateway.store.messages.receipts import told_id
from gateway.store.writes import LANE_FIELD

SPARE_MS = 30 * 86_400_000  # how much longer than its message a record of its place stands
_MADE_ANEW = ("changed", "marks", "feeder")
_PLACED = ("o", "oo", "timers", "held", "parked")
_STAYING = (
    *(
        "ledger",
        "closed",
        "clicked",
        "totals",
        "hours",
        "days",
        "events",
        "index",
        "quarantine",
        "counts",
        "outbox",
    ),
    *("rates", "delays", "budget", "invoices", "l", "lc"),
)
_STRINGS_STAYING = ("verified", "li")


class _Name(NamedTuple):
    """A key: the shard in its tag, None for an installation's own, and what follows the tag."""

    shard: int | None
    text: str

    @property
    def kind(self) -> str:
        return self.text.partition(":")[0]


class _LaneEntry(NamedTuple):
    """An entry on its way: its id as a stream orders them, and the shard it comes from."""

    at: tuple[int, int]
    shard: int
    fields: dict[bytes, bytes]


class Spread:
    """One pass over the source, from `before` shards to `after`."""

    def __init__(self, source: Side, before: int, after: int, now_ms: int, message_ms: int) -> None:
        self._source = source
        self._before = before
        self._after = after
        self._now_ms = now_ms
        self._message_ms = message_ms
        self._lanes: set[str] = set()

    def takes(self, name: bytes) -> bool:
        return _read(name).kind not in _MADE_ANEW

    def strings(self, found: Sequence[StringValue]) -> list[StringValue]:
        return [placed for value in found for placed in self._string(value)]

    def parts(self, name: bytes, kind: str) -> Iterator[KeyPart]:
        key = _read(name)
        if key.shard is None or key.kind in _STAYING:
            yield from self._staying(key, name, kind)
        elif key.kind == "so":
            shard = shard_of_identity(key.text.partition(":")[2], self._after)
            yield from self._moving(key, name, kind, shard)
        elif key.kind == "clicks":
            shard = shard_of(key.text.partition(":")[2], self._after)
            yield from self._moving(key, name, kind, shard)
        elif key.kind in _PLACED:
            for page in filter(None, self._source.members(name, kind)):
                yield from self._placed(key, kind, page)
        elif key.kind == "lane":
            self._lanes.add(key.text)
        else:
            raise _unknown(key.text)

    def rest(self) -> Iterator[KeyPart]:
        for lane in sorted(self._lanes):
            yield from self._lane(lane)

    def _string(self, found: StringValue) -> Iterator[StringValue]:
        key = _read(found.key)
        if key.shard is None or key.kind in _STRINGS_STAYING:
            yield found
        elif key.kind == "om":
            # It holds for every address, wherever that is now.
            for shard in range(self._after):
                yield found._replace(key=_key(shard, key.text))
        elif key.kind == "said":
            yield from self._version(found, key)
        elif key.kind == "m":
            yield from self._message(found, key)
        else:
            yield found._replace(key=_key(self._shard_of_key(key), key.text))

    def _version(self, found: StringValue, key: _Name) -> Iterator[StringValue]:
        """A version of a content goes wherever messages go that say it: of several copies the one
        that stands longest, which a copy says first."""
        names = [_key(shard, key.text) for shard in range(self._before)]
        copies = [(call(self._source.of(name), "GET", name) or b"", name) for name in names]
        if found.key == max(copies)[1]:
            for shard in range(self._after):
                yield found._replace(key=_key(shard, key.text))

    def _message(self, found: StringValue, key: _Name) -> Iterator[StringValue]:
        if is_moved(found.value):
            return  # its message says it anew
        assert key.shard is not None
        id_ = key.text[2:]
        message = _unpacked(id_, found.value)
        shard = self._home(id_, message, key.shard)
        yield found._replace(key=_key(shard, key.text))
        named = self._named(id_, key.shard)
        if named != shard:
            ttl_ms = found.ttl_ms
            if ttl_ms > 0:
                ttl_ms += SPARE_MS  # a late receipt keeps its message for longer
            elif message is not None:
                lives_ms = max(message.expires_ms - self._now_ms, 0)
                ttl_ms = lives_ms + SPARE_MS + self._message_ms
            yield StringValue(_key(named, key.text), pack_moved(shard), ttl_ms, found.origin)

    def _shard_of_key(self, key: _Name) -> int:
        value = key.text.partition(":")[2]
        if key.kind == "c":
            length, _, rest = value.partition(":")
            if length.isdigit():
                return shard_of_identity(rest[: int(length)], self._after)
        elif key.kind in ("p", "e", "u", "su", "i", "x", "cv", "un", "link"):
            return shard_of(value, self._after)
        raise _unknown(key.text)

    def _moving(self, key: _Name, name: bytes, kind: str, shard: int) -> Iterator[KeyPart]:
        for page in filter(None, self._source.members(name, kind)):
            yield KeyPart(_key(shard, key.text), kind, page, 0)

    def _staying(self, key: _Name, name: bytes, kind: str) -> Iterator[KeyPart]:
        ttl_ms = call(self._source.of(name), "PTTL", name)
        if key.shard is not None and key.kind in ("events", "index"):
            lasts_ms = self._message_ms + (SPARE_MS if key.kind == "index" else 0)
            ends_ms = ttl_ms if ttl_ms > 0 else lasts_ms
            ttl_ms = 0 if key.shard < self._after else ends_ms
        yield from self._source.parts(name, kind, ttl_ms)

    def _placed(self, key: _Name, kind: str, page: KeyPage) -> Iterator[KeyPart]:
        assert key.shard is not None
        members = [member for member, _ in page]
        if key.kind in ("o", "oo"):
            shards = [shard_of(member.decode(), self._after) for member in members]
        elif key.kind in ("timers", "held"):
            shards = self._homes(key.shard, members)
        else:
            shards = [self._shard_of_receipt(member, key.shard) for member in members]
        by_shard: defaultdict[int, KeyPage] = defaultdict(list)
        for shard, pair in zip(shards, page, strict=True):
            by_shard[shard].append(pair)
        for shard, pairs in by_shard.items():
            yield KeyPart(_key(shard, key.text), kind, pairs, 0)

    def _shard_of_receipt(self, member: bytes, shard: int) -> int:
        try:
            unmatched = unmatched_codec.decode(member)
        except (NewerRecordError, msgspec.DecodeError):
            return shard % self._after
        return shard_of_provider_id(unmatched.provider, told_id(unmatched.receipt), self._after)

    def _lane(self, lane: str) -> Iterator[KeyPart]:
        """One lane of all shards, spread over the new ones in the order of its entries. An entry's
        id is its own, or the next one free."""
        count = max(PAGE * 16 // self._before, 10)
        entries = heapq.merge(*(self._entries(lane, n, count) for n in range(self._before)))
        last: dict[int, tuple[int, int]] = {}
        while chunk := list(islice(entries, PAGE)):
            by_shard: defaultdict[int, KeyPage] = defaultdict(list)
            for shard, entry in self._with_homes(chunk):
                at = max(entry.at, _next(last.get(shard, (0, 0))))
                last[shard] = at
                by_shard[shard].append((b"%d-%d" % at, entry.fields))
            for shard, page in by_shard.items():
                yield KeyPart(_key(shard, lane), "stream", page, 0)

    def _entries(self, lane: str, shard: int, count: int) -> Iterator[_LaneEntry]:
        for page in self._source.members(_key(shard, lane), "stream", count):
            for id_, fields in page:
                ms, _, sequence = id_.partition(b"-")
                yield _LaneEntry((int(ms), int(sequence)), shard, fields)

    def _with_homes(self, chunk: Sequence[_LaneEntry]) -> Iterator[tuple[int, _LaneEntry]]:
        by_shard: defaultdict[int, list[int]] = defaultdict(list)
        for place, entry in enumerate(chunk):
            by_shard[entry.shard].append(place)
        homes: dict[int, int] = {}
        for shard, places in by_shard.items():
            ids = [chunk[place].fields.get(LANE_FIELD, b"") for place in places]
            homes |= zip(places, self._homes(shard, ids), strict=True)
        for place, entry in enumerate(chunk):
            yield homes[place], entry

    def _homes(self, shard: int, ids: Sequence[bytes]) -> list[int]:
        """Where the messages of a shard go."""
        texts = [id_.decode(errors="replace") for id_ in ids]
        keys = [keys_of(shard).message(text) for text in texts]
        records = call(self._source.of(keys[0]), "MGET", *keys)
        return [
            self._home(id_, None if record is None else _unpacked(id_, record), shard)
            for id_, record in zip(texts, records, strict=True)
        ]

    def _home(self, id_: str, message: Message | None, shard: int) -> int:
        """Where a message of this shard goes: to who holds things for it, else by its id."""
        if message is not None and message.holder:
            return shard_of_identity(message.holder, self._after)
        return self._named(id_, shard)

    def _named(self, id_: str, shard: int) -> int:
        named = shard_of_id(id_)
        return (shard if named is None else named) % self._after


def _unpacked(id_: str, record: bytes) -> Message | None:
    """None for what cannot be read here."""
    try:
        return unpack_message(id_, record)
    except (NewerRecordError, msgspec.DecodeError, MovedError):
        return None


def _next(at: tuple[int, int]) -> tuple[int, int]:
    return at[0], at[1] + 1


def _read(name: bytes) -> _Name:
    try:
        tag, _, text = name.decode().partition("}")
        return _Name(int(tag[2:]) if tag.startswith("{k") and tag[2:].isdigit() else None, text)
    except UnicodeDecodeError:
        raise _unknown(repr(name)) from None


def _key(shard: int, text: str) -> bytes:
    return f"{keys_of(shard).tag}{text}".encode()


def _unknown(name: str) -> CopyFault:
    return CopyFault(f"{name} is no key of Kaskad: delete it, and run the copy again.")
