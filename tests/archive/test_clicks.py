"""Clicks in the archive: listed by the commit that counts them, archived once, and trimmed behind
verified files."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from gateway.archive import archive as archives
from gateway.archive import run as runs
from gateway.archive.tables import CLICKS, COLUMNS
from gateway.core.archive.manifest import ArchiveFault, reached
from gateway.core.archive.merging import Merging
from gateway.core.links.link_codes import LinkPlace
from gateway.core.money.days import DAY_MS
from gateway.core.reactions.clickers import Visitor
from gateway.core.records.links import OwnLink
from gateway.store.reactions import clicks
from gateway.store.reactions.clicks import Click
from gateway.store.reactions.links import Link
from gateway.store.shared_keys import ARCHIVER
from tests.archive.test_crashes import Died, dying_after
from tests.worlds.archive_world import ArchiveWorld, with_archive
from tests.worlds.cascade_world import T0

POSTER = "https://shop.example/autumn"
NEVER, AT_ONCE = Merging(files_max=1_000), Merging(files_max=1)


def poster(code: str) -> Link:
    return Link(code, "shop", POSTER, "autumn", own=OwnLink("shop", POSTER, T0, "autumn"))


async def click(world: ArchiveWorld, link: Link, who: str = "person", **more: Any) -> None:
    each = Click(link, world.now_ms, Visitor(None), "phone", **more)
    shard = clicks.shard_of_click(world.store, each)
    token = f"{shard}-{world.now_ms}-{who}-{link.code}-{more}"
    await clicks.count(world.store, [(each, who)], token, world.now_ms)


def rows_in(world: ArchiveWorld) -> list[dict[str, Any]]:
    names = [file.file for file in world.archive.files() if file.table == CLICKS]
    return [row for name in names for row in pq.read_table(world.root / name).to_pylist()]


async def clicks_there(world: ArchiveWorld) -> Counter[str]:
    """How many clicks of each link there are, in files that are named or behind them in Redis."""
    found: Counter[str] = Counter()
    for row in rows_in(world):
        found[row["link"]] += row["clicks"]
    through = reached(world.archive.files(), [CLICKS])
    for shard in range(world.shards):
        start = through.get(shard, (0, 0))
        for _, items in await clicks.listed(world.redis, shard, start, (10**15, 0)):
            for each in items:
                found[each.link] += each.clicks
    return found


@with_archive()
async def test_a_row_says_what_was_clicked_when_and_by_whom(world: ArchiveWorld) -> None:
    (id_,) = await world.delivered(1)
    of_message = Link("AbCdEfGh", "shop", POSTER, "autumn 0", id_, 1, "sms", LinkPlace(0, 1, 0, 0))
    await click(world, of_message)
    await click(world, poster("autumn"), times=7)
    world.now_ms += DAY_MS
    await click(world, poster("autumn"), "previewer")
    done = await world.archived()
    assert done.rows[CLICKS] == 3
    first, own, bot = sorted(rows_in(world), key=lambda row: str(row["id"]))
    assert list(first) == [column.name for column in COLUMNS[CLICKS]]
    assert int(first.pop("booked_at").timestamp() * 1000) == T0
    assert {name: first[name] for name in ("link", "message", "step", "channel", "visitor")} == {
        "link": "AbCdEfGh",
        "message": id_,
        "step": 1,
        "channel": "sms",
        "visitor": "person",
    }
    assert (own["clicks"], own["message"], own["step"], own["channel"]) == (7, None, None, None)
    assert (own["app"], own["campaign"], own["device"]) == ("shop", "autumn", "phone")
    assert (bot["visitor"], bot["clicks"]) == ("previewer", 1)
    days = [file.day for file in world.archive.files() if file.table == CLICKS]
    assert sorted(days) == ["2100-01-01", "2100-01-02"]
    assert not [reason for _, reason in world.archive.verify() if reason]


@with_archive(shards=2)
async def test_what_is_archived_leaves_redis_and_is_archived_once(world: ArchiveWorld) -> None:
    for n in range(30):
        await click(world, poster(f"link{n}"))
    await world.archived(rows_a_step=7)
    await world.archived()
    assert len({row["id"] for row in rows_in(world)}) == len(rows_in(world)) == 30
    left = await world.redis.call([("XLEN", f"{{k{shard}}}clicked") for shard in range(2)])
    assert left == [1, 1], "the last entry says where the stream is"
    await click(world, poster("late"))
    assert (await world.archived()).rows == {CLICKS: 1}
    assert sum((await clicks_there(world)).values()) == 31


@with_archive(shards=2)
async def test_a_days_files_become_one_without_a_loss(world: ArchiveWorld) -> None:
    for n in range(4):
        await click(world, poster(f"link{n}"), times=n + 1)
        await world.archived(merging=NEVER)
    assert len([file for file in world.archive.files() if file.table == CLICKS]) == 4
    world.now_ms += DAY_MS
    await world.archived(merging=AT_ONCE)
    assert len([file for file in world.archive.files() if file.table == CLICKS]) == 1
    assert sum((await clicks_there(world)).values()) == 1 + 2 + 3 + 4
    await click(world, poster("late"))
    assert (await world.archived()).rows == {CLICKS: 1}


@with_archive()
async def test_behind_a_damaged_file_nothing_is_trimmed(world: ArchiveWorld) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "failpoint", dying_after(0))
        patch.setattr(archives, "failpoint", dying_after(2))  # behind it the file is named
        for n in range(5):
            await click(world, poster(f"link{n}"))
        with pytest.raises(Died):
            await world.archived()
    await world.redis.call([("DEL", ARCHIVER)])
    (file,) = [file for file in world.archive.files() if file.table == CLICKS]
    path = world.root / file.file
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    # As the next process sees it.
    world.archive = archives.Archive(world.archive.place, world.archive.url, world.archive.key)
    with pytest.raises(ArchiveFault, match="not as it was written"):
        await world.archived()
    assert await world.redis.call([("XLEN", "{k0}clicked")]) == [5]


@with_archive(shards=2)
async def test_a_run_may_die_at_any_step_of_it(world: ArchiveWorld) -> None:
    expected: Counter[str] = Counter()
    deaths = 0
    with pytest.MonkeyPatch.context() as patch:
        for steps in range(12):
            for n in range(3):
                await click(world, poster(f"link{steps}-{n}"), times=n + 1)
                expected[f"link{steps}-{n}"] += n + 1
            failpoint = dying_after(steps % 6)
            for module in (archives, runs):
                patch.setattr(module, "failpoint", failpoint)
            try:
                await world.archived()
            except Died:
                deaths += 1
                await world.redis.call([("DEL", ARCHIVER)])  # as the lease lapses
            assert await clicks_there(world) == expected
    assert deaths > 6
    await world.archived()
    assert await clicks_there(world) == expected
    assert len({row["id"] for row in rows_in(world)}) == len(rows_in(world)) == 36
    assert not [reason for _, reason in world.archive.verify() if reason]


@with_archive()
async def test_without_an_archive_nothing_is_listed(world: ArchiveWorld) -> None:
    world.store.retention = replace(world.store.retention, archives=False)
    await click(world, poster("autumn"))
    assert await world.redis.call([("EXISTS", "{k0}clicked")]) == [0]
    assert (await clicks.counts_of(world.store, poster("autumn"))).clicks == 1


@with_archive()
async def test_an_entry_that_cannot_be_read_is_passed_over(world: ArchiveWorld) -> None:
    await world.redis.call([("XADD", "{k0}clicked", "*", "d", b"\xff")])
    await click(world, poster("autumn"))
    assert (await world.archived()).rows == {CLICKS: 1}
