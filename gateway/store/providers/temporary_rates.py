"""The rate that an operator gave a provider for a while: one key a provider, which ends with it.

Operators write it; dispatch keeps to it, and `/v1/ops` shows it. What an operator does stands in
the audit with it. A value that another version wrote and this one cannot read counts as none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gateway.redis.client import RedisClient
from gateway.store import shared_keys
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.providers.pauses import PauseMoment


class TemporaryRate(msgspec.Struct, frozen=True):
    """So many messages a second instead of the configured rate. `since` and `until` are epoch
    milliseconds, `by` is the operator."""

    rate_per_s: int
    since: PauseMoment
    until: PauseMoment
    by: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(TemporaryRate).decode


async def read(
    redis: RedisClient, providers: Iterable[str], former: Mapping[str, str]
) -> dict[str, TemporaryRate]:
    """The rates that hold now, by the providers' present names; `former` has their earlier ones.
    Raises RedisUnavailable."""
    names = [*former, *providers]  # what was set under the present name wins
    if not names:
        return {}
    (values,) = await redis.call([("MGET", *map(shared_keys.temporary_rate, names))])
    assert isinstance(values, list)
    found = {}
    for name, value in zip(names, values, strict=True):
        if value is None:
            continue
        try:
            found[former.get(name, name)] = _decode(value)
        except msgspec.DecodeError:
            continue
    return found


async def begin(
    redis: RedisClient, provider: str, rate_per_s: int, for_ms: int, by: str, now_ms: int
) -> TemporaryRate:
    """An operator gives a provider this rate for so long, whatever it had. Raises
    RedisUnavailable."""
    rate = TemporaryRate(rate_per_s, now_ms, now_ms + for_ms, by)
    key = shared_keys.temporary_rate(provider)
    deed = Deed(now_ms, by, "provider.rate", provider, f"{rate_per_s}/s for {for_ms // 1000} s")
    await audit.done(redis, [("SET", key, _encode(rate), "PX", for_ms)], deed)
    return rate


async def end(
    redis: RedisClient, provider: str, former: Mapping[str, str], by: str, now_ms: int
) -> None:
    """An operator ends it: the configured rate holds again. Raises RedisUnavailable."""
    names = [provider, *(old for old, present in former.items() if present == provider)]
    deed = Deed(now_ms, by, "provider.rate.end", provider)
    await audit.done(redis, [("DEL", *map(shared_keys.temporary_rate, names))], deed)
