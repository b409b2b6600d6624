"""What the parts of a dispatcher are given: the store, the providers, the clock, the terms.

It is the one list of what dispatch needs from outside, so that tests can put a scripted provider or
a clock of their own in place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec
import trio

from gateway.dispatch.heartbeat import Heartbeat
from gateway.dispatch.metrics import DispatchMetrics
from gateway.dispatch.redis_retry import RedisRetry
from gateway.redis.client import RedisClient
from gateway.settings.changes import Configuration
from gateway.settings.tables import Lanes
from gateway.store.store import Store
from providers.contract import Category, Provider

# Most urgent first; the order of a worker's buffers and of `fair_share.divide`.
CATEGORIES: tuple[Category, Category, Category] = ("otp", "transactional", "marketing")


class DispatchDeps(msgspec.Struct, frozen=True, kw_only=True):
    """`wake_up_link` is for waits that block, with two sessions a provider and shard; `clock` gives
    epoch milliseconds; `consumer` is this dispatcher's name, never used before; `publish` puts the
    metrics where /metrics finds them, or is None; `changes` brings the configuration each time that
    it was changed, or is None; `webhook_hosts` may be reached by webhooks whatever they are;
    `schedules` are the names of reports that are made by the clock."""

    store: Store
    wake_up_link: RedisClient
    providers: Mapping[str, Provider]
    clock: Callable[[], int]
    consumer: str
    metrics: DispatchMetrics
    terms: Lanes
    stopping: trio.Event
    publish: Callable[[], Awaitable[None]] | None = None
    changes: trio.MemoryReceiveChannel[Configuration] | None = None
    webhook_hosts: frozenset[str] = frozenset()
    schedules: frozenset[str] = frozenset()

    @property
    def redis(self) -> RedisClient:
        return self.store.redis

    async def until(self, at: float) -> None:
        """Waits for a moment (trio's seconds), or the stop."""
        if at > trio.current_time():
            with trio.move_on_at(at):
                await self.stopping.wait()

    def redis_retry(self, loop: str) -> RedisRetry:
        return RedisRetry(loop, self.metrics.retry)

    def heartbeat(self) -> Heartbeat:
        return Heartbeat(
            self.redis,
            self.consumer,
            lease_ms=int(self.terms.lease_ms),
            every_ms=int(self.terms.heartbeat_ms),
            retry=self.redis_retry("heartbeat"),
        )
