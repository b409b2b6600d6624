"""Closed months: when each was closed, and its report as it was written then.

Both are written by one transaction, once: of two who close a month at the same moment the first
wins. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from gateway.core.ids import moment_of
from gateway.core.money.days import Days
from gateway.core.money.months import ClosedMonths
from gateway.core.records.message import Message
from gateway.redis.client import RedisClient
from gateway.redis.replies import as_list, pairs
from gateway.store import scans
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


async def open_messages(store: Store, before_ms: int) -> AsyncGenerator[list[Message], None]:
    """Messages accepted before a moment of which a step's time is still running, in pages. Who
    waits has a timer; one whose message this process cannot read is left out."""
    for shard in range(store.shards):
        async with aclosing(scans.pages(store.redis, "ZSCAN", keys_of(shard).timers)) as pages:
            async for page in pages:
                ids = [id_.decode() for id_, _ in page]
                early = [id_ for id_ in ids if (moment_of(id_) or 0) < before_ms]
                found = await reads.readable_messages(store, dict.fromkeys(early))
                yield [message for message in found if not message.closed]
