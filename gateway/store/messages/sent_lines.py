"""What one provider was handed in a span of time, and what it cost: our side of its invoice.

Found by the index of messages, so that what did not arrive, and is in no booking, is there too. A
message that can no longer be read has no line. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing

from gateway.core.channels import CHANNELS
from gateway.core.ids import moment_of, step_ref
from gateway.core.money.days import DAY_MS
from gateway.core.money.reconciliation import Ours
from gateway.core.policy import AHEAD_MAX_MS, TTL_MAX_MS
from gateway.core.records.message import Message, Step
from gateway.store.former_shards import shards_ever
from gateway.store.messages import person_index, reads
from gateway.store.store import Store

RECORDS_A_BATCH = 500
# How long before it is handed over a message may be accepted; a day more, as clocks differ.
ACCEPTED_BEFORE_MS = AHEAD_MAX_MS + TTL_MAX_MS + DAY_MS


async def sent_lines(
    store: Store, provider: str, from_ms: int, to_ms: int
) -> AsyncGenerator[list[Ours], None]:
    """The provider's attempts that were handed over, or heard of, from one moment up to another."""
    shards = await shards_ever(store.redis, store.shards)
    earliest_ms = from_ms - ACCEPTED_BEFORE_MS
    waiting: list[str] = []
    async with aclosing(person_index.oldest(store.redis, shards, earliest_ms)) as pages:
        async for page in pages:
            waiting += [id_ for id_ in page if (moment_of(id_) or 0) < to_ms]
            while len(waiting) >= RECORDS_A_BATCH:
                batch, waiting = waiting[:RECORDS_A_BATCH], waiting[RECORDS_A_BATCH:]
                yield await _lines(store, provider, batch, from_ms, to_ms)
    yield await _lines(store, provider, waiting, from_ms, to_ms)


async def _lines(
    store: Store, provider: str, ids: Sequence[str], from_ms: int, to_ms: int
) -> list[Ours]:
    found = await reads.readable_messages(store, ids)
    return lines_within(found, provider, from_ms, to_ms)


def lines_within(
    messages: Iterable[Message], provider: str, from_ms: int, to_ms: int
) -> list[Ours]:
    """A line an attempt of the provider that was handed over, or heard of, from one moment up to
    another."""
    return [
        line
        for message in messages
        for line in _lines_of(message, provider)
        if line.at_ms < to_ms and line.until_ms >= from_ms
    ]


def _lines_of(message: Message, provider: str) -> Iterator[Ours]:
    """Nothing where nothing ever left for it."""
    for index, step in enumerate(message.steps):
        for number, attempt in enumerate(step.attempts):
            if attempt.claimed_ms and step.provider_of(attempt) == provider:
                yield _line(message, index, step, number)


def _line(message: Message, index: int, step: Step, number: int) -> Ours:
    attempt = step.attempts[number]
    arrived = step.arrival_of(attempt) > 0
    at_ms = attempt.sent_ms or attempt.claimed_ms
    series = attempt.charged_series
    ref = step_ref(message.id, index, attempt.series if series is None else series)
    ids, parts = attempt.ids or (ref,), step.parts
    if loose := tuple(id_ for id_ in attempt.loose_ids if id_ not in ids):
        if not attempt.sent_ms:  # nothing of the whole is known
            ids, parts = (), 0
        ids, parts = ids + loose, parts + len(loose)
    elif attempt.charged is None and attempt.loose_cost:
        parts = len(attempt.loose_ids)  # what arrived of it, and is charged
    to = message.addresses.one(CHANNELS[step.channel].address)
    return Ours(
        message=message.id,
        step=index,
        id=ids[0],
        to=to.removeprefix("+"),
        at_ms=at_ms,
        until_ms=max(at_ms, step.delivered_ms if arrived else step.done_ms),
        parts=parts,
        cost=attempt.cost or 0,
        delivered=arrived,
        network=attempt.network,
        attempt=number,
        further_ids=ids[1:],
        invoiced=attempt.invoiced_days if attempt.invoiced else None,
    )
