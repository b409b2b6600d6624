"""An accepted invoice: our charges become what it asks for.

Each line of ours is changed by an event of its message, one by one; what is on the invoice and
nothing of ours is booked as one amount a provider and days, of which it is kept how much that is.
So who accepts the same invoice again, or goes on after a crash, books only what is still missing.
Of days of which some were accepted together with others that could not be told: it is refused.
Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.events import Invoiced
from gateway.core.money.budgets import settle_apart
from gateway.core.money.days import FirstAndLast, span_in, span_text
from gateway.core.money.reconciliation import ReconciledLine
from gateway.core.money.settlement import uninvoiced
from gateway.errors import CallerFault
from gateway.redis.client import Command, Session
from gateway.redis.replies import as_list, pairs
from gateway.store import randomness
from gateway.store.keys import keys_of
from gateway.store.messages import apply
from gateway.store.store import Store
from gateway.store.transaction import commit

REST_SHARD = 0  # in whose ledger is booked what is of no message


class AcceptedLines(NamedTuple):
    """`changed`: what was booked now. `gone`: their messages are no more, or not for this process
    to change."""

    changed: list[ReconciledLine]
    gone: list[ReconciledLine]


async def accept_lines(
    store: Store,
    items: Sequence[ReconciledLine],
    invoice: str,
    provider: str,
    now_ms: int,
    days: FirstAndLast,
) -> AcceptedLines:
    """Charges what the invoice of these days asks for these lines of ours."""
    by_place: dict[tuple[str, object], ReconciledLine] = {}
    events = []
    for item in items:
        ours = item.ours
        assert ours is not None, "there is nothing of ours to change"
        event = Invoiced(ours.step, ours.attempt, provider, item.accepted, invoice, span_text(days))
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


class DaysAccepted(CallerFault):
    """An invoice for some of the days, and for others, was accepted before."""


async def ensure_days(store: Store, provider: str, days: FirstAndLast) -> None:
    """Raises DaysAccepted where an invoice of the provider may not be accepted for these days."""
    _booked(provider, days, await _read_accepted(store, provider))


async def accepted_days(store: Store, provider: str) -> list[FirstAndLast]:
    """Those of the provider's invoices that were accepted, as far as that was kept: before
    2026-11-30 only of those with something that was nothing of ours."""
    return list(await _read_accepted(store, provider))


async def _read_accepted(store: Store, provider: str) -> dict[FirstAndLast, int]:
    (found,) = await store.redis.call([("HGETALL", keys_of(REST_SHARD).invoices)])
    return _accepted(store, provider, as_list(found))


def _accepted(store: Store, provider: str, found: list[bytes]) -> dict[FirstAndLast, int]:
    """What was booked for which days, under whatever name the provider had."""
    names = store.policy.names_of(provider)
    booked: dict[FirstAndLast, int] = {}
    for field, amount in pairs(found):
        name, _, text = field.decode().partition(" ")  # no name holds a space
        if name in names:
            days = span_in(text)
            booked[days] = booked.get(days, 0) + int(amount)
    return booked


def _booked(provider: str, asked: FirstAndLast, booked: dict[FirstAndLast, int]) -> int | None:
    """What was booked for these days; None: they were not accepted. Raises DaysAccepted."""
    for days, amount in booked.items():
        first, last = days
        if days != asked and amount and first <= asked[1] and asked[0] <= last:
            raise DaysAccepted(
                f"An invoice of {provider} for {first} to {last} is accepted already, and these "
                f"are {asked[0]} to {asked[1]}. To put that one right give --from {first} --to "
                f"{last}; else give days that were not accepted."
            )
    return booked.get(asked)


async def accept_rest(
    store: Store, provider: str, days: FirstAndLast, invoice: str, amount: int, now_ms: int
) -> int:
    """Books what the invoice of a provider for these days asks for beyond our lines: `amount` in
    all. Returns what was booked now. That these days were accepted is kept even where that is
    nothing. Raises DaysAccepted."""
    keys = keys_of(REST_SHARD)
    token = keys.token(randomness.token())
    field = f"{provider} {span_text(days)}"
    channel = store.policy.provider(provider).channel

    async def attempt(session: Session) -> tuple[list[Command], int]:
        _, found = await session.call([("WATCH", token, keys.invoices), ("HGETALL", keys.invoices)])
        booked = _booked(provider, days, _accepted(store, provider, as_list(found)))
        missing = amount - (booked or 0)
        if not missing and booked is not None:
            return [], 0
        writes = store.writes(keys, now_ms)
        if missing:
            post = uninvoiced(provider, channel, missing, invoice)
            writes.post(post)
            writes.budgets.move(settle_apart(post, store.policy.budgets))
        await writes.learn(store.redis)
        kept = ("HINCRBY", keys.invoices, field, missing)
        return [*writes.commands(), kept], missing

    return await commit(store.redis, token, attempt, store.counts)
