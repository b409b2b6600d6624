"""Proof of life: while it is fresh, nobody else may take over what this dispatcher holds.

The proof is a key that lapses; the moment until which it certainly stands is kept here. A
dispatcher that stood still (a stopped process, an unavailable Redis) finds its proof stale and must
not put bytes on the wire: another may have taken its messages over. Nor does what it asked before
say anything of a provider: the answers came while nobody heard them. A machine that slept stood
still as well, though trio's clock did. Whoever started the process is told apart from that that its
loop turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from gateway.dispatch.redis_retry import RedisRetry
from gateway.redis.client import RedisClient
from gateway.store.transaction import passing_s
from gateway.store.waiting import lanes
from gateway.supervisor import BEAT_S

# Of the lease: room for a clock that runs differently and for a write in flight.
MARGIN_PERCENT = 20


def slept_s() -> float:
    """How long this machine has slept, which a monotonic clock leaves out."""
    return passing_s() - time.clock_gettime(time.CLOCK_MONOTONIC)


class Heartbeat:
    def __init__(
        self,
        redis: RedisClient,
        consumer: str,
        *,
        lease_ms: int,
        every_ms: int,
        retry: RedisRetry,
        slept_s: Callable[[], float] = slept_s,
    ) -> None:
        self._redis = redis
        self._consumer = consumer
        self._lease_ms = lease_ms
        self._every_s = every_ms / 1000
        self._retry = retry
        self._stale_at = self._since = -1.0
        self._slept_s = slept_s
        self._slept = slept_s()  # at the last proof
        self._proven = trio.Event()

    @property
    def fresh(self) -> bool:
        """Whether the proof stands, with a margin, at this moment."""
        # Never less: this process may have stood still between the clocks' two readings.
        slept = max(self._slept_s() - self._slept, 0.0)
        return trio.current_time() + slept < self._stale_at

    @property
    def fresh_since(self) -> float:
        """From when on the proof has stood without a break; this moment, where it does not."""
        return self._since if self.fresh else trio.current_time()

    async def wait_fresh(self) -> None:
        while not self.fresh:
            await self._proven.wait()

    async def beat(self) -> None:
        """Proves life once. Raises RedisUnavailable."""
        began, slept = trio.current_time(), self._slept_s()
        await lanes.prove_alive(self._redis, self._consumer, self._lease_ms)
        if not self.fresh:
            self._since = trio.current_time()
        self._stale_at = began + self._lease_ms * (100 - MARGIN_PERCENT) / 100_000
        self._slept = slept
        # Every worker waits for the same event: only who sets it may replace it.
        self._proven.set()
        self._proven = trio.Event()

    async def run(self) -> None:
        async def turn() -> float:
            await self.beat()
            return self._every_s

        await self._retry.for_ever(turn)


async def keep_beating(beat: Callable[[], None]) -> None:
    """Says that the loop turns, to whoever started this process, until it is cancelled."""
    while True:
        beat()
        await trio.sleep(BEAT_S)
