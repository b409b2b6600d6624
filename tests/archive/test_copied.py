"""A copy with another number of shards goes on with its archive where the source stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from gateway.redis.trio_driver import open_client
from gateway.store.installation import installation
from gateway.store.messages import reads
from tests.store.copies.test_copying import target_url
from tests.store.copies.test_spreading import spread
from tests.worlds.archive_world import ArchiveWorld

__all__ = ["target_url"]  # a fixture


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 5)])
def test_what_was_closed_before_is_archived_after_and_leaves_redis(
    redis_url: str, target_url: str, tmp_path: Path, before: int, after: int
) -> None:
    installation.prepare(redis_url, before, "EUR")
    ids: list[str] = []

    async def source() -> None:
        async with open_client(redis_url) as redis:
            world = ArchiveWorld(redis, tmp_path / "archive", before)
            ids.extend(await world.delivered(12))
            await world.archived()
            ids.extend(await world.delivered(12, "winter"))

    async def copy() -> None:
        async with open_client(target_url) as redis:
            world = ArchiveWorld(redis, tmp_path / "archive", after)
            assert len(await reads.readable_messages(world.store, ids)) == len(ids)
            assert (await world.verify()).agrees
            await world.archived(keep_ms=0)
            assert await reads.readable_messages(world.store, ids) == []
            await world.tell(ids[:5], "seen")
            assert (await world.archived(keep_ms=0)).brought_back == 5
            await world.archived(keep_ms=0)
            assert await reads.readable_messages(world.store, ids) == []
            assert (await world.verify()).agrees

    trio.run(source)
    spread(redis_url, target_url, before, after)
    trio.run(copy)
