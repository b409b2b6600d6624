"""A Redis whose memory is full: archiving is what makes room there, and it goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.archive.tables import MESSAGES
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisUnavailable
from gateway.redis.replies import as_list
from gateway.store.archive import archiving
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from tests.worlds.archive_world import ArchiveWorld, with_archive


@asynccontextmanager
async def full(redis: RedisClient) -> AsyncIterator[None]:
    (before,) = await redis.call([("CONFIG", "GET", "maxmemory")])
    await redis.call([("CONFIG", "SET", "maxmemory", 1)])
    try:
        with pytest.raises(RedisUnavailable, match="OOM"):
            await redis.call([("SET", "more", "than there is room for")])
        yield
    finally:
        await redis.call([("CONFIG", "SET", "maxmemory", as_list(before)[1])])


async def entries(world: ArchiveWorld) -> int:
    """Of the streams that a run makes shorter."""
    keys = map(keys_of, range(world.shards))
    streams = [name for k in keys for name in (k.ledger, k.closed, k.index)]
    return sum(
        [n for n in await world.redis.call([("XLEN", s) for s in streams]) if type(n) is int]
    )


@with_archive(shards=2)
async def test_what_was_booked_and_closed_leaves_a_full_redis(world: ArchiveWorld) -> None:
    gone = await world.delivered(10)
    under_way = await world.send(4, "winter")
    before = await entries(world)
    async with full(world.redis):
        first = await world.archived()
        second = await world.archived(keep_ms=0)
        assert await entries(world) < before
    assert (first.rows[MESSAGES], second.taken_out) == (10, 10)
    assert not any([await reads.message(world.store, id_) for id_ in gone])
    assert all([await reads.message(world.store, id_) for id_ in under_way])
    assert (await archiving.state(world.redis)).failed_ms == 0
    assert (await world.verify()).agrees


@with_archive()
async def test_a_message_that_changed_since_is_archived_anew_on_a_full_redis(
    world: ArchiveWorld,
) -> None:
    ids = await world.delivered(3)
    await world.archived()
    await world.tell(ids[:1], "seen")
    async with full(world.redis):
        assert (await world.archived(keep_ms=0)).taken_out >= 2
        await world.archived(keep_ms=0)
    assert not await reads.readable_messages(world.store, ids)


@with_archive()
async def test_messages_come_back_for_late_receipts_once_there_is_room(
    world: ArchiveWorld,
) -> None:
    """To bring one back needs room; what is archived and taken out before stays so."""
    (late,) = await world.delivered(1)
    await world.archived(keep_ms=0)
    await world.tell([late], "seen")
    more = await world.delivered(5, "winter")
    async with full(world.redis):
        with pytest.raises(RedisUnavailable, match="OOM"):
            await world.archived(keep_ms=0)
        assert "OOM" in (await archiving.state(world.redis)).reason
    assert not await reads.readable_messages(world.store, more)
    assert (await world.archived(keep_ms=0)).brought_back == 1
    assert (await archiving.state(world.redis)).reason == ""
