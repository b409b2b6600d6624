"""An archive that is not as it must be: nothing is taken out of Redis behind it, and it is told
what is wrong."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from gateway.archive.archive import Archive
from gateway.archive.lines import lines_of_archive
from gateway.archive.place import Folder
from gateway.archive.sent import records_of
from gateway.archive.tables import LEDGER, MESSAGES
from gateway.core.archive.manifest import ArchiveFault
from gateway.core.money.days import UTC_DAYS
from gateway.finance.lines.lines import LinePlace, LinesQuery, LinesWanted
from gateway.finance.question import parse_query
from gateway.store.archive import archiving
from gateway.store.keys import keys_of
from gateway.store.shared_keys import ARCHIVE
from tests.worlds.archive_world import KEY, ArchiveWorld, with_archive


@with_archive()
async def test_a_file_that_was_changed_stops_the_trimming(world: ArchiveWorld) -> None:
    await world.delivered(5)
    await world.archived()
    await world.delivered(5, "winter")
    (before,) = await world.redis.call([("XLEN", keys_of(0).closed)])
    for file in world.archive.files():
        damage(world.root / file.file)
    world.archive = Archive(Folder(world.root), "there", KEY)
    with pytest.raises(ArchiveFault, match="not as it was written"):
        await world.archived(keep_ms=0)
    assert await world.redis.call([("XLEN", keys_of(0).closed)]) == [before]
    state = await archiving.state(world.redis)
    assert "not as it was written" in state.reason
    wrong = [file.file for file, reason in world.archive.verify() if reason]
    assert len(wrong) == 4


def damage(path: Path) -> None:
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 3] ^= 1
    path.chmod(0o644)
    path.write_bytes(octets)


@with_archive()
async def test_verify_of_the_report_names_a_file_that_is_wrong(world: ArchiveWorld) -> None:
    await world.delivered(5)
    await world.archived()
    (file,) = [f for f in world.archive.files() if f.table == "ledger"]
    damage(world.root / file.file)
    with pytest.raises(ArchiveFault, match=file.file):
        await ArchiveWorld(world.redis, world.root, 1).verify()


@with_archive()
async def test_no_line_is_read_from_a_file_that_is_wrong(world: ArchiveWorld) -> None:
    """One bit of an amount may be another, and nothing of the format shows it."""
    await world.delivered(5)
    await world.archived()
    query = LinesQuery(parse_query([], UTC_DAYS.of(world.now_ms)))
    start, end = LinePlace(0, 0, 0, 0), (2**62, 0)
    wanted = LinesWanted(0, start, end, query, begins_ms=0, over_ms=2**42, zone="UTC")
    (file,) = [f for f in world.archive.files() if f.table == LEDGER]
    read = ArchiveWorld(world.redis, world.root, 1)
    assert len(lines_of_archive(read.archive, wanted).lines) == 10
    damage(world.root / file.file)
    for reader in (read, ArchiveWorld(world.redis, world.root, 1)):
        with pytest.raises(ArchiveFault, match="not as it was written"):
            lines_of_archive(reader.archive, wanted)


@with_archive()
async def test_nothing_is_settled_from_a_file_that_is_wrong(world: ArchiveWorld) -> None:
    ids = await world.delivered(5)
    await world.archived(keep_ms=0)
    (file,) = [f for f in world.archive.files() if f.table == MESSAGES]
    damage(world.root / file.file)
    with pytest.raises(ArchiveFault, match="not as it was written"):
        records_of(ArchiveWorld(world.redis, world.root, 1).archive, ids)


@with_archive()
async def test_of_a_file_that_is_wrong_it_is_told_of_which_hours_it_is(world: ArchiveWorld) -> None:
    await world.delivered(3)
    await world.archived()
    await world.delivered(3, "winter")
    await world.archived()
    before, money = [file for file in world.archive.files() if file.table == LEDGER]
    ((booked_ms, _),) = (await archiving.newest(world.redis, [0], "ledger")).values()
    assert (before.span_ms[0], before.when[:5]) == (0, "up to")
    assert money.span_ms == (before.span_ms[1], booked_ms)
    start, end = (datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC) for ms in money.span_ms)
    assert money.when == f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    (world.root / money.file).unlink()
    with pytest.raises(ArchiveFault, match=money.when):
        await world.verify()
    ((wrong, reason),) = [each for each in world.archive.verify() if each[1]]
    assert wrong == money
    assert money.when in reason


@with_archive()
async def test_another_key_is_refused_and_so_is_another_installation(world: ArchiveWorld) -> None:
    await world.delivered(1)
    await world.archived()
    manifest = (world.root / "manifest.ndjson").read_bytes()
    world.archive = Archive(Folder(world.root), "there", b"another key of these hashes")
    with pytest.raises(ArchiveFault, match="begun with another hash key"):
        await world.archived()
    world.archive = Archive(Folder(world.root), "there", KEY)
    await world.redis.call([("DEL", ARCHIVE)])
    with pytest.raises(ArchiveFault, match="of another installation"):
        await world.archived()
    assert (world.root / "manifest.ndjson").read_bytes() == manifest


@with_archive()
async def test_an_archive_that_is_gone_is_not_begun_anew(world: ArchiveWorld) -> None:
    await world.delivered(1)
    await world.archived()
    world.archive = Archive(Folder(world.root / "elsewhere"), "elsewhere", KEY)
    with pytest.raises(ArchiveFault, match="there was one: put it back"):
        await world.archived()


@with_archive()
async def test_who_reads_an_archive_that_lacks_something_gets_nothing_of_it(
    world: ArchiveWorld,
) -> None:
    """A sum without what is in no file and in Redis no more would look like any other."""
    await world.delivered(1)
    await world.archived()
    manifest = world.root / "manifest.ndjson"
    older = manifest.read_bytes()
    await world.delivered(1, "winter")
    await world.archived()
    world.archive.begun = await archiving.begun(world.redis)
    assert (await world.verify()).agrees
    manifest.write_bytes(older)
    with pytest.raises(ArchiveFault, match="names less than was archived"):
        await world.verify()
    (world.root / "archive.json").unlink()
    manifest.unlink()
    with pytest.raises(ArchiveFault, match="there was one: put it back"):
        await world.verify()


@with_archive()
async def test_who_reads_gets_nothing_of_another_installations_archive(
    world: ArchiveWorld,
) -> None:
    """Its lines stood in our ledger."""
    await world.delivered(1)
    await world.archived()
    begun = await archiving.begun(world.redis)
    world.archive.begun = archiving.ArchiveBegun("of somebody else", begun.rows)
    with pytest.raises(ArchiveFault, match="of another installation"):
        await world.verify()


@with_archive()
async def test_an_older_manifest_is_not_gone_on_with(world: ArchiveWorld) -> None:
    """There would be a hole in the books between it and Redis."""
    await world.delivered(2)
    await world.archived()
    manifest = world.root / "manifest.ndjson"
    older = manifest.read_bytes()
    await world.delivered(2, "winter")
    await world.archived()
    newest = manifest.read_bytes()
    await world.delivered(2, "spring")
    manifest.write_bytes(older)
    with pytest.raises(ArchiveFault, match="names less than was archived"):
        await world.archived()
    manifest.write_bytes(newest)
    await world.archived()
    assert (await world.verify()).agrees


@with_archive()
async def test_a_manifest_from_the_middle_of_a_run_loses_no_messages(world: ArchiveWorld) -> None:
    """A copy that was made while a run was under way has all that was booked, and less of the rest:
    what it does not name was swept away as nobody's."""
    manifest = world.root / "manifest.ndjson"
    await world.delivered(2)
    await world.archived(keep_ms=0)
    newest = manifest.read_bytes()
    files = set(world.root.rglob("*.parquet"))
    lines = newest.splitlines(keepends=True)
    manifest.write_bytes(b"".join(line for line in lines if b"messages/" not in line))
    with pytest.raises(ArchiveFault, match="names less than was archived"):
        await world.archived(keep_ms=0)
    assert set(world.root.rglob("*.parquet")) == files
    manifest.write_bytes(newest)
    await world.archived(keep_ms=0)
    assert len(await world.search(campaign="autumn 0")) == 1
