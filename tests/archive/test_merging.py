"""A day's small files become one: readers see either, and a run that dies leaves either."""

from __future__ import annotations

import datetime
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gateway.archive import archive as archives
from gateway.archive import parquet
from gateway.archive import run as runs
from gateway.archive.questions import by_day
from gateway.archive.tables import COLUMNS, INDEX, LEDGER, MESSAGES
from gateway.core.archive.manifest import ArchivedFile, ArchiveFault, entry_text, reached
from gateway.core.archive.merging import (
    KEPT_MS,
    Merging,
    in_place_of,
    lying,
    span_of,
    to_merge,
)
from gateway.core.money.days import DAY_MS
from gateway.store.archive import archiving
from gateway.store.shared_keys import ARCHIVER
from tests.archive import merged_day
from tests.archive.test_crashes import Died, assert_whole, dying_after, lines_of, rows_in_files
from tests.archive.test_faults import damage
from tests.worlds.archive_world import ArchiveWorld, rows_in, with_archive

AT_ONCE = Merging(files_max=1)
NEVER = Merging(files_max=1_000)


def file_of(
    number: int, rows: int, day: str = "2026-11-28", table: str = "ledger", octets: int = 100
) -> ArchivedFile:
    return ArchivedFile(
        file=f"{table}/day={day}/{number:032}.parquet",
        sha256=f"{number:064}",
        bytes=octets,
        rows=rows,
        first_id=f"{number}",
        last_id=f"{number}",
        after={"0": entry_text((number, 0))},
        through={"0": entry_text((number + 1, 0)), "1": entry_text((number, 5))},
    )


FILES = st.lists(
    st.tuples(
        st.integers(1, 60),
        st.sampled_from(("2026-11-27", "2026-11-28", "2026-11-29")),
        st.just("ledger"),
        st.integers(1, 900),
    ),
    max_size=40,
).map(lambda each: [file_of(number, *given) for number, given in enumerate(each)])


@given(
    files=FILES,
    files_max=st.integers(1, 6),
    rows_max=st.integers(10, 100),
    bytes_max=st.integers(100, 2_000),
)
def test_merging_comes_to_an_end_and_loses_no_row(
    files: list[ArchivedFile], files_max: int, rows_max: int, bytes_max: int
) -> None:
    rules, today = Merging(files_max, rows_max, bytes_max), "2026-11-29"
    rows, ends, number = sum(file.rows for file in files), reached(files, ["ledger"]), 1_000
    while groups := to_merge(files, today, rules):
        (group, *_), number = groups, number + 1
        count = sum(file.rows for file in group)
        assert len(group) > 1
        octets = sum(file.bytes for file in group)
        assert count <= rows_max
        assert octets <= bytes_max
        assert len({(file.table, file.day) for file in group}) == 1
        assert all(file.day < today for file in group)
        after, through = span_of(group)
        made = _made(number, count, group[0].day, octets, after, through)
        files = in_place_of(group, made, files, 7)
    assert sum(file.rows for file in files) == rows
    assert reached(files, ["ledger"]) == ends
    for day in ("2026-11-27", "2026-11-28"):
        small = [file for file in files if file.day == day and rules.is_small(file)]
        assert len(small) <= files_max


def _made(number: int, rows: int, day: str, octets: int, after: Any, through: Any) -> ArchivedFile:
    made = file_of(number, rows, day, octets=octets)
    return ArchivedFile(
        **{name: getattr(made, name) for name in ("file", "sha256", "bytes", "rows")},
        first_id="",
        last_id="",
        after=after,
        through=through,
    )


def test_what_was_replaced_lies_there_for_a_day() -> None:
    files = [file_of(number, 1) for number in range(4)]
    once = in_place_of(files[:2], file_of(10, 2), files, DAY_MS)
    twice = in_place_of([once[-1], files[2]], file_of(11, 3), once, DAY_MS + 5)
    names = {file.file for file in (*files, *once, *twice)}
    assert lying(twice, DAY_MS + 6) == names, "who reads by either manifest of before finds its own"
    assert lying(twice, DAY_MS + 5 + KEPT_MS) == {file.file for file in twice}


def test_filters_are_as_large_as_a_group_and_not_as_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are kept in memory until the end: those of a long file took gigabytes."""
    told, opened = [], pq.ParquetWriter

    def writer(*args: Any, **options: Any) -> Any:
        told.append(options["bloom_filter_options"]["id"]["ndv"])
        return opened(*args, **options)

    monkeypatch.setattr(pq, "ParquetWriter", writer)
    for count in (3_000_000, 7):
        parquet.write_batches(tmp_path / "a.parquet", COLUMNS[INDEX], [], count)
    assert told == [parquet.ROWS_A_GROUP, 7]


def test_a_merged_day_can_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert merged_day.main(["--rows", "240", "--files", "3"]) == 0
    assert "rows: 240 of 3 files" in capsys.readouterr().out


async def many_files(world: ArchiveWorld, runs: int = 4) -> list[str]:
    """A day of several runs, which is over now."""
    ids: list[str] = []
    for number in range(runs):
        ids += await world.delivered(3, f"c{number}")
        await world.tell(ids[:1], "seen")
        await world.archived(merging=NEVER)
    world.now_ms += DAY_MS
    return ids


@with_archive(shards=2)
async def test_a_days_files_become_one_with_every_row(world: ArchiveWorld) -> None:
    ids = await many_files(world)
    tables = {file.table for file in world.archive.files()}
    before = {table: rows_in(world, table) for table in tables}
    lines, ends = await lines_of(world), reached(world.archive.files(), tables)
    done = await world.archived(merging=AT_ONCE)
    assert (done.rows, done.merged) == ({}, 4 * len(tables))
    files = world.archive.files()
    assert sorted(file.table for file in files) == sorted(tables)
    for table in tables:
        rows = rows_in(world, table)
        assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
        assert sorted(map(repr, rows)) == sorted(map(repr, before[table]))
    assert reached(files, tables) == ends
    assert await lines_of(world) == lines
    await assert_whole(world, ids)
    assert not [reason for _, reason in world.archive.verify() if reason]
    assert (await world.archived(merging=AT_ONCE)).merged == 0


def of_its_days(world: ArchiveWorld) -> set[str]:
    """Its files but those of the index, whose days are those of the server's clock."""
    return {file.file for file in world.archive.files() if file.table != INDEX}


@with_archive()
async def test_a_day_that_is_not_over_and_one_of_few_files_are_left_alone(
    world: ArchiveWorld,
) -> None:
    await many_files(world)
    await world.delivered(2, "today")
    await world.archived(merging=NEVER)
    await world.delivered(2, "this day")
    before = of_its_days(world)
    await world.archived(merging=Merging(files_max=4))
    assert before < of_its_days(world)
    names = [file.file for file in world.archive.files() if file.day == "2100-01-02"]
    await world.archived(merging=AT_ONCE)
    assert [file.file for file in world.archive.files() if file.day == "2100-01-02"] == names


@with_archive(shards=2)
async def test_who_reads_by_the_manifest_of_before_finds_what_it_names(world: ArchiveWorld) -> None:
    ids = await many_files(world)
    lines = await lines_of(world)
    questions = world.archive.questions()
    await world.archived(merging=AT_ONCE)
    await world.archived(merging=AT_ONCE)
    assert questions.latest(by_day(ids)).keys() == set(ids)
    world.now_ms += KEPT_MS
    await world.archived(merging=AT_ONCE)
    assert await lines_of(world) == lines
    lying_there = {path.name for path in world.root.rglob("*.parquet")}
    assert lying_there == {file.file.rpartition("/")[2] for file in world.archive.files()}
    assert sorted(set(rows_in_files(world, MESSAGES))) == sorted(ids)
    assert len(rows_in_files(world, LEDGER)) == len(lines)


@with_archive(shards=2)
async def test_a_run_that_merges_may_die_at_any_step(world: ArchiveWorld) -> None:
    ids = await many_files(world, runs=2)
    deaths: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for steps in range(8):
            points: list[str] = []
            die = dying_after(steps)

            def failpoint(name: str, points: list[str] = points, die: Any = die) -> None:
                points.append(name)
                die(name)

            for module in (archives, runs):
                patch.setattr(module, "failpoint", failpoint)
            try:
                await world.archived(merging=AT_ONCE)
            except Died:
                deaths.append(points[-1])
                await world.redis.call([("DEL", ARCHIVER)])  # as the lease lapses
            await assert_whole(world, ids)
    assert set(deaths) == {"archive_merged", "archive_published", "archive_named"}
    world.now_ms += KEPT_MS
    await world.archived(merging=AT_ONCE)
    await assert_whole(world, ids)
    assert max(Counter(file.table for file in world.archive.files()).values()) == 1
    assert len(rows_in_files(world, LEDGER)) == 2 * len(ids)


@with_archive(shards=2)
async def test_two_that_merge_at_once_do_no_harm(world: ArchiveWorld) -> None:
    """As when both think that the lease is theirs; one of them archives a further day, too."""
    ids = await many_files(world, runs=2)
    ids += await world.delivered(2, "next")

    async def take(_: archiving.ArchiveLease) -> bool:
        return True

    ends: list[str] = []

    async def archive(twin: ArchiveWorld) -> None:
        twin.now_ms = world.now_ms
        try:
            await twin.archived(merging=AT_ONCE)
            ends.append("done")
        except (ArchiveFault, OSError) as fault:
            ends.append(str(fault))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archiving.ArchiveLease, "take", take)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(archive, ArchiveWorld(world.redis, world.root, world.shards))
    await assert_whole(world, ids)
    assert "done" in ends
    await world.archived(merging=AT_ONCE)
    await assert_whole(world, ids)
    days = Counter((file.table, file.day) for file in world.archive.files())
    assert max(days.values()) == 1


@with_archive()
async def test_a_damaged_file_is_put_into_no_other(world: ArchiveWorld) -> None:
    ids = await many_files(world)
    names = [file.file for file in world.archive.files()]
    damage(world.root / next(name for name in names if name.startswith(LEDGER)))
    twin = ArchiveWorld(world.redis, world.root, world.shards)
    twin.now_ms = world.now_ms
    with pytest.raises(ArchiveFault, match="not as it was written"):
        await twin.archived(merging=AT_ONCE)
    left = [file.file for file in world.archive.files() if file.table == LEDGER]
    assert left == [name for name in names if name.startswith(LEDGER)]
    assert len(ids) == 12
    assert datetime.date.fromisoformat(world.archive.files()[0].day).year == 2100


@with_archive()
async def test_what_does_not_add_up_takes_no_place(world: ArchiveWorld) -> None:
    await many_files(world)
    before = (world.root / "manifest.ndjson").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "summed", lambda _: {"EUR": {"amount": "0.0001"}})
        with pytest.raises(ArchiveFault, match="adds up to other sums"):
            await world.archived(merging=AT_ONCE)
    assert (world.root / "manifest.ndjson").read_bytes() == before
    assert pq.read_table(world.root / world.archive.files()[0].file).num_rows > 0
