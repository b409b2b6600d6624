"""Messages that were accepted before there was an index of persons: who looks for a person reads
them all.

The installation's record says since when every message is indexed, and with the first start of a
version that does so the time begins after which none is left that is not: then nothing more is read
here. While an upgrade rolls, older processes accept messages too. What is looked at in vain is read
from Redis in bounded pages, one server after the other. Raises RedisError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import aclosing

from gateway.core.ids import moment_of
from gateway.core.policy import TTL_MAX_MS
from gateway.redis.client import RedisClient
from gateway.redis.errors import CommandRefused
from gateway.store import scans
from gateway.store.installation.servers import server_states
from gateway.store.keys import keys_of
from gateway.store.shared_keys import INDEXED_FIELD, META
from gateway.store.writes import Retention

UPGRADE_MS = 86_400_000  # the longest that versions without the index may go on
_PREFIX = "{k*}m:"


async def pages(
    redis: RedisClient, shards: Collection[int], retention: Retention, now_ms: int
) -> AsyncIterator[list[str]]:
    """The ids of messages that may be missing in the index, in pages."""
    (field,) = await redis.call([("HGET", META, INDEXED_FIELD)])
    since_ms = int(field) if isinstance(field, bytes) else now_ms
    end_ms = since_ms + UPGRADE_MS
    if not since_ms or now_ms - end_ms >= 2 * TTL_MAX_MS + retention.message_ms:
        return
    for shard in await _shards_of_servers(redis, shards):
        async with aclosing(scans.keys(redis, keys_of(shard), _PREFIX + "*")) as found:
            async for names in found:
                ids = [name.partition("}m:")[2] for name in names]
                moments = {id_: moment for id_ in ids if (moment := moment_of(id_)) is not None}
                yield [id_ for id_, moment in moments.items() if moment < end_ms]


async def _shards_of_servers(redis: RedisClient, shards: Collection[int]) -> Collection[int]:
    """One of its shards for each server; all, where they may not be asked which are whose."""
    try:
        states = await server_states(redis, shards)
    except CommandRefused:
        return shards
    return {state.run_id: shard for shard, state in states.items()}.values()
