"""Receipts as they came, for whoever looks at a message: kept for a while where that is wanted.

A list a message, of its newest RECEIPTS_MAX, each of BYTES_MAX at most; it lapses with the time
that is configured, and goes with its person. It is written before its receipt is applied, and taken
back where there turns out to be nobody to keep it for, so that one that an erasing overtakes does
not stay. It decides nothing. Where it is not wanted, which is the default, nothing is asked of
Redis. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec
from msgspec import field

from gateway.core.events import Reported
from gateway.redis.client import Command
from gateway.redis.replies import as_list
from gateway.store.base import StoreBase
from gateway.store.keys import keys_of, shard_of
from gateway.store.messages.apply import Applied, Item

RECEIPTS_MAX = 20  # of a message
BYTES_MAX = 2_048  # of one


class RawReceipt(msgspec.Struct, frozen=True):
    """When it came, from which provider, what it was read as, and as it came."""

    at_ms: int = field(name="t")
    provider: str = field(name="p")
    status: str = field(name="s")
    text: str = field(name="x")


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RawReceipt).decode


async def keep(store: StoreBase, provider: str, items: Iterable[Item], now_ms: int) -> None:
    """Those of receipts that are about to be applied."""
    kept_ms = store.retention.raw_receipts_ms
    if not kept_ms:
        return
    found: defaultdict[str, list[bytes]] = defaultdict(list)
    for item in items:
        assert isinstance(item.event, Reported)
        receipt = item.event.receipt
        if receipt.raw:
            text = receipt.raw.encode()[:BYTES_MAX].decode(errors="ignore")
            kept = RawReceipt(now_ms, provider, receipt.status, text)
            found[_key(store, item.message_id)].append(_encode(kept))
    commands: list[Command] = []
    for key, entries in found.items():
        commands += (
            ("RPUSH", key, *entries),
            ("LTRIM", key, -RECEIPTS_MAX, -1),
            ("PEXPIRE", key, kept_ms),
        )
    if commands:
        await store.redis.call(commands)


async def check(store: StoreBase, applied: Iterable[Applied]) -> None:
    """Forgets those of messages that there are not, and of the erased."""
    if store.retention.raw_receipts_ms:
        nobodys = [
            each.item.message_id
            for each in applied
            if each.message is None or each.message.addresses.shown() is None
        ]
        await forget(store, nobodys)


async def forget(store: StoreBase, message_ids: Iterable[str]) -> None:
    """Nothing stays of these messages."""
    commands: list[Command] = [("DEL", _key(store, id_)) for id_ in message_ids]
    if commands:
        await store.redis.call(commands)


async def read(store: StoreBase, message_id: str) -> list[RawReceipt]:
    """Those of a message, the oldest first."""
    (found,) = await store.redis.call([("LRANGE", _key(store, message_id), 0, -1)])
    return [_decode(entry) for entry in as_list(found)]


def _key(store: StoreBase, message_id: str) -> str:
    """In a shard by the id's value: no transaction has it with its message."""
    return keys_of(shard_of(message_id, store.shards)).raw_receipts(message_id)
