"""Waiting that grows: how long to leave something alone that does not work, and Redis first of all.

Owns the delays and the one way of saying that Redis is away (a warning when it begins, a line when
it is over). It must not know what is tried again: only work that may be done twice is given to it.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
import trio

from gateway.redis.errors import StoreUnavailable
from gateway.store.transaction import ConflictError

T = TypeVar("T")

AWAY_DELAY_MIN_S = 0.05
AWAY_DELAY_MAX_S = 2.0
# A conflict that 50 tries did not settle is as good as a Redis that is away: later it will do.
AWAY = (StoreUnavailable, ConflictError)

_log = structlog.get_logger("dispatch")


class Backoff:
    """Delays in seconds that double from `least` to `most`, each shortened by up to a half so that
    many do not come back in step."""

    def __init__(self, least: float = AWAY_DELAY_MIN_S, most: float = AWAY_DELAY_MAX_S) -> None:
        self._least = least
        self._most = most
        self.failures = 0

    def next_s(self) -> float:
        full = min(self._least * 2.0 ** min(self.failures, 30), self._most)
        self.failures += 1
        return full * (1.0 - random.random() / 2.0)

    def reset(self) -> None:
        self.failures = 0


class Watchdog:
    """Counts and tells that a loop waits because Redis is away, and that it goes on again."""

    def __init__(self, loop: str, on_retry: Callable[[str], None]) -> None:
        self._loop = loop
        self._on_retry = on_retry
        self._backoff = Backoff()

    async def away(self, error: Exception) -> None:
        """Redis did not answer: waits."""
        if self._backoff.failures == 0:
            _log.warning("waiting for redis", loop=self._loop, reason=str(error))
        self._on_retry(self._loop)
        await trio.sleep(self._backoff.next_s())

    def back(self) -> None:
        """Redis answered."""
        if self._backoff.failures:
            _log.info("redis is back", loop=self._loop, tries=self._backoff.failures)
            self._backoff.reset()

    async def until_done(self, work: Callable[[], Awaitable[T]]) -> T:
        """Does work that may be done twice, until Redis has taken it."""
        while True:
            try:
                result = await work()
            except AWAY as error:
                await self.away(error)
            else:
                self.back()
                return result

    async def for_ever(self, turn: Callable[[], Awaitable[float]]) -> None:
        """Takes turns until cancelled; each returns the seconds to wait before the next."""
        while True:
            pause_s = await self.until_done(turn)
            await trio.sleep(pause_s)
