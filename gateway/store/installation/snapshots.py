"""The metrics of every process, as each left them: a snapshot that lapses by itself.

What is in a snapshot is `gateway.telemetry`. Every call may raise RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.redis.client import RedisClient
from gateway.store import shared_keys

SNAPSHOT_MS = 10_000  # how long a snapshot stands for its process
PROCESSES_MAX = 1_000  # shown at once; the ones seen last win


async def publish(redis: RedisClient, process: str, snapshot: bytes, now_ms: int) -> None:
    """Puts a process's snapshot where every worker finds it, for SNAPSHOT_MS."""
    await redis.call(
        [
            ("SET", shared_keys.stats(process), snapshot, "PX", SNAPSHOT_MS),
            ("ZADD", shared_keys.PROCESSES, now_ms, process),
            ("ZREMRANGEBYSCORE", shared_keys.PROCESSES, "-inf", now_ms - SNAPSHOT_MS),
        ]
    )


async def withdraw(redis: RedisClient, process: str) -> None:
    """The process stops: it is no longer counted from now on."""
    await redis.call(
        [("DEL", shared_keys.stats(process)), ("ZREM", shared_keys.PROCESSES, process)]
    )


async def processes(redis: RedisClient, now_ms: int) -> list[str]:
    """The processes seen within SNAPSHOT_MS, the latest first."""
    least = now_ms - SNAPSHOT_MS
    (names,) = await redis.call(
        [("ZREVRANGEBYSCORE", shared_keys.PROCESSES, "+inf", least, "LIMIT", 0, PROCESSES_MAX)]
    )
    assert isinstance(names, list)
    return [name.decode(errors="replace") for name in names]


async def gather(redis: RedisClient, now_ms: int, beginning: str = "") -> list[bytes]:
    """The latest snapshot of every process seen whose name has this beginning."""
    names = [name for name in await processes(redis, now_ms) if name.startswith(beginning)]
    return await of(redis, names)


async def of(redis: RedisClient, names: Sequence[str]) -> list[bytes]:
    """The latest snapshots of these processes."""
    if not names:
        return []
    (values,) = await redis.call([("MGET", *(shared_keys.stats(name) for name in names))])
    assert isinstance(values, list)
    return [value for value in values if value is not None]
