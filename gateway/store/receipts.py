"""From a provider's receipt to the step it speaks of; and the ones nobody knows yet.

A receipt names our own reference where the provider echoes it. Where the provider gives ids of its
own, dispatch notes id -> reference before it records that the step was sent. A receipt that matches
nothing (it outran the send's answer, or is none of ours) is parked and tried again with growing
delays for as long as the retention says, then dropped with a log line by the caller. Nothing of
this is an error to the provider.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.core.events import Reported
from gateway.core.model import read_ref
from gateway.redis.client import Command, Link
from gateway.store.apply import Item
from gateway.store.keys import Keys, keys_of, shard_of
from gateway.store.store import Store
from providers.contract import Receipt

PROVIDER_ID_MS = 7 * 86_400_000
PARKED_MAX = 100_000  # a shard; beyond it the one due next is dropped first
PARKED_DELAY_MS = 900  # doubled with each try
PARKED_DELAY_MS_MAX = 600_000
SWEEP_COUNT = 500


class Parked(msgspec.Struct, array_like=True, frozen=True):
    """`receipt` is the receipt as msgpack; equal receipts are parked once."""

    provider: str
    receipt: bytes
    since_ms: int


class Taken(msgspec.Struct):
    """What became of receipts: applied to a message, parked, or (after the retention) dropped.

    `unmatched` are the ones parked by `take_receipts`, the very objects it was given.
    """

    applied: int = 0
    parked: int = 0
    dropped: int = 0
    unmatched: list[Receipt] = []


_encode = msgspec.msgpack.Encoder().encode
_decode_parked = msgspec.msgpack.Decoder(Parked).decode
_decode_receipt = msgspec.msgpack.Decoder(Receipt).decode


async def note_provider_ids(store: Store, provider: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Notes (provider's id, our ref) pairs; to be called before the steps are recorded as sent."""
    commands: list[Command] = [
        (
            "SET",
            _shard_keys(store, provider, pid).provider_id(provider, pid),
            ref,
            "PX",
            PROVIDER_ID_MS,
        )
        for pid, ref in pairs
    ]
    if commands:
        await store.link.call(commands)


async def take_receipts(
    store: Store, provider: str, receipts: Sequence[Receipt], now_ms: int
) -> Taken:
    """Applies what can be matched and parks the rest; durable on return."""
    items, unmatched = await _match(store, provider, receipts)
    taken = Taken()
    missing = []
    for applied in await store.apply(items, now_ms):
        if applied.message is None:
            assert isinstance(applied.item.happening, Reported)
            missing.append(applied.item.happening.receipt)
        else:
            taken.applied += 1
    taken.unmatched = [*unmatched, *missing]
    taken.parked = len(taken.unmatched)
    await _park(store.link, store, provider, taken.unmatched, now_ms)
    return taken


async def sweep_parked(store: Store, shard: int, now_ms: int) -> Taken:
    """Tries the parked receipts of one shard that are due, and gives up the ones that are too
    old."""
    keys = keys_of(shard)
    (members,) = await store.link.call(
        [("ZRANGEBYSCORE", keys.parked, "-inf", now_ms, "LIMIT", 0, SWEEP_COUNT)]
    )
    assert isinstance(members, list)
    taken = Taken()
    commands: list[Command] = []
    for member in members:
        parked = _decode_parked(member)
        items, _ = await _match(store, parked.provider, [_decode_receipt(parked.receipt)])
        applied = await store.apply(items, now_ms)
        if applied and applied[0].message is not None:
            taken.applied += 1
            commands.append(("ZREM", keys.parked, member))
        elif now_ms - parked.since_ms >= store.retention.parked_ms:
            taken.dropped += 1
            commands.append(("ZREM", keys.parked, member))
        else:
            taken.parked += 1
            # The delay grows with the receipt's age, so no count of tries is needed: about doubled
            # each time.
            delay = min(max(now_ms - parked.since_ms, PARKED_DELAY_MS), PARKED_DELAY_MS_MAX)
            commands.append(("ZADD", keys.parked, "XX", now_ms + delay, member))
    if commands:
        await store.link.call(commands)
    return taken


async def _match(
    store: Store, provider: str, receipts: Sequence[Receipt]
) -> tuple[list[Item], list[Receipt]]:
    items: list[Item] = []
    unmatched: list[Receipt] = []
    foreign: list[Receipt] = []
    for receipt in receipts:
        # What comes back in the place of our reference may be another's; the id is then still ours.
        item = _item(store, provider, receipt.ref, receipt) or _item(
            store, provider, receipt.provider_id, receipt
        )
        if item is not None:
            items.append(item)
        elif receipt.provider_id is not None or receipt.ref is not None:
            foreign.append(receipt)
        else:
            unmatched.append(receipt)
    if foreign:
        commands: list[Command] = []
        for receipt in foreign:
            pid = receipt.provider_id or receipt.ref or ""
            commands.append(("GET", _shard_keys(store, provider, pid).provider_id(provider, pid)))
        for receipt, ref in zip(foreign, await store.link.call(commands), strict=True):
            item = None if ref is None else _item(store, provider, ref.decode(), receipt)
            if item is None:
                unmatched.append(receipt)
            else:
                items.append(item)
    return items, unmatched


def _item(store: Store, provider: str, ref: str | None, receipt: Receipt) -> Item | None:
    named = read_ref(ref) if ref is not None else None
    if named is None or store.keys_for_message(named.message_id) is None:
        return None
    return Item(named.message_id, Reported(named.step, receipt, provider, named.series))


async def _park(
    link: Link, store: Store, provider: str, receipts: Sequence[Receipt], now_ms: int
) -> None:
    commands: list[Command] = []
    for receipt in receipts:
        pid = receipt.provider_id or receipt.ref or ""
        key = _shard_keys(store, provider, pid).parked
        member = _encode(Parked(provider, _encode(receipt), now_ms))
        commands.append(("ZADD", key, "NX", now_ms + PARKED_DELAY_MS, member))
        commands.append(("ZREMRANGEBYRANK", key, 0, -PARKED_MAX - 1))
    if commands:
        await link.call(commands)


def _shard_keys(store: Store, provider: str, provider_id: str) -> Keys:
    return keys_of(shard_of(f"{provider}:{provider_id}", store.shards))
