"""A run of the archiver: the archive and what is left in Redis are all there was, and one run
follows the other."""

from __future__ import annotations

import pytest

from gateway.archive.tables import BOOKED, LEDGER, MESSAGES
from gateway.core.addresses import Addresses
from gateway.core.archive.manifest import reached
from gateway.store.archive import archiving
from gateway.store.keys import keys_of, shard_of
from gateway.store.shared_keys import ARCHIVER
from tests.worlds.archive_world import ArchiveWorld, with_archive
from tests.worlds.cascade_world import request


@with_archive(shards=3)
async def test_the_ledger_is_the_archive_and_what_is_left_in_redis(world: ArchiveWorld) -> None:
    await world.delivered(50)
    before = await world.verify()
    await world.archived()
    after = await world.verify()
    assert before.agrees
    assert after.agrees
    assert after.entries == before.entries
    await world.delivered(20, "winter")
    assert (await world.verify()).agrees
    await world.archived()
    assert (await world.verify()).agrees
    assert (await world.verify(full=False)).agrees
    for shard in range(3):
        (left,) = await world.redis.call([("XLEN", keys_of(shard).ledger)])
        assert left == 1, "the last entry says where the ledger is"


@with_archive()
async def test_a_run_waits_for_the_one_under_way(world: ArchiveWorld) -> None:
    await world.delivered(1)
    other = archiving.ArchiveLease(world.redis)
    assert await other.take()
    waits = 0

    async def meanwhile() -> None:
        nonlocal waits
        waits += 1
        if waits == 3:
            await other.give_back()

    world.pause = meanwhile
    assert (await world.archived()).rows["ledger"] == 2
    assert waits == 3
    assert await world.redis.call([("GET", ARCHIVER)]) == [None]


@with_archive()
async def test_a_run_that_took_too_long_goes_on_behind_the_other(world: ArchiveWorld) -> None:
    await world.delivered(4)
    waited = []

    async def meanwhile() -> None:
        waited.append(1)
        await world.redis.call([("DEL", ARCHIVER)])

    world.pause = meanwhile
    keep = archiving.ArchiveLease.keep

    async def late(lease: archiving.ArchiveLease) -> None:
        if not waited:  # it lapsed, and another run has it, which ends later
            await world.redis.call([("SET", ARCHIVER, "another", "PX", 60_000)])
        await keep(lease)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archiving.ArchiveLease, "keep", late)
        done = await world.archived()
    assert (waited, done.rows[LEDGER], done.rows[MESSAGES]) == ([1], 8, 4)
    assert (await archiving.state(world.redis)).failed_ms == 0
    assert (await world.verify()).agrees


@with_archive(shards=4)
async def test_the_first_booking_of_a_shard_waits_for_the_archive_as_any_other(
    world: ArchiveWorld,
) -> None:
    """So no month is closed while it does."""
    assert await archiving.waiting_since(world.redis, range(4)) == 0
    (id_,) = await world.delivered(1)
    assert await archiving.waiting_since(world.redis, range(4)) > 0
    await world.archived()
    assert await archiving.waiting_since(world.redis, range(4)) == 0
    shard = (world.store.shard_of_message(id_) + 1) % 4
    home = next(f"7917{n:07}" for n in range(99) if shard_of(f"p:7917{n:07}", 4) == shard)
    sent = request(
        id=world.store.new_id_in(shard, world.now_ms),
        addresses=Addresses(home),
        campaign="another",
    )
    await world.store.admit([sent], world.now_ms)
    assert await archiving.waiting_since(world.redis, range(4)) > 0
    await world.archived()
    assert await archiving.waiting_since(world.redis, range(4)) == 0


@with_archive(shards=2)
async def test_many_small_steps_are_one_archive(world: ArchiveWorld) -> None:
    for number in range(4):
        await world.delivered(6, f"c{number}")
    done = await world.archived(keep_ms=0, rows_a_step=7)
    assert done.rows["ledger"] == 48
    assert done.taken_out == 24
    assert (await world.verify()).agrees
    files = world.archive.files()
    assert len({file.file for file in files}) == len(files)
    assert reached(files, BOOKED).keys() == {0, 1}
