"""`kaskad archive run` as the role that it is: it archives when it starts, ends when it is told to,
in the middle of a run as well, and a disk that is full ends a run and nothing else."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.archive import parquet
from gateway.redis.trio_driver import open_client
from gateway.store.archive import archiving
from tests.archive.test_crashes import archiver, assert_whole
from tests.worlds.archive_world import ArchiveWorld, with_archive


async def until(condition: Callable[[], Awaitable[bool]], role: trio.Process) -> None:
    while not await condition():
        assert role.poll() is None, "it ended"
        await trio.sleep(0.05)


def test_it_archives_and_ends_when_it_is_told_to(redis_url: str, tmp_path: Path) -> None:
    command, environment = archiver(redis_url, tmp_path, "run")
    log = tmp_path / "log"

    async def main() -> None:
        async with open_client(redis_url) as redis, trio.open_nursery() as nursery:
            world = ArchiveWorld(redis, tmp_path / "archive", 1)
            ids = await world.delivered(4)

            async def archived() -> bool:
                return "archived" in log.read_text()

            async def run(condition: Callable[[], Awaitable[bool]]) -> None:
                with log.open("ab") as file:
                    start = partial(
                        trio.run_process, command, env=environment, stdout=file, stderr=file
                    )
                    role: trio.Process = await nursery.start(start)
                    await until(condition, role)
                    role.send_signal(signal.SIGTERM)
                    assert await role.wait() == 0

            await run(archived)
            await assert_whole(world, ids)

            ids += await world.delivered(2, "winter")
            other = archiving.ArchiveLease(redis)
            assert await other.take()

            async def in_the_middle() -> bool:
                await other.keep()
                return bool(children_of(command))

            await run(in_the_middle)
            assert not children_of(command), "the run ended with its role"
            await other.give_back()
            await assert_whole(world, ids)

    trio.run(main)
    said = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in said if line["level"] == "error"] == []
    assert [line["event"] for line in said if line["event"] == "archived"] == ["archived"]


def children_of(command: list[str]) -> list[str]:
    """The runs of that role's configuration under way."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if "--once" in words and command[-1] in words:
            found.append(path.parent.name)
    return found


@with_archive()
async def test_a_full_disk_ends_the_run_and_the_next_goes_on(world: ArchiveWorld) -> None:
    ids = await world.delivered(5)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "there")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "sync_file", full)
        with pytest.raises(OSError, match="No space left"):
            await world.archived(keep_ms=0)
    state = await archiving.state(world.redis)
    assert (state.failed_ms, state.done_ms) == (world.now_ms, 0)
    told = "No space left on device (there): make room there, and run it again."
    assert state.reason == told
    assert not list(world.root.rglob("*.parquet"))
    await assert_whole(world, ids)
    ids += await world.delivered(2, "winter")
    await world.archived(keep_ms=0)
    await assert_whole(world, ids)
    assert (await archiving.state(world.redis)).reason == ""
