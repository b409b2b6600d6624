"""Looks at how the archive is: how long the oldest booking waits for it, what it has, and whether
its last run failed.

A part of measuring, in every dispatcher; without an archive nothing is asked.
"""

from __future__ import annotations

import trio

from gateway.dispatch.deps import DispatchDeps
from gateway.store.archive import archiving
from gateway.store.former_shards import shards_ever

LOOK_S = 15.0  # a run is an hour after the other


class ArchiveWatch:
    def __init__(self, deps: DispatchDeps) -> None:
        self._deps = deps
        self._look_at = trio.current_time()

    async def look(self) -> None:
        """Raises RedisUnavailable."""
        store, metrics = self._deps.store, self._deps.metrics
        if not store.retention.archives or trio.current_time() < self._look_at:
            return
        self._look_at = trio.current_time() + LOOK_S
        state = await archiving.state(store.redis)
        shards = await shards_ever(store.redis, store.shards)
        since_ms = await archiving.waiting_since(store.redis, shards)
        lag_ms = max(self._deps.clock() - since_ms, 0) if since_ms else 0
        metrics.archive_lag.set(lag_ms / 1000)
        metrics.archive_files.set(state.files)
        metrics.archive_rows.set(state.rows)
        metrics.archive_failing.set(state.failed_ms > 0)
