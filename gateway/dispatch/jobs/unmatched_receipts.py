"""Receipts that matched nothing when they came are tried again: they may have outrun the answer.

Matching, delays and giving up are in `gateway.store.messages.receipts`. While a shard is
unavailable, it is tried again.
"""

from __future__ import annotations

import structlog

from gateway.dispatch.deps import DispatchDeps
from gateway.store.messages import receipts
from gateway.telemetry import few

LOOK_S = 0.5

_log = structlog.get_logger("dispatch")


async def run(deps: DispatchDeps, shard: int) -> None:
    """Looks after one shard's unmatched receipts until cancelled."""

    async def turn() -> float:
        taken = await receipts.sweep_unmatched(deps.store, shard, deps.clock())
        for outcome, count in (
            ("applied", taken.applied),
            ("parked", taken.kept),
            ("dropped", len(taken.dropped)),
            ("set_aside", taken.set_aside),
        ):
            deps.metrics.parked.labels(outcome).inc(count)
        if taken.dropped:
            refs = few(receipt.ref or receipt.provider_id or "" for receipt in taken.dropped)
            _log.warning("receipts nobody knows were dropped", n=len(taken.dropped), refs=refs)
        total = taken.applied + taken.kept + len(taken.dropped) + taken.set_aside
        return 0.0 if total >= receipts.SWEEP_COUNT else LOOK_S

    await deps.redis_retry("unmatched receipts").for_ever(turn)
