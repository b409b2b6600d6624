"""Which messages may be a person's: a stream a shard, an entry a commit.

A message stands there with a bucket of each identity it names, one of 65,536: with many persons in
a bucket it says little of any, and needs no change when one is erased. Whoever looks for a person
reads the streams whole and then the messages of the buckets: seconds a million messages, and
nothing beyond 10 to 20 bytes a message and one command a commit for everybody else. An entry that
cannot be read, or is of a newer Kaskad, is passed over.

Where there is an archive, entries go there after a while, and what they name that is in Redis still
is listed anew (`gateway.store.archive.archived_index`). Raises RedisError.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from gateway.core.records.codec import NewerRecordError
from gateway.core.records.entries import Indexed, IndexEntry, index_codec
from gateway.core.records.message import Message
from gateway.redis.client import Command, RedisClient
from gateway.store.compression import unpack
from gateway.store.keys import Keys, keys_of

ENTRIES_A_PAGE = 20  # so that a page is decoded in some milliseconds
_BUCKETS = 1 << 16


class IndexPlace(NamedTuple):
    """Where a message stands in the index: a commit's moment and number, its shard, and the
    message's number in the commit. The newer, the greater."""

    at_ms: int
    sequence: int
    shard: int
    item: int


def bucket_of(identity: str) -> int:
    return zlib.crc32(identity.encode()) % _BUCKETS


def indexed(message: Message, identities: Iterable[str]) -> Indexed:
    """`identities` are those that the message names."""
    return Indexed(message.id, tuple(map(bucket_of, identities)), message.campaign)


async def find(
    redis: RedisClient, shards: Iterable[int], identities: Collection[str]
) -> AsyncIterator[list[Indexed]]:
    """Messages that may be of a person with these identities, in pages, the newest of each shard
    first."""
    buckets = frozenset(map(bucket_of, identities))
    for shard in shards:
        async with aclosing(_pages(redis, shard, "XREVRANGE", "+", "-")) as pages:
            async for page in pages:
                found = [item for item in page if not buckets.isdisjoint(item.buckets)]
                if found:
                    yield found


async def oldest(
    redis: RedisClient, shards: Iterable[int], from_ms: int
) -> AsyncGenerator[list[str], None]:
    """The messages that were accepted since a moment of Redis' clock, in pages, the oldest of each
    shard first."""
    for shard in shards:
        start = str(max(from_ms, 0))
        async with aclosing(_pages(redis, shard, "XRANGE", start, "+")) as pages:
            async for page in pages:
                yield [item.message for item in page]


async def _pages(
    redis: RedisClient, shard: int, command: str, start: str, end: str
) -> AsyncGenerator[list[Indexed], None]:
    """One shard's index from one end to the other."""
    while True:
        (page,) = await redis.call(
            [(command, keys_of(shard).index, start, end, "COUNT", ENTRIES_A_PAGE)]
        )
        assert isinstance(page, list)
        yield [item for _, fields in page for item in _items(fields)]
        if len(page) < ENTRIES_A_PAGE:
            return
        start = "(" + page[-1][0].decode()


async def newest(
    redis: RedisClient,
    shards: Iterable[int],
    before: IndexPlace | None = None,
    *,
    anew: bool = True,
) -> AsyncGenerator[tuple[IndexPlace, list[Indexed]], None]:
    """What each commit of all shards accepted before a place, the newest commit first, with the
    place of its first message. What is accepted meanwhile is not among them, and moves nothing.
    What was listed `anew` stands where that was done; without it each message comes once."""
    ends = {shard: _end(shard, before) for shard in shards}
    read: dict[int, deque[tuple[IndexPlace, list[bytes]]]] = {shard: deque() for shard in ends}
    while read:
        missing = [shard for shard in ends if not read[shard]]
        commands: list[Command] = [
            ("XREVRANGE", keys_of(shard).index, ends[shard], "-", "COUNT", ENTRIES_A_PAGE)
            for shard in missing
        ]
        replies = await redis.call(commands) if commands else []
        for shard, page in zip(missing, replies, strict=True):
            assert isinstance(page, list)
            read[shard].extend((_place(shard, id_), fields) for id_, fields in page)
            if len(page) < ENTRIES_A_PAGE:
                del ends[shard]
            else:
                ends[shard] = "(" + page[-1][0].decode()
        read = {shard: entries for shard, entries in read.items() if entries}
        while read:
            shard = max(read, key=lambda shard: read[shard][0])
            place, fields = read[shard].popleft()
            entry = entry_of(fields[1])
            items = entry.items if anew or not entry.anew else []
            if before is not None and place[:3] == before[:3]:
                items = items[: before.item]
            yield place, items
            if not read[shard]:
                if shard in ends:
                    break
                del read[shard]


def _end(shard: int, before: IndexPlace | None) -> str:
    """From which entry of a shard on there may be something before a place."""
    if before is None:
        return "+"
    end = f"{before.at_ms}-{before.sequence}"
    return end if shard <= before.shard else "(" + end


def _place(shard: int, id_: bytes) -> IndexPlace:
    at_ms, _, sequence = id_.partition(b"-")
    return IndexPlace(int(at_ms), int(sequence), shard, 0)


async def cut(redis: RedisClient, keys: Keys, oldest_ms: int) -> None:
    """Drops what was accepted before that moment."""
    await redis.call([("XTRIM", keys.index, "MINID", max(oldest_ms, 0))])


def _items(fields: list[bytes]) -> list[Indexed]:
    return entry_of(fields[1]).items


def entry_of(record: bytes) -> IndexEntry:
    """What stands in an entry of the stream."""
    try:
        return index_codec.decode(unpack(record))
    except (NewerRecordError, msgspec.DecodeError):
        return IndexEntry([])
