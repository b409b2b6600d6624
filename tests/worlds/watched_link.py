"""Links that a test looks through: what was committed where, and a process that dies at a call."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from gateway.redis.client import Command, RedisClient, RedisReply, Session


class Killed(BaseException):
    """A process died."""


class WatchedLink:
    """The real Redis client; `commits` counts transactions that write, and `calls` all calls, by
    shard."""

    def __init__(self, redis: RedisClient, *, dies_at: int | None = None) -> None:
        self._redis = redis
        self._dies_at = dies_at
        self.commits: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def _count(self, commands: Sequence[Command]) -> None:
        if self._dies_at is not None and self.calls.total() >= self._dies_at:
            raise Killed
        tags = {_tag(command) for command in commands} - {""}
        self.calls.update(tags)
        if ("EXEC",) in commands:
            self.commits.update(tags)

    @contextlib.asynccontextmanager
    async def session(self, key: str) -> AsyncIterator[Session]:
        outer = self

        class Watched:
            async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
                outer._count(commands)
                return await session.call(commands)

        async with self._redis.session(key) as session:
            yield Watched()

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        self._count(commands)
        return await self._redis.call(commands)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)


def _tag(command: Command) -> str:
    """The hash tag of a command's key."""
    key = str(command[1]) if len(command) > 1 else ""
    return key[1 : key.index("}")] if key.startswith("{") else ""
