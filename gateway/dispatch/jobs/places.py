"""Keeps this dispatcher's share of the sessions that a provider's account may have.

A place is a lease in Redis, and for each one that is held the provider's task runs. Everybody takes
one at once, and each further one later than that, so that places spread over the dispatchers that
are there; who comes when all are taken says so, and one of those who have several gives one up.
While Redis is unavailable the sessions stay: nobody else can take a place either.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.redis_retry import RETRYABLE
from gateway.store.providers import places

TURN_S = places.LEASE_MS / 1000 / 4
FURTHER_S = 2 * TURN_S  # so much later for each place that is held already
FAREWELL_S = 1.0

_log = structlog.get_logger("dispatch")


async def keep(
    deps: DispatchDeps,
    provider: str,
    count: int,
    work: Callable[[], Awaitable[None]],
    held: Callable[[int], None] | None,
) -> None:
    """Runs `work` for each place of `count` that is held, until cancelled. Then the works end as
    they do when they are cancelled, and their places are given up."""
    async with trio.open_nursery() as nursery:
        keeper = _Keeper(deps, provider, count, work, held, nursery)
        await deps.redis_retry(f"places {provider}").for_ever(keeper.turn)


class _Keeper:
    def __init__(
        self,
        deps: DispatchDeps,
        provider: str,
        count: int,
        work: Callable[[], Awaitable[None]],
        told: Callable[[int], None] | None,
        nursery: trio.Nursery,
    ) -> None:
        self._deps = deps
        self._provider = provider
        self._count = count
        self._work = work
        self._told = told
        self._nursery = nursery
        self._held: dict[int, trio.CancelScope] = {}
        self._changed_at = trio.current_time()

    async def turn(self) -> float:
        """Keeps what is held, and takes or gives up one. Raises RedisUnavailable."""
        redis, name = self._deps.redis, self._provider
        for number, scope in list(self._held.items()):
            if not await self._take(number):
                _log.warning("another dispatcher has our place", provider=name, place=number)
                scope.cancel()
        if len(self._held) > 1 and await places.is_wanted(redis, name):
            self._held[max(self._held)].cancel()
        elif len(self._held) < self._count and self._may_take():
            free = [number for number in range(self._count) if number not in self._held]
            for number in free:
                if await self._take(number):
                    self._begin(number)
                    break
            else:
                if not self._held:
                    await places.want(redis, name)
        return TURN_S

    async def _take(self, number: int) -> bool:
        return await places.take(self._deps.redis, self._provider, number, self._deps.consumer)

    def _may_take(self) -> bool:
        return trio.current_time() >= self._changed_at + FURTHER_S * len(self._held)

    def _begin(self, number: int) -> None:
        self._changed_at = trio.current_time()
        self._held[number] = trio.CancelScope()
        self._tell()
        self._nursery.start_soon(self._keep, number, self._held[number])

    async def _keep(self, number: int, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await self._work()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL_S):
                await self._give_up(number)
            del self._held[number]
            self._changed_at = trio.current_time()  # so that who wanted it comes first
            self._tell()

    async def _give_up(self, number: int) -> None:
        try:
            await places.give_up(self._deps.redis, self._provider, number, self._deps.consumer)
        except RETRYABLE as error:
            _log.warning("a place lapses", provider=self._provider, reason=str(error))

    def _tell(self) -> None:
        if self._told is not None:
            self._told(len(self._held))
