"""Sorted sets and hashes of any size, a page at a time, so that none keeps Redis busy.

What is there all the while comes at least once, and again where Redis reorders it meanwhile. Raises
RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Literal

from gateway.redis.client import RedisClient
from gateway.store.totals import as_list, pairs

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
