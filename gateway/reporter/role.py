"""The process that makes scheduled reports: it looks every LOOK_S whether one is due.

On SIGTERM or SIGINT it ends at once: what it was about is made by whoever has the lease next. An
unavailable Redis is waited for.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import trio

from gateway.dispatch.heartbeat import keep_beating
from gateway.dispatch.redis_retry import RedisRetry
from gateway.dispatch.webhooks.posting import opens
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisError
from gateway.redis.trio_driver import open_client
from gateway.reporter.rendering import NumberSources
from gateway.reporter.reporter import Made, Reporter, Waiting
from gateway.settings import bootstrap
from gateway.settings.file import Settings
from gateway.store import redis_clock
from gateway.store.redis_clock import RedisClock

LOOK_S = 20.0  # a third of the lease
FAREWELL_S = 1.0

T = TypeVar("T")


def run(settings: Settings, ready: Callable[[], None], beat: Callable[[], None]) -> None:
    """Makes reports until it is told to stop, with the Redis that `settings` name."""

    async def main(redis: RedisClient) -> None:
        clock = RedisClock()
        await clock.try_to_look(redis)
        reporter = reporter_of(settings, redis, clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.keep_looking, redis, trio.sleep)
            await nursery.start(_hear_signals, nursery.cancel_scope)
            nursery.start_soon(keep_beating, beat)
            ready()
            try:
                await keep_making(reporter)
            finally:
                farewell = trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL_S)
                with farewell, suppress(RedisError):
                    await reporter.leave()

    trio.run(_with_redis, settings, main)


def once(settings: Settings) -> tuple[list[Made] | None, list[Waiting]]:
    """Makes what is due now (None: another process does), and tells what failed before and is
    tried again later. Raises RedisUnavailable."""

    async def main(redis: RedisClient) -> tuple[list[Made] | None, list[Waiting]]:
        clock = await redis_clock.asked(redis)
        reporter = reporter_of(settings, redis, clock)
        waiting = await reporter.waiting()
        made = await reporter.turn()
        await reporter.leave()
        return made, waiting

    return trio.run(_with_redis, settings, main)


async def keep_making(reporter: Reporter) -> None:
    """Until it is cancelled."""

    async def turn() -> float:
        await reporter.turn()
        return LOOK_S

    await RedisRetry("reports", lambda _loop: None).for_ever(turn)


def reporter_of(settings: Settings, redis: RedisClient, clock: RedisClock) -> Reporter:
    """What a configuration asks for."""
    books = NumberSources(
        redis,
        settings.redis.shards,
        settings.prices.currency,
        settings.prices.baseline,
        bootstrap.days_of(settings),
        trio.to_thread.run_sync,
    )
    schedules = bootstrap.schedules_of(settings)
    return Reporter(books, schedules, clock.now_ms, opens(settings.webhooks.allow_hosts))


async def _with_redis(settings: Settings, work: Callable[[RedisClient], Awaitable[T]]) -> T:
    async with open_client(settings.redis.url) as redis:
        return await work(redis)


async def _hear_signals(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _number in signals:
            scope.cancel()
