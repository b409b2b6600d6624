"""One thing in the streams that the archive is made from that cannot be read."""

from __future__ import annotations

import pytest

from gateway.archive.tables import INDEX, LEDGER, MESSAGES
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.money.totals import LedgerFault
from tests.worlds.archive_world import ArchiveWorld, rows_in, with_archive

JUNK = b"\xff\xfe junk"


@with_archive()
async def test_one_booking_that_cannot_be_read_stops_nothing_else(world: ArchiveWorld) -> None:
    """It is told each time, and no booking behind it is passed over."""
    before = await world.delivered(3)
    await world.redis.call([("XADD", keys_of(0).ledger, "*", "d", JUNK)])
    after = await world.delivered(3, "spring")
    for _ in range(2):
        with pytest.raises(LedgerFault, match="cannot be read"):
            await world.archived(keep_ms=0)
    assert {row["id"] for row in rows_in(world, MESSAGES)} == {*before, *after}
    assert len(rows_in(world, INDEX)) == 6
    assert rows_in(world, LEDGER) == []
    assert await reads.readable_messages(world.store, [*before, *after]) == []
    (page,) = await world.redis.call([("XRANGE", keys_of(0).ledger, "-", "+")])
    assert any(JUNK in fields for _, fields in page)


@with_archive(shards=2)
async def test_the_bookings_of_the_other_shards_go_on(world: ArchiveWorld) -> None:
    await world.redis.call([("XADD", keys_of(0).ledger, "*", "d", JUNK)])
    await world.delivered(8)
    with pytest.raises(LedgerFault):
        await world.archived()
    files = [file for file in world.archive.files() if file.table == LEDGER]
    assert {shard for file in files for shard in file.through} == {"1"}


@with_archive()
async def test_an_entry_of_the_closed_that_names_no_message_stops_nothing(
    world: ArchiveWorld,
) -> None:
    ids = await world.delivered(2)
    await world.redis.call([("XADD", keys_of(0).closed, "*", "d", b"\x03\x81\xa1i\x91\xa4junk")])
    assert (await world.archived(keep_ms=0)).rows["messages"] == len(ids)
