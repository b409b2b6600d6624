"""A loop's way through an outage of Redis: it waits, longer each time, and says so once.

The log gets a warning when the outage begins and a line when it is over. What is repeated here must
be safe to do twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
import trio

from gateway.backoff import Backoff
from gateway.redis.errors import RedisUnavailable
from gateway.store.transaction import ConflictError

T = TypeVar("T")

DELAY_MIN_S = 0.05
DELAY_MAX_S = 2.0
# A conflict that 50 tries did not end is as good as a Redis that is unavailable: later it will do.
RETRYABLE = (RedisUnavailable, ConflictError)

_log = structlog.get_logger("dispatch")


class RedisRetry:
    """One loop's retries. `on_retry` is given the loop's name each time, for the metrics."""

    def __init__(self, loop: str, on_retry: Callable[[str], None]) -> None:
        self._loop = loop
        self._on_retry = on_retry
        self._backoff = Backoff(DELAY_MIN_S, DELAY_MAX_S)

    async def failed(self, error: Exception) -> None:
        """Redis did not answer: waits."""
        if self._backoff.failures == 0:
            _log.warning("waiting for redis", loop=self._loop, reason=str(error))
        self._on_retry(self._loop)
        await trio.sleep(self._backoff.next_s())

    def succeeded(self) -> None:
        """Redis answered."""
        if self._backoff.failures:
            _log.info("redis is back", loop=self._loop, tries=self._backoff.failures)
            self._backoff.reset()

    async def until_done(self, work: Callable[[], Awaitable[T]]) -> T:
        """Does the work until Redis has taken it."""
        while True:
            try:
                result = await work()
            except RETRYABLE as error:
                await self.failed(error)
            else:
                self.succeeded()
                return result

    async def for_ever(self, turn: Callable[[], Awaitable[float]]) -> None:
        """Takes turns until cancelled; each returns the seconds to wait before the next."""
        while True:
            pause_s = await self.until_done(turn)
            await trio.sleep(pause_s)
