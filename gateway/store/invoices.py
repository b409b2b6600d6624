"""An accepted invoice: our charges become what it asks for.

Each line of ours is changed by an event of its message, one by one; what is on the invoice and
nothing of ours is booked as one amount a provider and days, of which it is kept how much that is.
So who accepts the same invoice again, or goes on after a crash, books only what is still missing.
Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.events import Invoiced
from gateway.core.reconciliation import Item
from gateway.core.settlement import uninvoiced
from gateway.redis.client import Command, Session
from gateway.store import apply, randomness
from gateway.store.keys import keys_of
from gateway.store.store import Store
from gateway.store.transaction import commit

REST_SHARD = 0  # in whose ledger is booked what is of no message


class AcceptedLines(NamedTuple):
    """`changed`: what was booked now. `gone`: their messages are no more, or not for this process
    to change."""

    changed: list[Item]
    gone: list[Item]


async def accept_lines(
    store: Store, items: Sequence[Item], invoice: str, provider: str, now_ms: int
) -> AcceptedLines:
    """Charges what the invoice asks for these lines of ours."""
    by_place: dict[tuple[str, object], Item] = {}
    events = []
    for item in items:
        ours = item.ours
        assert ours is not None, "there is nothing of ours to change"
        event = Invoiced(ours.step, ours.attempt, provider, item.accepted, invoice)
        by_place[ours.message, event] = item
        events.append(apply.Item(ours.message, event))
    told = AcceptedLines([], [])
    for applied in await store.apply(events, now_ms):
        item = by_place[applied.item.message_id, applied.item.event]
        if applied.message is None:
            told.gone.append(item)
        elif applied.effects.changed:
            told.changed.append(item)
    return told


async def accept_rest(
    store: Store, provider: str, days: str, invoice: str, amount: int, now_ms: int
) -> int:
    """Books what the invoice of a provider for these days asks for beyond our lines: `amount` in
    all. Returns what was booked now."""
    keys = keys_of(REST_SHARD)
    token = keys.token(randomness.token())
    field = f"{provider} {days}"
    channel = store.policy.provider(provider).channel

    async def attempt(session: Session) -> tuple[list[Command], int]:
        replies = await session.call(
            [("WATCH", token, keys.invoices), ("HGET", keys.invoices, field)]
        )
        booked = replies[1]
        missing = amount - (int(booked) if isinstance(booked, bytes) else 0)
        if not missing:
            return [], 0
        writes = store.writes(keys, now_ms)
        writes.post(uninvoiced(provider, channel, missing, invoice))
        await writes.learn(store.redis)
        return [*writes.commands(), ("HSET", keys.invoices, field, amount)], missing

    return await commit(store.redis, token, attempt, store.counts)
