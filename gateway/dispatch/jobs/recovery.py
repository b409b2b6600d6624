"""Takes over what dead dispatchers held, and looks again at entries somebody else was sending.

A step that was being sent when its dispatcher died has lost its answer: the cascade asks the
provider and waits, and nothing is sent again blindly. One that was only read is claimed and sent in
the ordinary way. Each shard is looked at on its own; while it is unavailable, it is tried again.
"""

from __future__ import annotations

import random

import structlog

from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.worker import claim
from gateway.dispatch.worker.claim import Resolved
from gateway.dispatch.worker.worker import ProviderWorker
from gateway.telemetry import few

LOOK_S = 3.0  # between two looks at a shard, give or take a quarter: dispatchers share the work
BUFFER_MAX = 1_000  # with more than this to send already, the dead's is left to others

_log = structlog.get_logger("dispatch")


async def run(deps: DispatchDeps, worker: ProviderWorker, shard: int) -> None:
    """Looks after one provider's lanes of a shard until cancelled."""

    async def turn() -> float:
        found = await recover(deps, worker, shard)
        return 0.0 if found else LOOK_S * (0.75 + random.random() / 2)

    await deps.redis_retry("recovery").for_ever(turn)


async def recover(deps: DispatchDeps, worker: ProviderWorker, shard: int) -> bool:
    """One look; whether there was something, so that there may be more. Raises RedisUnavailable."""
    busy = worker.take_busy(shard)
    if busy:
        try:
            resolved = await claim.resolve(deps.store, worker.name, busy, deps.clock())
        except BaseException:
            worker.pass_on(busy, Resolved([], busy))
            raise
        worker.pass_on(busy, resolved)
    if deps.stopping.is_set() or sum(worker.reader.waiting()) >= BUFFER_MAX:
        return False
    taken = await worker.reader.take_over(shard)
    if not taken:
        return False
    # From here on they are ours: not to be dropped when Redis goes down now.
    resolved = await worker.shards.until_done(
        shard, lambda: claim.resolve(deps.store, worker.name, taken, deps.clock(), dead=True)
    )
    worker.pass_on(taken, resolved)
    _log.warning(
        "took over from a dead dispatcher",
        provider=worker.name,
        n=len(taken),
        messages=few(entry.message_id for entry in taken),
        queued=len(resolved.queued),
        lost_answers=resolved.lost,
    )
    deps.metrics.recovered.labels(worker.name, "queued").inc(len(resolved.queued))
    deps.metrics.recovered.labels(worker.name, "lost_answer").inc(resolved.lost)
    return True
