"""Tells an idle worker that its lanes have something new, without claiming it.

Each shard has two loops that block on Redis, one for otp and one for the other lanes: an otp is
noticed whatever goes on, the others only while the worker waits for work. Waiting begins beyond the
newest ids that were known before the worker was told to read, so nothing falls in between. While a
shard is closed its loops wait; an idle worker looks by itself every IDLE_S all the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from gateway.dispatch.deps import CATEGORIES, DispatchDeps
from gateway.dispatch.worker.shards import Shards
from gateway.redis.errors import CommandRefused
from gateway.store.keys import keys_of
from gateway.store.waiting import lanes
from providers.contract import Category

IDLE_S = 1.0  # an idle worker reads this often even if nothing wakes it


class WakeUps:
    def __init__(self, deps: DispatchDeps, provider: str, shards: Shards) -> None:
        self._deps = deps
        self._provider = provider
        self._shards = shards
        self._work = trio.Event()
        self._idle = trio.Event()
        self._otp = trio.Event()
        self._otp_wanted = trio.Event()
        self._new_lines = trio.Event()

    async def run(self) -> None:
        """Listens at every shard until cancelled."""
        while True:
            self._new_lines = trio.Event()
            async with trio.open_nursery() as nursery:
                for shard in range(self._deps.store.shards):
                    nursery.start_soon(self._listen_for_work, shard)
                    nursery.start_soon(self._listen_for_otp, shard)
                await self._new_lines.wait()
                nursery.cancel_scope.cancel()

    def listen_anew(self) -> None:
        """There are more lines: each listener begins again with all of them, and wakes."""
        self._new_lines.set()

    def wake(self) -> None:
        """Ends `wait_for_work`: there is work that no lane tells of."""
        self._work.set()

    def wake_all(self) -> None:
        """Ends both waits: there may be more to read."""
        self._work.set()
        self._otp.set()

    async def wait_for_work(self) -> None:
        """Waits until reading is worthwhile, IDLE_S at most."""
        self._idle.set()
        with trio.move_on_after(IDLE_S):
            await self._work.wait()
        self._work = trio.Event()
        self._idle = trio.Event()

    async def wait_for_otp(self) -> None:
        """Waits until an otp has come since the last call; the next is listened for from now."""
        self._otp_wanted.set()
        self._otp_wanted = trio.Event()
        await self._otp.wait()
        self._otp = trio.Event()

    async def _listen_for_work(self, shard: int) -> None:
        async def wanted() -> None:
            await self._idle.wait()

        await self._listen(shard, CATEGORIES[1:], self.wake, wanted)

    async def _listen_for_otp(self, shard: int) -> None:
        def wake() -> None:
            self._otp.set()

        async def wanted() -> None:
            await self._otp_wanted.wait()

        await self._listen(shard, CATEGORIES[:1], wake, wanted)

    async def _listen(
        self,
        shard: int,
        categories: Sequence[Category],
        wake: Callable[[], None],
        wanted: Callable[[], Awaitable[None]],
    ) -> None:
        """Wakes when a lane has something new, and listens again once that is `wanted`."""
        names = [
            keys_of(shard).lane(name, category, line)
            for name in self._deps.store.policy.names_of(self._provider)
            for category in categories
            for line in range(self._deps.store.lines.count)
        ]
        ids: list[bytes] = []

        async def turn() -> bool:
            """Whether there was something new, or may have been."""
            try:
                if ids and not await lanes.wait_for_work(
                    self._deps.wake_up_link, list(zip(names, ids, strict=True))
                ):
                    return False
                ids[:] = await lanes.newest(self._deps.wake_up_link, names)
            except CommandRefused as error:
                if not lanes.is_group_missing(error):
                    raise
                self._shards.suspect([shard], error)
                return False
            return True

        retry = self._deps.redis_retry("wake-up")
        while True:
            await self._shards.wait_open(shard)
            if await retry.until_done(turn):
                wake()
                await wanted()
