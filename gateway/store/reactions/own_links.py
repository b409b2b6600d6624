"""Links that an app made for itself: made under a slug or a code, read and changed.

A code is that of a number like any other link's, of a range that nothing else is in, so that no
code means two links. Raises RedisUnavailable, and msgspec.DecodeError or NewerRecordError for what
cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.links.link_codes import RANGES, LinkPlace, code_of, number_at
from gateway.core.records.links import OwnLink, own_link_codec
from gateway.redis.client import Command, Session
from gateway.store import randomness
from gateway.store.keys import keys_of, shard_of
from gateway.store.reactions.links import find, own_key
from gateway.store.store import Store
from gateway.store.transaction import commit

CODES_SHARD = 0  # whose ranges give codes; where a link stands is said by its code


async def make(store: Store, link: OwnLink, slug: str | None) -> str | None:
    """Under which code or slug it stands from now on; None: another has the slug, or it is the code
    of a message's link, which stays what it is."""
    code = slug if slug is not None else await _new_code(store)
    taken = await find(store.redis, store.links, store.shards, code)
    if taken is not None and taken.own is None:
        return None
    key, record = own_key(code, store.shards), own_link_codec.encode(link)
    made, kept = await store.redis.call([("SET", key, record, "NX"), ("GET", key)])
    # One that was made by a call whose answer was lost says the same.
    return code if made is not None or kept == record else None


async def change(
    store: Store, code: str, decide: Callable[[OwnLink | None], OwnLink | None]
) -> OwnLink | None:
    """What `decide` says of it stands in its place; None: nothing is changed."""
    key = own_key(code, store.shards)
    token = keys_of(shard_of(code, store.shards)).token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], OwnLink | None]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        before = own_link_codec.decode(value) if isinstance(value, bytes) else None
        after = decide(before)
        writes: list[Command] = []
        if after is not None and after != before:
            writes.append(("SET", key, own_link_codec.encode(after)))
        return writes, after

    return await commit(store.redis, token, attempt, store.counts)


async def _new_code(store: Store) -> str:
    (number,) = await store.links.reserve(store.redis, CODES_SHARD, 1)
    key = await store.links.key(store.redis)
    return code_of(number_at(LinkPlace(CODES_SHARD, number % RANGES, 0, 0)), key)
