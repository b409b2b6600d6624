"""How far the messages of cancelled campaigns are cancelled, and the timers a page at a time.

`{kaskad}cancelling` has the shards that are through, as `<shard>:<campaign>`. Every call may raise
RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.redis.client import Command, RedisClient
from gateway.redis.replies import as_list
from gateway.store.keys import keys_of
from gateway.store.shared_keys import CANCELLING

PAGE = 200


async def unfinished(redis: RedisClient, shard: int, names: Iterable[str]) -> set[str]:
    """Those of the campaigns that are not cancelled through in a shard yet."""
    asked = sorted(names)
    (found,) = await redis.call([("HMGET", CANCELLING, *(f"{shard}:{name}" for name in asked))])
    return {name for name, done in zip(asked, as_list(found), strict=True) if done is None}


async def page(redis: RedisClient, shard: int, cursor: int) -> tuple[int, list[str]]:
    """The next messages that have a timer, and where to go on; 0: there are no more."""
    (found,) = await redis.call([("ZSCAN", keys_of(shard).timers, cursor, "COUNT", PAGE)])
    after, members = as_list(found)
    return int(after), [id_.decode(errors="replace") for id_ in as_list(members)[::2]]


async def finish(redis: RedisClient, shard: int, names: Iterable[str]) -> None:
    """A shard is through."""
    commands: list[Command] = [("HSET", CANCELLING, f"{shard}:{name}", 1) for name in names]
    await redis.call(commands)


async def left(redis: RedisClient, shards: int, names: Sequence[str]) -> dict[str, int]:
    """In how many shards each of the campaigns is not cancelled through yet."""
    if not names:
        return {}
    replies = await redis.call(
        [("HMGET", CANCELLING, *(f"{shard}:{name}" for shard in range(shards))) for name in names]
    )
    return {
        name: sum(done is None for done in as_list(found))
        for name, found in zip(names, replies, strict=True)
    }
