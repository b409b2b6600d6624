"""Which shards one provider's worker may use: those for which nothing is held up.

Work that Redis did not take is repeated until it does, and its shard is closed meanwhile: nothing
more of it is read or claimed, so all that an outage holds up is what was under way when it began.
The other shards go on. When a call that concerned several shards failed, nobody says whose fault it
was: each of them is suspect, and closed until a check of its own has gone through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from gateway.dispatch.redis_retry import RETRYABLE, RedisRetry

T = TypeVar("T")


class Shards:
    """`open` are the shards that may be used, in order."""

    def __init__(self, count: int, make_retry: Callable[[], RedisRetry]) -> None:
        self.open: tuple[int, ...] = tuple(range(count))
        self._retries = [make_retry() for _ in range(count)]
        self._held_up = [0] * count  # pieces of work
        self._opened = [trio.Event() for _ in range(count)]
        self._suspects: set[int] = set()
        self._unchecked: list[tuple[int, Exception | None]] = []
        self._suspected = trio.Event()
        self._on_change: Callable[[], None] = lambda: None

    async def until_done(
        self, shard: int, work: Callable[[], Awaitable[T]], *, failed: Exception | None = None
    ) -> T:
        """Does work that may be done twice, until the shard has taken it. `failed`: how it went
        before, so that the first try waits as well."""
        if failed is None:
            try:
                return await work()
            except RETRYABLE as error:
                failed = error
        with self._closed(shard):
            await self._retries[shard].failed(failed)
            return await self._retries[shard].until_done(work)

    def suspect(self, shards: Iterable[int], error: Exception | None = None) -> None:
        """Closes shards until they have been checked. `error`: what is held against them."""
        for shard in shards:
            if shard not in self._suspects:
                self._suspects.add(shard)
                self._change(shard, +1)
                self._unchecked.append((shard, error))
                self._suspected.set()

    async def wait_open(self, shard: int) -> None:
        while shard not in self.open:
            await self._opened[shard].wait()

    async def run(
        self, check: Callable[[int], Awaitable[None]], on_change: Callable[[], None]
    ) -> None:
        """Checks suspects until cancelled; `on_change` is called when a shard closed or opened."""
        self._on_change = on_change
        async with trio.open_nursery() as nursery:
            while True:
                while self._unchecked:
                    nursery.start_soon(self._clear, check, *self._unchecked.pop())
                await self._suspected.wait()
                self._suspected = trio.Event()

    async def _clear(
        self, check: Callable[[int], Awaitable[None]], shard: int, error: Exception | None
    ) -> None:
        retry = self._retries[shard]
        if error is not None:
            await retry.failed(error)
        await retry.until_done(lambda: check(shard))
        self._suspects.remove(shard)
        self._change(shard, -1)

    @contextmanager
    def _closed(self, shard: int) -> Iterator[None]:
        self._change(shard, +1)
        try:
            yield
        finally:
            self._change(shard, -1)

    def _change(self, shard: int, held_up: int) -> None:
        was_open = not self._held_up[shard]
        self._held_up[shard] += held_up
        is_open = not self._held_up[shard]
        if is_open == was_open:
            return
        self.open = tuple(n for n, work in enumerate(self._held_up) if not work)
        if is_open:
            self._opened[shard].set()
            self._opened[shard] = trio.Event()
        self._on_change()
