"""Which messages may be a person's: a stream a shard, an entry a commit.

A message stands there with a bucket of each identity it names, one of 65,536: with many persons in
a bucket it says little of any, and needs no change when one is erased. Whoever looks for a person
reads the streams whole and then the messages of the buckets: seconds a million messages, and
nothing beyond 10 to 20 bytes a message and one command a commit for everybody else. An entry that
cannot be read, or is of a newer Kaskad, is passed over. Raises RedisError.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Collection, Iterable

import msgspec

from gateway.core.records.codec import NewerRecordError
from gateway.core.records.entries import Indexed, index_codec
from gateway.core.records.message import Message
from gateway.redis.client import RedisClient
from gateway.store.compression import unpack
from gateway.store.keys import Keys, keys_of

ENTRIES_A_PAGE = 20  # so that a page is decoded in some milliseconds
_BUCKETS = 1 << 16


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
        end = "+"
        while True:
            (page,) = await redis.call(
                [("XREVRANGE", keys_of(shard).index, end, "-", "COUNT", ENTRIES_A_PAGE)]
            )
            assert isinstance(page, list)
            found = [
                item
                for _, fields in page
                for item in _items(fields)
                if not buckets.isdisjoint(item.buckets)
            ]
            if found:
                yield found
            if len(page) < ENTRIES_A_PAGE:
                break
            end = "(" + page[-1][0].decode()


async def cut(redis: RedisClient, keys: Keys, oldest_ms: int) -> None:
    """Drops what was accepted before that moment."""
    await redis.call([("XTRIM", keys.index, "MINID", max(oldest_ms, 0))])


def _items(fields: list[bytes]) -> list[Indexed]:
    try:
        return index_codec.decode(unpack(fields[1])).items
    except (NewerRecordError, msgspec.DecodeError):
        return []
