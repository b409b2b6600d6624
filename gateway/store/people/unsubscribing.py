"""Whose the codes are by which people unsubscribe: kept when a message with one is sent, for
KEPT_MS after the last. Raises RedisUnavailable."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress

from gateway.core.channels import CHANNELS
from gateway.core.people.unsubscribing import code_for, is_code
from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.unsubscriber import Unsubscriber, unsubscriber_codec
from gateway.redis.client import Command
from gateway.store.base import StoreBase
from gateway.store.keys import keys_of, shard_of

KEPT_MS = 400 * 86_400_000


async def keep(store: StoreBase, codes: Mapping[str, Unsubscriber]) -> None:
    commands: list[Command] = [
        ("SET", _key(store, code), unsubscriber_codec.encode(who), "PX", KEPT_MS)
        for code, who in codes.items()
    ]
    if commands:
        await store.redis.call(commands)


async def find(store: StoreBase, code: str) -> Unsubscriber | None:
    """None: it is nobody's, for all that this process can read."""
    if is_code(code) is None:
        return None
    (value,) = await store.redis.call([("GET", _key(store, code))])
    with suppress(NewerRecordError, UnreadableRecordError):
        return unsubscriber_codec.decode(value) if isinstance(value, bytes) else None
    return None


async def forget(store: StoreBase, addresses: Collection[str]) -> None:
    """Nobody can unsubscribe these any more: they are erased."""
    if not addresses:
        return
    key = await store.links.key(store.redis)
    codes = [code_for(Unsubscriber(c, address), key) for address in addresses for c in CHANNELS]
    await store.redis.call([("DEL", _key(store, code)) for code in codes])


def _key(store: StoreBase, code: str) -> str:
    return keys_of(shard_of(code, store.shards)).unsubscriber(code)
