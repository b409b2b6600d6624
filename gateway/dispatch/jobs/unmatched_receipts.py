"""Receipts that matched nothing when they came are tried again: they may have outrun the answer.

Matching, delays and giving up are in `gateway.store.receipts`. While a shard is unavailable, it is
tried again.
"""

from __future__ import annotations

import structlog

from gateway.dispatch.deps import DispatchDeps
from gateway.store import receipts

LOOK_S = 0.5

_log = structlog.get_logger("dispatch")


async def run(deps: DispatchDeps, shard: int) -> None:
    """Looks after one shard's unmatched receipts until cancelled."""

    async def turn() -> float:
        taken = await receipts.sweep_parked(deps.store, shard, deps.clock())
        for ended in ("applied", "parked", "dropped"):
            deps.metrics.parked.labels(ended).inc(getattr(taken, ended))
        if taken.dropped:
            _log.warning("receipts nobody knows were dropped", n=taken.dropped)
        total = taken.applied + taken.parked + taken.dropped
        return 0.0 if total >= receipts.SWEEP_COUNT else LOOK_S

    await deps.redis_retry("unmatched receipts").for_ever(turn)
