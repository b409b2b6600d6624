"""A client of the Redis in memory whose weather is bad: slow, cut, late, and away for a while.

Implements `gateway.redis.client.RedisClient` under trio. What a cut connection had sent may be
done, not be done, or be done later; a caller that is cancelled never knows either. All chance is
the weather's.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from gateway.redis.client import Command, RedisReply, Session, Statistics
from gateway.redis.errors import OutcomeUnknown, RedisUnavailable, judge
from tests.simulation.memory_redis import Connection, MemoryRedis, octets

DOWN_WAIT_S = 1.0
LATE_MAX_S = 20.0  # bytes of a cut connection arrive by then, or never
SLOW_MAX_S = 0.6

Hook = Callable[[], Awaitable[None]]


class Weather:
    """What the network and the server do; `later(delay_s, work)` does work at a virtual time. Each
    way takes `least_s` where it is not slow."""

    def __init__(
        self,
        server: MemoryRedis,
        chance: random.Random,
        later: Callable[[float, Callable[[], None]], None],
        least_s: float = 0.0,
    ) -> None:
        self.server = server
        self.least_s = least_s
        self.chance = chance
        self.later = later
        self.cut_share = 0.0  # of all calls
        self.unheard_share = 0.0  # of transactions
        self.slow_share = 0.0
        self.fair = False  # no call becomes slow: the clock is about to be moved on
        self.down = False
        self.tag_down = ""  # of a cluster, the shard that is away
        self.news = trio.Event()
        server.added = self._ring
        self.calls = 0
        self.under_way = 0  # calls that are slow just now

    def _ring(self) -> None:
        self.news.set()
        self.news = trio.Event()

    def latency_s(self) -> float:
        if not self.fair and self.chance.random() < self.slow_share:
            return self.chance.uniform(0.01, SLOW_MAX_S)
        return self.least_s

    async def slow(self, slow_s: float) -> None:
        """A call takes so long each way. No clock may be moved on meanwhile: whoever made it would
        have stood still."""
        self.under_way += 1
        try:
            await trio.sleep(slow_s)
        finally:
            self.under_way -= 1

    def fate(self, commands: Sequence[Command]) -> str:
        if self.chance.random() < self.cut_share:
            return self.chance.choice(("lost", "late", "unheard", "refused"))
        if self.unheard_share and octets(commands[-1][0]) == b"EXEC":
            return "unheard" if self.chance.random() < self.unheard_share else "ok"
        return "ok"


class MemoryClient:
    """`hook` is awaited at both ends of every call: where a process may stand still or die."""

    def __init__(self, weather: Weather, hook: Hook | None = None) -> None:
        self._weather = weather
        self._hook = hook

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        return await MemorySession(self._weather, self._hook).call(commands)

    @asynccontextmanager
    async def session(self, _key: str, /) -> AsyncIterator[Session]:
        yield MemorySession(self._weather, self._hook)

    async def wait_for_move(self, tries: int) -> None:
        raise AssertionError("One Redis moves no slots.")

    def statistics(self) -> Statistics:
        raise NotImplementedError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class MemorySession:
    def __init__(self, weather: Weather, hook: Hook | None) -> None:
        self._weather = weather
        self._hook = hook
        self._connection = Connection()
        self._broken = False

    async def _reach(self, commands: Sequence[Command]) -> None:
        """Raises RedisUnavailable while there is no Redis to write to."""
        if self._broken:
            raise RedisUnavailable("Redis is away.")
        tag = self._weather.tag_down.encode()
        of_it = tag and any(tag in octets(word) for command in commands for word in command)
        if self._weather.down or of_it:
            await trio.sleep(DOWN_WAIT_S * self._weather.chance.random())
            raise RedisUnavailable("Redis is away.")

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        weather = self._weather
        weather.calls += 1
        if self._hook is not None:
            await self._hook()
        await self._reach(commands)
        fate = weather.fate(commands)
        if fate == "refused":
            self._broken = True
            raise RedisUnavailable("The connection is refused.")
        try:
            if (slow_s := weather.latency_s()) > 0.0:
                await weather.slow(slow_s)
            else:
                await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            self._lose(commands, weather.chance.choice(("lost", "late", "now")))
            raise
        if weather.down and fate == "ok":
            fate = "lost"
        if fate in ("lost", "late"):
            self._lose(commands, fate)
            raise OutcomeUnknown("The connection was cut.")
        replies = await self._answered(commands)
        if self._hook is not None:
            await self._hook()
        if (slow_s := weather.latency_s()) > 0.0:
            await weather.slow(slow_s)
        if fate == "unheard":
            self._broken = True
            raise OutcomeUnknown("The connection was cut before the answer.")
        fault = judge([tuple(c) for c in commands], replies)
        if fault is not None:
            raise fault
        return replies

    async def _answered(self, commands: Sequence[Command]) -> list[Any]:
        server = self._weather.server
        (first, *rest) = commands
        if rest or octets(first[0]) != b"XREAD" or b"BLOCK" not in map(octets, first):
            return server.run(self._connection, commands)
        words = [octets(word) for word in first]
        with trio.move_on_after(int(words[words.index(b"BLOCK") + 1]) / 1000):
            while True:
                news = self._weather.news
                replies = server.run(self._connection, commands)
                if replies[0] is not None:
                    return replies
                await news.wait()
        return [None]

    def _lose(self, commands: Sequence[Command], how: str) -> None:
        """The connection ends; what was sent on it is lost, or still arrives."""
        self._broken = True
        server, connection = self._weather.server, self._connection
        if how == "late":
            delay_s = self._weather.chance.uniform(0.0, LATE_MAX_S)
            self._weather.later(delay_s, lambda: _do(server, connection, commands))
        elif how == "now":
            _do(server, connection, commands)


def _do(server: MemoryRedis, connection: Connection, commands: Sequence[Command]) -> None:
    server.run(connection, commands)
