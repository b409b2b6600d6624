"""Runs the task that brings a provider's receipts, and puts them where callbacks put theirs.

Redis unavailable: the provider's task waits, and tells its provider nothing meanwhile. A receipt
that cannot be applied is logged and counted, and fails no other. A task that fails is logged and
started again after a growing pause; sends go on.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
import trio

from gateway.backoff import Backoff
from gateway.dispatch.deps import DispatchDeps
from gateway.store.base import BATCH_MAX
from gateway.store.pauses import REJECTIONS
from gateway.store.receipts import take_receipts
from gateway.store.rejections import RejectionWatch
from providers.contract import Provider, Receipt

RESTART_S_MIN = 0.5
RESTART_S_MAX = 60.0

_log = structlog.get_logger("dispatch")


async def run(deps: DispatchDeps, provider: Provider) -> None:
    """Until cancelled, or at once where receipts come another way."""
    name = provider.config.name
    retry = deps.redis_retry("receipts")
    backoff = Backoff(RESTART_S_MIN, RESTART_S_MAX)

    def count(provider: str) -> None:
        deps.metrics.pauses.labels(provider, REJECTIONS).inc()

    watch = RejectionWatch(deps.redis, deps.clock, count)

    async def take(receipts: Sequence[Receipt]) -> bool:
        """False when one of several cannot be applied; a single one is then given up."""
        try:
            taken = await retry.until_done(
                lambda: take_receipts(deps.store, name, receipts, deps.clock())
            )
        except Exception:
            if len(receipts) == 1:
                _log.exception("a receipt cannot be applied", provider=name, ref=receipts[0].ref)
                deps.metrics.receipts.labels(name, "fault").inc()
            return len(receipts) == 1
        await watch.saw(name, receipts)
        deps.metrics.receipts.labels(name, "applied").inc(taken.applied)
        deps.metrics.receipts.labels(name, "parked").inc(taken.kept)
        deps.metrics.receipts.labels(name, "fault").inc(taken.set_aside)
        return True

    async def receive(receipts: Sequence[Receipt]) -> None:
        for start in range(0, len(receipts), BATCH_MAX):
            together = receipts[start : start + BATCH_MAX]
            if not await take(together):
                for receipt in together:  # what was applied before is not applied twice
                    await take([receipt])
        backoff.reset()

    while True:
        try:
            await provider.run(receive)
        except Exception:
            _log.exception("what brings receipts failed", provider=name)
            await trio.sleep(backoff.next_s())
        else:
            return
