"""The index of messages on its way to the archive, and out of Redis behind it.

The archive follows the stream as it grows; what is older than `keep` is taken off, and those of its
messages that are in Redis still are listed anew at the stream's end, so that whoever looks for a
person's messages in Redis finds them there. From when on the stream is whole is noted before it is
cut: a search that meets an older place goes on in the archive. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from gateway.core.archive.manifest import EntryId, entry_id
from gateway.core.records.entries import Indexed, IndexEntry, index_codec
from gateway.redis.allow_oom import NEVER, call_allowing_oom
from gateway.redis.client import Command, RedisClient, RedisReply, Session
from gateway.redis.replies import as_list
from gateway.redis.script import Script
from gateway.store.archive import archiving
from gateway.store.base import StoreBase, read_messages
from gateway.store.compression import pack
from gateway.store.keys import keys_of
from gateway.store.messages.person_index import entry_of
from gateway.store.shared_keys import ARCHIVE
from gateway.store.writes import BLOB_FIELD

ENTRIES_A_PAGE = 200
MESSAGES_A_BATCH = 500
_WHOLE_FROM = "index_from_ms"
_SINCE = "index_since_ms"

RAISE_SCRIPT = resources.files("gateway.store").joinpath("lua", "raise.lua").read_text()
_RAISE = Script(RAISE_SCRIPT)


async def accepted(
    redis: RedisClient, shard: int, after: EntryId, until: EntryId
) -> list[tuple[EntryId, list[Indexed]]]:
    """Entries after one and up to another, the oldest first, and what was accepted with each."""
    page = await archiving.entries(redis, shard, "index", after, until, ENTRIES_A_PAGE)
    entries = [(id_, entry_of(record)) for id_, record in page]
    return [(id_, [] if entry.anew else entry.items) for id_, entry in entries]


async def next_moment(redis: RedisClient, shards: Sequence[int]) -> int:
    """A millisecond that no shard's clock had reached when this was called, and every one has on
    return: what was written before stands before it, what is written from then on does not."""
    moments = [await _after(redis, shard) for shard in shards]
    return min(moments)


async def _after(redis: RedisClient, shard: int) -> int:
    async with redis.session(keys_of(shard).index) as session:
        first = now = await _time(session)
        while now == first:
            now = await _time(session)
    return now


async def _time(session: Session) -> int:
    (reply,) = await session.call([("TIME",)])
    seconds, micros = map(int, as_list(reply))
    return 1000 * seconds + micros // 1000


async def archived_since(redis: RedisClient, now_ms: int) -> int:
    """When the first run that archives the index began: what was closed before may not have been
    listed for the archive. Now, where this is it."""
    noted = [("HSETNX", ARCHIVE, _SINCE, now_ms), ("HGET", ARCHIVE, _SINCE)]
    _, since = await call_allowing_oom(redis, noted)
    return int(since)


async def note_whole_from(redis: RedisClient, from_ms: int) -> None:
    """The stream of every shard is whole from a moment on, and may not be before. It never goes
    back, also where who says so stood still: what lies between would be looked for in Redis."""
    await _RAISE.call(redis, [ARCHIVE, ARCHIVE + NEVER], [_WHOLE_FROM, from_ms])


async def whole_from(redis: RedisClient) -> int:
    """0: it always was."""
    (found,) = await redis.call([("HGET", ARCHIVE, _WHOLE_FROM)])
    return _moment(found)


def _moment(noted: RedisReply) -> int:
    return int(noted) if isinstance(noted, bytes) else 0


async def move_on(store: StoreBase, shard: int, before_ms: int) -> bool:
    """Takes some of the oldest entries off that are from before a moment, and lists anew what they
    name that is in Redis still. False: there was none."""
    keys = keys_of(shard)
    span = ("-", before_ms - 1, "COUNT", ENTRIES_A_PAGE)
    (reply,) = await store.redis.call([("XRANGE", keys.index, *span)])
    page = as_list(reply)
    if not page:
        return False
    items = [item for _, fields in page for item in entry_of(fields[1]).items]
    commands: list[Command] = []
    for start in range(0, len(items), MESSAGES_A_BATCH):
        batch = items[start : start + MESSAGES_A_BATCH]
        found = await read_messages(store, [item.message for item in batch])
        here = [item for item in batch if found[item.message].value is not None]
        if here:
            entry = pack(index_codec.encode(IndexEntry(here, anew=True)))
            commands.append(("XADD", keys.index, "*", BLOB_FIELD, entry))
    moment, number = entry_id(page[-1][0].decode())
    commands.append(("XTRIM", keys.index, "MINID", f"{moment}-{number + 1}"))
    await call_allowing_oom(store.redis, commands)
    return True
