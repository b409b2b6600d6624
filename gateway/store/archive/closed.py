"""Closed messages on their way to the archive, and out of Redis behind it.

Where there is an archive, each commit lists the closed messages whose records it wrote, a stream a
shard; so one that changes after it was closed is listed again. The archive follows the stream;
`keep` later its entries are taken off, and with them those messages whose records are still what
the archive has. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from importlib import resources
from typing import NamedTuple

import msgspec

from gateway.core.archive.manifest import EntryId
from gateway.core.archive.messages import nameless
from gateway.core.ids import shard_of_id
from gateway.core.records.codec import NewerRecordError
from gateway.core.records.entries import closed_codec
from gateway.core.records.message import Message
from gateway.redis.allow_oom import call_allowing_oom
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisUnavailable
from gateway.redis.replies import as_list
from gateway.redis.script import Script
from gateway.store.archive import archiving
from gateway.store.base import Stored, read_messages
from gateway.store.compression import unpack
from gateway.store.former_shards import shards_ever
from gateway.store.keys import keys_of, shard_in
from gateway.store.messages import reads
from gateway.store.money.checkpoints import NOTHING_BOOKED
from gateway.store.store import Store
from gateway.store.transaction import passing_s
from gateway.store.writes import closed_command

MESSAGES_A_BATCH = 200
UNLINK_SCRIPT = resources.files("gateway.store").joinpath("lua", "unlink.lua").read_text()
_UNLINK = Script(UNLINK_SCRIPT)
ASKED_S = 3_600.0  # for so long an answer of the archive holds: far longer than a batch takes

Listed = list[tuple[EntryId, list[str]]]
AskArchive = Callable[[], Awaitable[Mapping[str, bytes]]]  # records of messages, by their ids


async def listed(redis: RedisClient, shard: int, after: EntryId, until: EntryId) -> Listed:
    """Entries after one and up to another, the oldest first: each with its messages. One that
    cannot be read names none: its messages lapse as if there were no archive."""
    page = await archiving.entries(redis, shard, "closed", after, until)
    return [(id_, _ids(record)) for id_, record in page]


def _ids(record: bytes) -> list[str]:
    try:
        ids = closed_codec.decode(unpack(record)).ids
    except (NewerRecordError, msgspec.DecodeError):
        return []
    return [id_ for id_ in ids if shard_of_id(id_) is not None]


async def closed_messages(store: Store, ids: Iterable[str]) -> list[Message]:
    """Those of them that are there and closed now."""
    whole = list(dict.fromkeys(ids))
    found = []
    for start in range(0, len(whole), MESSAGES_A_BATCH):
        batch = whole[start : start + MESSAGES_A_BATCH]
        found += [m for m in await reads.readable_messages(store, batch) if m.closed]
    return found


async def listed_since(
    store: Store, through: Mapping[int, EntryId]
) -> AsyncGenerator[list[Message], None]:
    """What is listed behind these entries of each shard, and still there: what an archive that has
    come so far does not have as it is now. In pages; one that changed twice may come twice."""
    shards = await shards_ever(store.redis, store.shards)
    for shard, end in (await archiving.newest(store.redis, shards, "closed")).items():
        after = through.get(shard, NOTHING_BOOKED)
        while page := await listed(store.redis, shard, after, end):
            after = page[-1][0]
            ids = [id_ for _, named in page for id_ in named]
            yield await reads.readable_messages(store, list(dict.fromkeys(ids)))


async def list_again(redis: RedisClient, shard: int, ids: Sequence[str]) -> None:
    await call_allowing_oom(redis, [closed_command(keys_of(shard), list(ids))])


async def bring_back(store: Store, ask: AskArchive) -> Collection[str]:
    """Puts messages back into Redis, as the archive has them, where they are not there; they are
    listed, so that they leave it again. Gives the ids of all that the archive has. What was read
    too long ago is left: another may have brought it back, changed it and, `keep` later, taken it
    out, and what was settled then would be settled again. Raises RedisUnavailable then as well."""
    asked_s = passing_s()
    archived = await ask()
    stand = await read_messages(store, archived) if archived else {}
    for id_, stored in stand.items():
        if passing_s() - asked_s >= ASKED_S:
            raise RedisUnavailable("This process stood still too long since it asked the archive.")
        put = ("SET", stored.key, archived[id_], "NX", "PX", store.retention.message_ms)
        again = closed_command(keys_of(shard_in(stored.key)), [id_])
        await store.redis.call([("MULTI",), put, again, ("EXEC",)])
    return archived.keys()


class TakenOut(NamedTuple):
    """How many messages are gone from Redis, and which are not, because they changed since."""

    gone: int
    changed: list[str]


async def take_out(store: Store, archived: Mapping[str, bytes]) -> TakenOut:
    """Removes messages from Redis that the archive has as they are, by id with the record that it
    has."""
    gone, changed = 0, list[str]()
    whole = list(archived)
    for start in range(0, len(whole), MESSAGES_A_BATCH):
        batch = {id_: archived[id_] for id_ in whole[start : start + MESSAGES_A_BATCH]}
        by_shard: dict[int, dict[str, Stored]] = {}
        for id_, stored in (await read_messages(store, batch)).items():
            if stored.value is None:
                continue
            message = reads.readable(store, id_, stored.value)
            if message is not None and message.closed and nameless(message) == batch[id_]:
                by_shard.setdefault(shard_in(stored.key), {})[id_] = stored
            else:
                changed.append(id_)
        for same in by_shard.values():
            keys = [stored.key for stored in same.values()]
            values = [stored.value or b"" for stored in same.values()]
            removed = as_list(await _UNLINK.call(store.redis, keys, values))
            gone += sum(removed)
            changed += [id_ for id_, done in zip(same, removed, strict=True) if not done]
    return TakenOut(gone, changed)
