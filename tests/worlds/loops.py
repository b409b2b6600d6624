"""The two loops the Redis client runs on, as far as a test needs them beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
import uvloop

from gateway.redis import asyncio_driver, trio_driver
from gateway.redis.client import LIMITS_DEFAULT, Limits, RedisClient
from tests.worlds.patience import PATIENCE_S

Work = Callable[[], Awaitable[Any]]


class Loop:
    """A loop, and the Redis client for it."""

    name: str

    def run(self, main: Work) -> Any:
        raise NotImplementedError

    def open_client(
        self, url: str, limits: Limits = LIMITS_DEFAULT
    ) -> AbstractAsyncContextManager[RedisClient]:
        raise NotImplementedError

    async def together(self, *works: Work) -> list[Any]:
        """Runs all; what each returned or raised, in order."""
        raise NotImplementedError

    async def cancelled_when(self, work: Work, ready: Work) -> None:
        """Starts `work`, awaits `ready`, cancels `work` and waits for its end."""
        raise NotImplementedError

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        raise NotImplementedError

    async def turn(self) -> None:
        """Lets every other task run once."""
        raise NotImplementedError


async def _caught(work: Work) -> Any:
    try:
        return await work()
    except Exception as fault:
        return fault


class AsyncioLoop(Loop):
    name = "asyncio"

    def run(self, main: Work) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(PATIENCE_S):
                return await main()

        return uvloop.run(bounded())

    def open_client(
        self, url: str, limits: Limits = LIMITS_DEFAULT
    ) -> AbstractAsyncContextManager[RedisClient]:
        return asyncio_driver.open_client(url, limits)

    async def together(self, *works: Work) -> list[Any]:
        return list(await asyncio.gather(*(_caught(work) for work in works)))

    async def cancelled_when(self, work: Work, ready: Work) -> None:
        task: asyncio.Future[Any] = asyncio.ensure_future(work())
        await ready()
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(work)

    async def turn(self) -> None:
        await asyncio.sleep(0)


class TrioLoop(Loop):
    name = "trio"

    def run(self, main: Work) -> Any:
        async def bounded() -> Any:
            with trio.fail_after(PATIENCE_S):
                return await main()

        return trio.run(bounded)

    def open_client(
        self, url: str, limits: Limits = LIMITS_DEFAULT
    ) -> AbstractAsyncContextManager[RedisClient]:
        return trio_driver.open_client(url, limits)

    async def together(self, *works: Work) -> list[Any]:
        results: list[Any] = [None] * len(works)

        async def one(index: int) -> None:
            results[index] = await _caught(works[index])

        async with trio.open_nursery() as nursery:
            for index in range(len(works)):
                nursery.start_soon(one, index)
        return results

    async def cancelled_when(self, work: Work, ready: Work) -> None:
        scope = trio.CancelScope()

        async def scoped() -> None:
            with scope:
                await work()
            assert scope.cancelled_caught

        async with trio.open_nursery() as nursery:
            nursery.start_soon(scoped)
            await ready()
            scope.cancel()

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        return await trio.to_thread.run_sync(work)

    async def turn(self) -> None:
        await trio.lowlevel.checkpoint()
