"""Closed months: when each was closed, and its report as it was written then.

Both are written by one transaction, once: of two who close a month at the same moment the first
wins. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from gateway.core.ids import moment_of
from gateway.core.money.days import Days
from gateway.core.money.months import ClosedMonths
from gateway.core.records.message import Message
from gateway.redis.client import RedisClient
from gateway.redis.replies import as_list, pairs
from gateway.store import scans
from gateway.store.base import read_messages
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.shared_keys import CLOSED_MONTHS, month_report
from gateway.store.store import Store


async def closed_months(redis: RedisClient, days: Days) -> ClosedMonths:
    """Those of the days' zone."""
    (found,) = await redis.call([("HGETALL", CLOSED_MONTHS)])
    return ClosedMonths({name.decode(): int(at) for name, at in pairs(as_list(found))}, days)


async def read_report(redis: RedisClient, month: str) -> bytes | None:
    """A closed month's; None: it is not closed."""
    (found,) = await redis.call([("GET", month_report(month))])
    assert found is None or isinstance(found, bytes)
    return found


async def keep_report(redis: RedisClient, month: str, report: bytes, now_ms: int) -> bytes:
    """The month is closed from now on. Returns its report, which is another's who was faster."""
    replies = await redis.call(
        [
            ("MULTI",),
            ("HSETNX", CLOSED_MONTHS, month, now_ms),
            ("SETNX", month_report(month), report),
            ("GET", month_report(month)),
            ("EXEC",),
        ]
    )
    kept = as_list(replies[-1])[-1]
    assert isinstance(kept, bytes)
    return kept


class OpenMessages(NamedTuple):
    """`unread`: those that this process cannot read, so that they may be open. One that was damaged
    is set aside when its timer is due, and has none then."""

    messages: list[Message]
    unread: int


async def open_messages(store: Store, before_ms: int) -> AsyncGenerator[OpenMessages, None]:
    """Messages accepted before a moment of which a step's time is still running, in pages. Who
    waits has a timer."""
    for shard in range(store.shards):
        async with aclosing(scans.pages(store.redis, "ZSCAN", keys_of(shard).timers)) as pages:
            async for page in pages:
                ids = [id_.decode() for id_, _ in page]
                early = [id_ for id_ in ids if (moment_of(id_) or 0) < before_ms]
                records = await read_messages(store, early) if early else {}
                there = {id_: each.value for id_, each in records.items() if each.value is not None}
                read = [reads.readable(store, id_, record) for id_, record in there.items()]
                found = [message for message in read if message is not None]
                yield OpenMessages([m for m in found if not m.closed], len(there) - len(found))
