"""What the Redis servers behind the shards say of themselves: memory, its limit, files.

A server is asked by a key of a shard that it serves, so that in a cluster each master is met; one
that serves several shards is known by its run id. Raises RedisUnavailable, and CommandRefused where
the user may not ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

import msgspec

from gateway.redis.client import RedisClient
from gateway.redis.script import Script
from gateway.store.keys import keys_of

_SCRIPT = Script(resources.files("gateway.store").joinpath("lua", "server.lua").read_text())


class ServerState(msgspec.Struct, frozen=True):
    """One server at one moment. `limit_bytes` 0: it has none; `aof_bytes` 0: no append-only
    file."""

    run_id: str
    used_bytes: int
    limit_bytes: int
    fragmentation: float
    aof_bytes: int


async def server_states(redis: RedisClient, shards: Iterable[int]) -> dict[int, ServerState]:
    """By shard; one round trip."""
    asked = list(shards)
    replies = await _SCRIPT.call_many(redis, [([keys_of(s).ledger], []) for s in asked])
    return {shard: read_info(reply) for shard, reply in zip(asked, replies, strict=True)}


def read_info(reply: object) -> ServerState:
    assert isinstance(reply, bytes)
    info = dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)
    return ServerState(
        run_id=info["run_id"],
        used_bytes=int(info["used_memory"]),
        limit_bytes=int(info["maxmemory"]),
        fragmentation=float(info.get("mem_fragmentation_ratio", 1)),
        aof_bytes=int(info.get("aof_current_size", 0)),
    )
