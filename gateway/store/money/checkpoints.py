"""How far a shard's ledger was added up and agreed with its totals: the next time goes on there.

Behind `until` lie the bookings of whole days that are over; of each the totals are remembered as a
digest, so that one that is changed afterwards is noticed. Raises RedisUnavailable. A checkpoint
that cannot be read counts as none.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import msgspec

from gateway.core.archive.manifest import EntryId
from gateway.core.records.codec import Codec, NewerRecordError
from gateway.redis.client import RedisClient
from gateway.store.former_shards import shards_ever
from gateway.store.keys import keys_of

NOTHING_BOOKED: EntryId = (0, 0)


class Checkpoint(msgspec.Struct, frozen=True):
    """`days` are those behind `until`, each with the digest of its totals."""

    until: EntryId = NOTHING_BOOKED
    days: dict[datetime.date, bytes] = {}


_codec = Codec(Checkpoint, "checkpoint")


async def read_checkpoints(redis: RedisClient, shards: int) -> dict[int, Checkpoint]:
    """By shard, where there is one."""
    every = await shards_ever(redis, shards)
    values = await redis.call([("GET", keys_of(shard).verified) for shard in every])
    found: dict[int, Checkpoint] = {}
    for shard, value in enumerate(values):
        if isinstance(value, bytes):
            try:
                found[shard] = _codec.decode(value)
            except (msgspec.DecodeError, NewerRecordError):
                continue
    return found


async def keep_checkpoints(redis: RedisClient, checkpoints: Mapping[int, Checkpoint]) -> None:
    if checkpoints:
        await redis.call(
            [("SET", keys_of(s).verified, _codec.encode(c)) for s, c in checkpoints.items()]
        )
