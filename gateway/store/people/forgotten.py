"""Who was erased, where there is an archive: what that has of a person is found by the person no
more.

The archive's files never change, and hold hashes of whom messages named. So an erasing is noted for
ever, under a hash of the identity with a key of this installation, and by Redis' clock, as places
in the index are. Raises RedisUnavailable.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from hashlib import blake2b

from gateway.redis.client import RedisClient
from gateway.store.archive.archived_index import next_moment
from gateway.store.shared_keys import FORGOTTEN, META

EVERY_APP = ""
_KEY_FIELD = "forgotten_key"
_KEY_BYTES = 32


async def note(redis: RedisClient, identities: Iterable[str], app: str | None) -> None:
    """These were erased now; with `app` what that app sent them."""
    new = secrets.token_bytes(_KEY_BYTES)
    await redis.call([("HSETNX", META, _KEY_FIELD, new)])
    key, now_ms = await _key(redis), await next_moment(redis, [0])
    fields = [_field(key, identity, app or EVERY_APP) for identity in identities]
    await redis.call([("HSET", FORGOTTEN, *(part for f in fields for part in (f, now_ms)))])


async def since(
    redis: RedisClient, identities: Collection[str], apps: Iterable[str]
) -> dict[str, int]:
    """By app, from when on what it sent to all of these may be found; 0: nobody was erased."""
    if not (key := await _key(redis)):
        return {}
    whose = list({EVERY_APP, *apps})
    found: dict[str, int] = {}
    for app in whose:
        fields = [_field(key, identity, app) for identity in identities]
        (values,) = await redis.call([("HMGET", FORGOTTEN, *fields)])
        assert isinstance(values, list)
        found[app] = max(int(value or 0) for value in values)
    return {app: max(ms, found[EVERY_APP]) for app, ms in found.items()}


async def _key(redis: RedisClient) -> bytes:
    """Empty until somebody was erased."""
    (key,) = await redis.call([("HGET", META, _KEY_FIELD)])
    return key if isinstance(key, bytes) else b""


def _field(key: bytes, identity: str, app: str) -> str:
    digest = blake2b(identity.encode(), key=key, digest_size=16).hexdigest()
    return f"{digest} {app}"
