"""The record of providers that are paused for an account fault: one hash, a field a provider.

Dispatch writes it, dispatch and `/readyz` read it. Deleting a field by hand ends that pause. A
value that another version wrote and this one cannot read counts as a pause whose time is over.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from gateway.redis.client import RedisClient
from gateway.store import keys

SHOWN_MAX = 1_000  # fields read at once; far above the number of providers


Moment = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]  # up to the year 9999


class Pause(msgspec.Struct, frozen=True):
    """Why a provider is paused: the fault's code and the provider's own words. `since` and `until`
    are epoch milliseconds; at `until` one message is tried."""

    code: str
    detail: str
    since: Moment
    until: Moment


UNREADABLE = Pause("unknown", "The reason cannot be read by this version.", 0, 0)
_decode = msgspec.json.Decoder(Pause).decode


async def read(redis: RedisClient) -> dict[str, Pause]:
    """Every provider that is paused. Raises RedisUnavailable."""
    (reply,) = await redis.call([("HGETALL", keys.PAUSED)])
    assert isinstance(reply, list)
    pairs = reply[: 2 * SHOWN_MAX]
    return {
        name.decode(errors="replace"): _pause(value)
        for name, value in zip(pairs[::2], pairs[1::2], strict=True)
    }


async def write(redis: RedisClient, provider: str, pause: Pause) -> None:
    """Begins a pause, or moves its end. Raises RedisUnavailable."""
    await redis.call([("HSET", keys.PAUSED, provider, msgspec.json.encode(pause))])


async def delete(redis: RedisClient, provider: str) -> None:
    """Ends a pause; one that is not there is none. Raises RedisUnavailable."""
    await redis.call([("HDEL", keys.PAUSED, provider)])


def _pause(value: bytes) -> Pause:
    try:
        return _decode(value)
    except msgspec.DecodeError:
        return UNREADABLE
