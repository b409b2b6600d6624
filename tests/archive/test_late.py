"""Many receipts that came for archived messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.archive import late
from gateway.store.messages import reads, receipts
from tests.worlds.archive_world import ArchiveWorld, with_archive


@with_archive(shards=2)
async def test_so_many_are_brought_back_at_a_time_and_the_lease_is_kept(
    world: ArchiveWorld,
) -> None:
    ids = await world.delivered(9)
    await world.archived(keep_ms=0)
    await world.tell(ids, "seen")
    tried, kept = list[int](), list[bool]()
    try_again = receipts.try_again

    async def counted(store: Any, shard: int, members: Sequence[bytes], now_ms: int) -> None:
        tried.append(len(members))
        await try_again(store, shard, members, now_ms)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(late, "MESSAGES_A_BATCH", 2)
        patched.setattr(receipts, "try_again", counted)
        run = world.run()
        keep = run._lease.keep

        async def noted() -> None:
            kept.append(True)
            await keep()

        patched.setattr(run._lease, "keep", noted)
        done = await run.once()
    assert (done.brought_back, sum(tried), max(tried)) == (9, 9, 2)
    assert len(kept) >= len(tried)
    found = await reads.readable_messages(world.store, ids)
    assert [message.steps[0].seen_ms is not None for message in found] == [True] * 9
