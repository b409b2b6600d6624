"""A run that dies, at every moment it can, and two that run at once: nothing is lost, nothing is
there twice, and whoever asks meanwhile sees all of it."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest
import trio

from gateway.archive import archive as archives
from gateway.archive import run as runs
from gateway.archive.booked import ArchivedLedger
from gateway.archive.questions import by_day
from gateway.archive.tables import INDEX, LEDGER, MESSAGES
from gateway.core.archive.manifest import ArchiveFault
from gateway.finance.lines.lines import LedgerLine, LinesQuery, pages_of_lines
from gateway.finance.question import Query
from gateway.redis.trio_driver import open_client
from gateway.store.archive import archiving
from gateway.store.messages import reads
from gateway.store.shared_keys import ARCHIVER
from tests.worlds.archive_world import EVER_MS, KEY, ArchiveWorld, with_archive

ROOT = Path(__file__).resolve().parents[2]
KILLED_AT = ("archive_published", "archive_named")  # the two sides of what counts
DAYS = Query(datetime.date(2100, 1, 1), datetime.date(2100, 1, 31))


class Died(BaseException):
    """As if the process had been killed: nothing is caught that catches exceptions."""


def dying_after(steps: int) -> Callable[[str], None]:
    left = steps

    def failpoint(_: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Died

    return failpoint


async def lines_of(world: ArchiveWorld) -> list[LedgerLine]:
    pages = pages_of_lines(
        *(world.redis, world.shards, LinesQuery(DAYS), "EUR"),
        archived=ArchivedLedger(world.archive),
    )
    return [line async for page in pages for _, line in page.lines]


async def messages_of(world: ArchiveWorld, ids: list[str]) -> dict[str, int]:
    """Each message's status, wherever it is."""
    found = {message.id: message for message in await reads.readable_messages(world.store, ids)}
    missing = [id_ for id_ in ids if id_ not in found]
    for id_, kept in world.archive.questions().latest(by_day(missing)).items():
        message = reads.readable(world.store, id_, kept.record)
        assert message is not None
        found[id_] = message
    return {id_: message.status for id_, message in found.items()}


async def assert_whole(world: ArchiveWorld, ids: list[str]) -> None:
    """All that was booked and closed is there once, wherever it is."""
    lines = await lines_of(world)
    assert max(Counter(line.id for line in lines).values(), default=0) <= 1
    assert Counter(line.message for line in lines if line.kind == "bill") == Counter(ids)
    assert (await world.verify()).agrees
    assert (await messages_of(world, ids)).keys() == set(ids)
    assert sorted(await world.search(7)) == sorted(ids)


def rows_in_files(world: ArchiveWorld, table: str) -> list[str]:
    """The ids of every row that lies there, named by the manifest or not."""
    paths = world.root.glob(f"{table}/*/*.parquet")
    return [id_ for path in paths for id_ in pq.read_table(path, columns=["id"])["id"].to_pylist()]


@with_archive(shards=2)
async def test_a_run_may_die_at_any_step(world: ArchiveWorld) -> None:
    with pytest.MonkeyPatch.context() as patch:
        ids = await world.delivered(9)
        deaths = 0
        for steps in range(20):
            for module in (archives, runs):
                patch.setattr(module, "failpoint", dying_after(steps))
            try:
                await world.archived(keep_ms=0, rows_a_step=8)
            except Died:
                deaths += 1
                await world.redis.call([("DEL", ARCHIVER)])  # as the lease lapses
            await assert_whole(world, ids)
            if steps in (6, 12):
                ids += await world.delivered(5, f"c{steps}")
    assert deaths > 8
    await world.archived(keep_ms=0)
    await assert_whole(world, ids)
    for table in (MESSAGES, INDEX):
        assert sorted(rows_in_files(world, table)) == sorted(ids)
    lying = Counter(rows_in_files(world, LEDGER))
    assert (len(lying), max(lying.values())) == (2 * len(ids), 1)
    assert not [reason for _, reason in world.archive.verify() if reason]


def archiver(redis_url: str, tmp_path: Path, *words: str) -> tuple[list[str], dict[str, str]]:
    """A command of `kaskad archive` with an archive below `tmp_path`, and its environment."""
    config = tmp_path / "kaskad.toml"
    text = (ROOT / "config/kaskad.toml").read_text()
    table = f'\n[archive]\nurl = "{tmp_path}/archive"\nkeep = "1ms"\n'
    text = text.replace("\n[archive]\n", table)
    text = text.replace('file = "prices.csv"', f'file = "{ROOT}/config/prices.csv"')
    config.write_text(text)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KASKAD_")}
    environment |= {"KASKAD_ARCHIVE_KEY": KEY.decode(), "KASKAD_REDIS_URL": redis_url}
    command = [sys.executable, "-m", "gateway.cli", "archive", *words, "--config", str(config)]
    return command, environment


def test_a_killed_archiver_is_followed_by_the_next(redis_url: str, tmp_path: Path) -> None:
    root = tmp_path / "archive"
    command, environment = archiver(redis_url, tmp_path, "run", "--once")

    def once(**more: str) -> subprocess.CompletedProcess[str]:
        given = environment | more
        return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True)

    async def main() -> None:
        async with open_client(redis_url) as redis:
            world = ArchiveWorld(redis, root, 1)
            ids: list[str] = []
            for point in KILLED_AT:
                ids += await world.delivered(3, point)
                died = await trio.to_thread.run_sync(partial(once, KASKAD_FAULT_POINT=point))
                assert died.returncode == -signal.SIGKILL, died.stderr
                await assert_whole(world, ids)
                await redis.call([("DEL", ARCHIVER)])  # as the lease lapses
            done = await trio.to_thread.run_sync(once)
            assert done.returncode == 0, done.stderr
            await assert_whole(world, ids)
            assert sorted(rows_in_files(world, MESSAGES)) == sorted(ids)
            assert (await archiving.state(redis)).reason == ""

    trio.run(main)


@with_archive(shards=2)
async def test_two_archivers_at_once_do_no_harm(world: ArchiveWorld) -> None:
    """As when both think that the lease is theirs."""
    ids = await world.delivered(12)

    async def take(_: archiving.ArchiveLease) -> bool:
        return True

    ends: list[str] = []

    async def archive(other: ArchiveWorld) -> None:
        try:
            await other.archived(keep_ms=0, rows_a_step=9)
            ends.append("done")
        except (ArchiveFault, OSError) as fault:
            ends.append(str(fault))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archiving.ArchiveLease, "take", take)
        for number in range(2):
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    twin = ArchiveWorld(world.redis, world.root, world.shards)
                    nursery.start_soon(archive, twin)
            ids += await world.delivered(4, f"c{number}")
            await assert_whole(world, ids)
    await world.archived(keep_ms=0)
    await assert_whole(world, ids)
    assert sorted(rows_in_files(world, MESSAGES)) == sorted(ids)
    assert "done" in ends


def test_a_run_may_stand_still_at_any_step_while_another_runs(
    redis_url: str, tmp_path: Path
) -> None:
    """Stopped until its lease is another's, who sends and archives more and is through."""
    ids: list[str] = []
    stops: list[str] = []

    async def overtake() -> None:
        async with open_client(redis_url) as redis:
            other = ArchiveWorld(redis, tmp_path / "archive", 2)
            await redis.call([("DEL", ARCHIVER)])  # as the lease lapses
            ids.extend(await other.delivered(2, f"meanwhile {len(stops)}"))
            await other.archived(keep_ms=0)

    def standing_still_after(steps: int) -> Callable[[str], None]:
        left = steps

        def failpoint(name: str) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                stops.append(name)
                with ThreadPoolExecutor(1) as another:
                    another.submit(trio.run, overtake).result()

        return failpoint

    async def main() -> None:
        async with open_client(redis_url) as redis:
            world = ArchiveWorld(redis, tmp_path / "archive", 2)
            for steps in range(0, 24, 2):
                ids.extend(await world.delivered(4, f"c{steps}"))
                for module in (archives, runs):
                    patch.setattr(module, "failpoint", standing_still_after(steps))
                await world.archived(keep_ms=0, rows_a_step=8)
                await assert_whole(world, ids)
                assert (await archiving.state(redis)).reason == ""

    with pytest.MonkeyPatch.context() as patch:
        trio.run(main)
    assert len(set(stops)) >= 5, stops
    assert len(list((tmp_path / "archive" / ".unfinished").iterdir())) <= 2


@pytest.mark.parametrize("seed", range(2))
def test_who_asks_while_the_border_moves_sees_everything(
    redis_url: str, tmp_path: Path, seed: int
) -> None:
    """Messages are sent, told of and archived at random, while somebody reads lines and messages,
    searches, and adds the ledger up."""
    random = Random(seed)

    async def main() -> None:
        async with open_client(redis_url) as redis:
            world = ArchiveWorld(redis, tmp_path / "archive", 3)
            ids: list[str] = []
            known: dict[str, int] = {}
            for turn in range(4):
                ids += await world.delivered(random.randint(1, 9), f"c{turn}")
                seen = random.sample(ids, min(len(ids), 3))
                here = [i for i in seen if await reads.message(world.store, i) is not None]
                await world.tell(here, "seen")
                known |= await messages_of(world, ids)
                before = await lines_of(world)
                whose = {"identities": (f"p:7916{random.randint(0, 8):07}",)}
                asked: list[dict[str, Any]] = [{}, whose, {"campaign": f"c{turn} 0"}]
                told = [await world.search(**each) for each in asked]
                assert sorted(told[0]) == sorted(ids)

                async def archive() -> None:
                    keep_ms = random.choice((0, EVER_MS))
                    await world.archived(keep_ms=keep_ms, rows_a_step=random.randint(5, 40))

                async def ask(
                    lines: list[LedgerLine],
                    ids: list[str],
                    statuses: dict[str, int],
                    asked: list[dict[str, Any]],
                    told: list[list[str]],
                ) -> None:
                    for _ in range(2):
                        for question, found in zip(asked, told, strict=True):
                            assert await world.search(random.randint(1, 5), **question) == found
                        assert await lines_of(world) == lines
                        assert await messages_of(world, ids) == statuses
                        assert (await world.verify(full=random.random() < 0.5)).agrees

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(archive)
                    nursery.start_soon(ask, before, list(ids), dict(known), asked, told)
            assert Counter(row for row in rows_in_files(world, LEDGER)) == Counter(
                line.id for line in await lines_of(world)
            )

    trio.run(main)
