"""Whether the installation drains: one key, there while every ingress refuses new messages.

Operators write it, ingress and `/v1/ops` read it, and what an operator does stands in the audit
with it. A value that another version wrote and this one cannot read is a drain all the same.
"""

from __future__ import annotations

import msgspec

from gateway.redis.client import RedisClient
from gateway.store import shared_keys
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.providers.pauses import DETAIL_MAX, PauseMoment

HOLDS_WITHIN_MS = 2_000  # after so long every ingress refuses new messages


class Drain(msgspec.Struct, frozen=True):
    """Since when, in epoch milliseconds, by whom and why."""

    since: PauseMoment = 0
    by: str = ""
    reason: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Drain).decode


async def read(redis: RedisClient) -> Drain | None:
    """The drain under way; None: there is none. Raises RedisUnavailable."""
    (value,) = await redis.call([("GET", shared_keys.DRAIN)])
    if not isinstance(value, bytes):
        return None
    try:
        return _decode(value)
    except msgspec.DecodeError:
        return Drain()


async def begin(redis: RedisClient, reason: str, by: str, now_ms: int) -> None:
    """An operator has it drain; one that is under way goes on as it is. Raises
    RedisUnavailable."""
    if await read(redis) is not None:
        return
    drain = Drain(now_ms, by, reason[:DETAIL_MAX])
    deed = Deed(now_ms, by, "drain.begin", "", drain.reason)
    await audit.done(redis, [("SET", shared_keys.DRAIN, _encode(drain), "NX")], deed)


async def end(redis: RedisClient, by: str, now_ms: int) -> None:
    """An operator has new messages taken again. Raises RedisUnavailable."""
    await audit.done(redis, [("DEL", shared_keys.DRAIN)], Deed(now_ms, by, "drain.end"))
