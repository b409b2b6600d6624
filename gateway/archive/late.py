"""Receipts that came for archived messages: those are brought back into Redis, changed by what the
receipts say, and archived anew by the next run.

So many at a time, however many wait, because what is brought back together is asked of the archive
and of Redis at once. Raises ArchiveFault, RedisUnavailable, and what `keep` raises.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from gateway.archive.archive import Archive
from gateway.archive.questions import by_day
from gateway.store.archive import archiving, closed
from gateway.store.messages import receipts
from gateway.store.store import Store

MESSAGES_A_BATCH = 2_000


async def settle(
    store: Store, archive: Archive, clock: Callable[[], int], keep: Callable[[], Awaitable[None]]
) -> int:
    """How many messages were brought back. `keep` is called between two batches."""
    began_ms, count = clock(), 0
    for shard in range(store.shards):
        waited = await receipts.waited_for(store, shard)
        ids = list(waited)
        for start in range(0, len(ids), MESSAGES_A_BATCH):
            batch = ids[start : start + MESSAGES_A_BATCH]
            kept = await closed.bring_back(store, partial(_latest, archive, batch))
            members = [member for id_ in kept for member in waited[id_]]
            if members:
                await receipts.try_again(store, shard, members, clock())
            count += len(kept)
            await keep()
    await archiving.note_looked(store.redis, began_ms)
    return count


async def _latest(archive: Archive, ids: Sequence[str]) -> dict[str, bytes]:
    kept = archive.questions().latest(by_day(ids))
    return {id_: each.record for id_, each in kept.items()}
