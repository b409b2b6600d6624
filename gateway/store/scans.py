"""Sorted sets, hashes and keys of any number, a page at a time, so that none keeps Redis busy.

What is there all the while comes at least once, and again where Redis reorders it meanwhile. Raises
RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Literal

from gateway.redis.client import RedisClient
from gateway.redis.replies import as_list, pairs
from gateway.store.keys import Keys

ITEMS_A_PAGE = 1_000  # about


async def pages(
    redis: RedisClient, command: Literal["HSCAN", "ZSCAN"], key: str, matching: str = "*"
) -> AsyncGenerator[list[tuple[bytes, bytes]], None]:
    """Members with their scores, or fields with their values; a page may have none."""
    cursor = b"0"
    while True:
        asked = (command, key, cursor, "MATCH", matching, "COUNT", ITEMS_A_PAGE)
        (reply,) = await redis.call([asked])
        cursor, flat = as_list(reply)
        yield list(pairs(flat))
        if cursor == b"0":
            return


async def keys(redis: RedisClient, near: Keys, matching: str) -> AsyncGenerator[list[str], None]:
    """Keys of the server that has those of a shard; a page may have none."""
    cursor: bytes | int = 0
    while True:
        async with redis.session(near.index) as session:
            asked = ("SCAN", cursor, "MATCH", matching, "COUNT", ITEMS_A_PAGE)
            (reply,) = await session.call([asked])
        cursor, names = as_list(reply)
        yield [name.decode() for name in names]
        if not int(cursor):
            return
