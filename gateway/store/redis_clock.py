"""The time by Redis' clock, which is that of all processes of an installation.

The clock of a machine may be wrong, and steps when it is set right: what is released, counted or
sent by time goes by Redis' instead. A process keeps time by a clock that nobody sets, and looks
again and again how far Redis' is ahead of it. While Redis is unavailable the time goes on; before
the first look it is the machine's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from gateway.redis.client import RedisClient, Session
from gateway.redis.errors import RedisError
from gateway.redis.replies import as_list
from gateway.redis.script import Script
from gateway.store.shared_keys import META
from gateway.store.transaction import passing_s

LOOK_S: Final = 5.0  # steady clocks of two machines drift apart by less than 1 ms until then

# Of the key's master: in a cluster a command without a key goes to any, each with a clock.
_TIME: Final = Script("return redis.call('TIME')")


class RedisClock:
    def __init__(self) -> None:
        self._ahead_s = time.time() - passing_s()

    def now_ms(self) -> int:
        """Epoch milliseconds, UTC."""
        return int((passing_s() + self._ahead_s) * 1000)

    async def look(self, redis: RedisClient | Session) -> None:
        """Asks Redis once. It said so at some moment between question and answer: what fits that is
        kept, so that a slow answer moves nothing. Raises RedisUnavailable."""
        asked_s = passing_s()
        told_s = told_in(await _TIME.call(redis, [META], []))
        self._ahead_s = min(max(self._ahead_s, told_s - passing_s()), told_s - asked_s)

    async def try_to_look(self, redis: RedisClient | Session) -> None:
        """The same; while Redis is unavailable the time goes on as it did."""
        with suppress(RedisError):
            await self.look(redis)

    async def keep_looking(
        self, redis: RedisClient | Session, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        """Asks every LOOK_S until it is cancelled; `sleep` is that of the loop it runs on."""
        while True:
            await sleep(LOOK_S)
            await self.try_to_look(redis)


def told_in(reply: object) -> float:
    """The seconds in Redis' answer to TIME."""
    seconds, micros = as_list(reply)
    return int(seconds) + int(micros) / 1e6


async def asked(redis: RedisClient | Session) -> RedisClock:
    """A clock that has looked once. Raises RedisUnavailable."""
    clock = RedisClock()
    await clock.look(redis)
    return clock


async def now_ms(redis: RedisClient | Session) -> int:
    """The time by Redis' clock, asked for once. Raises RedisUnavailable."""
    return (await asked(redis)).now_ms()
