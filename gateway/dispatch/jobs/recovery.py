"""Takes over what dead dispatchers held, and looks again at entries somebody else was sending.

A step that was being sent when its dispatcher died has lost its answer: the cascade asks the
provider and waits, and nothing is sent again blindly. One that was only read is claimed and sent in
the ordinary way. Owns when to look; the judgement is `claims.resolve`. Redis away: tried again.
"""

from __future__ import annotations

import random

import structlog

from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.worker import claim as claims
from gateway.dispatch.worker.claim import Entry, Resolved
from gateway.dispatch.worker.worker import Lane

LOOK_S = 3.0  # between two looks at a lane, give or take a quarter: dispatchers share the work
BUFFER_MAX = 1_000  # with more than this to send already, the dead's is left to others

_log = structlog.get_logger("dispatch")


async def run(deps: DispatchDeps, lane: Lane) -> None:
    """Looks after one provider's lanes until cancelled."""
    watchdog = deps.watchdog("recovery")

    async def turn() -> float:
        found = await recover(deps, lane)
        return 0.0 if found else LOOK_S * (0.75 + random.random() / 2)

    await watchdog.for_ever(turn)


async def recover(deps: DispatchDeps, lane: Lane) -> bool:
    """One look; whether there was something, so that there may be more. Raises StoreUnavailable."""
    if lane.busy:
        busy, lane.busy = lane.busy, []
        try:
            resolved = await claims.resolve(deps.store, lane.name, busy, deps.clock())
        except BaseException:
            lane.busy += busy
            raise
        _settle(lane, busy, resolved)
    if sum(lane.intake.waiting()) >= BUFFER_MAX:
        return False
    taken = await lane.intake.take_over()
    if not taken:
        return False
    # From here on they are ours: not to be dropped when Redis goes away now.
    resolved = await deps.watchdog("recovery").until_done(
        lambda: claims.resolve(deps.store, lane.name, taken, deps.clock(), dead=True)
    )
    _settle(lane, taken, resolved)
    _log.warning(
        "took over from a dead dispatcher",
        provider=lane.name,
        n=len(taken),
        queued=len(resolved.queued),
        lost_answers=resolved.lost,
    )
    deps.metrics.recovered.labels(lane.name, "queued").inc(len(resolved.queued))
    deps.metrics.recovered.labels(lane.name, "lost_answer").inc(resolved.lost)
    return True


def _settle(lane: Lane, entries: list[Entry], resolved: Resolved) -> None:
    kept = {entry.at.entry for entry in (*resolved.queued, *resolved.busy)}
    lane.intake.forget(entry for entry in entries if entry.at.entry not in kept)
    lane.intake.give(resolved.queued)
    lane.busy += resolved.busy
