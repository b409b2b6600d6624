"""A month is closed: its report is written with a hash, and is the same from then on.

It is closed once its days are over, no step of its messages may still bill, and the ledger agrees
with its totals. What is booked later for its messages counts in the month in which it is booked;
`gateway.core.money.months` says how that is told. It may be repeated: who closes a closed month
gets the report as it was written. A process that stood still for SETTLED_MS with a decision in
hand, or whose clock is so wrong, can still book on its days: `changed_months` tells. Raises
RedisUnavailable and LedgerFault.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any

import msgspec
import orjson

from gateway.core.money.days import Days
from gateway.core.money.months import Month
from gateway.core.records.message import Message
from gateway.core.views.words import rfc3339
from gateway.finance.question import Query
from gateway.finance.reports.report import Report, cost_report
from gateway.finance.reports.verify import verify_ledger
from gateway.redis.client import RedisClient
from gateway.store.money.ledger import Archived
from gateway.store.money.months import keep_report, open_messages, read_report
from gateway.store.money.totals import pages_of_totals
from gateway.store.store import Store

SETTLED_MS = 600_000  # after its end: clocks differ, and commits take their time
SHOWN_MAX = 20
# Of a report, what is booked: no ratio, and nothing that goes by the configuration.
_BOOKED = (
    *("accepted", "duplicates", "suppressed", "sent", "delivered", "double_delivered"),
    *("undelivered", "parts", "cost", "billed", "seen", "clicked", "conversions", "revenue"),
)
# What the document has.
_KEYS = frozenset(
    ("month", "zone", "from", "to", "closed_at", "group_by", "rows", "total", "sha256")
)
GROUP_BY = ("app", "category", "channel", "provider", "country")

Unarchived = Callable[[int], Awaitable[str | None]]  # why what was booked before is not archived


class OpenStep(msgspec.Struct, frozen=True):
    """A step that may still bill, and by when that is known."""

    message: str
    step: int
    provider: str | None
    done_by: str


class MonthChange(msgspec.Struct, frozen=True):
    """What a closed month came to, and what the bookings of its days come to by now."""

    month: str
    column: str
    closed: int | str
    now: int | str


class ClosingRefusal(msgspec.Struct):
    """Why a month cannot be closed: sentences. `open` are some of the `open_count` messages, those
    that take longest; `done_by` is when the last of all is done."""

    month: str
    reasons: list[str] = []
    open_count: int = 0
    done_by: str | None = None
    open: list[OpenStep] = []


async def close_month(
    store: Store,
    month: Month,
    now_ms: int,
    unarchived: Unarchived | None = None,
    archived: Archived | None = None,
) -> bytes | ClosingRefusal:
    """Closes it and returns its report, a JSON document; or says why not. `archived` is what an
    archive has of the ledger."""
    days = store.policy.days
    kept = await read_report(store.redis, month.name)
    if kept is not None:
        return kept
    refusal = await _refusal(store, month, now_ms, unarchived, archived)
    if refusal.reasons:
        return refusal
    query = Query(month.first, month.last)
    rows = await _report(store, msgspec.structs.replace(query, group_by=GROUP_BY))
    total = await _report(store, query)
    report = _document(month, days, rows, total, now_ms)
    return await keep_report(store.redis, month.name, report, now_ms)


async def changed_months(
    redis: RedisClient, shards: int, currency: str, days: Days, months: Iterable[Month]
) -> list[MonthChange]:
    """What was booked on the days of these months after they were closed; of those that are broken
    nobody can say."""
    found: list[MonthChange] = []
    for month in months:
        kept = await read_report(redis, month.name)
        if kept is None or not is_whole(kept):
            continue
        query = Query(month.first, month.last)
        pages = pages_of_totals(redis, shards, month.first, month.last)
        now = (await cost_report(pages, query, currency, zone=days.zone)).total_row()
        was = orjson.loads(kept)["total"]
        found += [
            MonthChange(month.name, column, was[column], by_now)
            for column in _BOOKED
            if column in was and (by_now := now[column]) is not None and by_now != was[column]
        ]
    return found


async def broken_months(redis: RedisClient, months: Iterable[Month]) -> list[str]:
    """Closed months of which the report is gone, or not what was written."""
    kept = {month.name: await read_report(redis, month.name) for month in months}
    return [name for name, report in kept.items() if report is None or not is_whole(report)]


def is_whole(report: bytes) -> bool:
    """Whether it still has the hash that it was written with."""
    shape = document_of(report)
    return shape is not None and shape.pop("sha256") == _hash(orjson.dumps(shape))


def document_of(report: bytes) -> dict[str, Any] | None:
    """What a closed month's report says; None: it is none any more."""
    try:
        shape = orjson.loads(report)
    except orjson.JSONDecodeError:
        return None
    return shape if isinstance(shape, dict) and shape.keys() >= _KEYS else None


async def _refusal(
    store: Store,
    month: Month,
    now_ms: int,
    unarchived: Unarchived | None,
    archived: Archived | None,
) -> ClosingRefusal:
    refusal = ClosingRefusal(month.name)
    over_ms = month.over_ms(store.policy.days)
    if now_ms < over_ms + SETTLED_MS:
        closable = rfc3339(over_ms + SETTLED_MS)
        refusal.reasons.append(f"It is not over: it can be closed from {closable} on.")
        return refusal
    await _look_at_open(store, over_ms, refusal)
    if unarchived is not None and (why := await unarchived(over_ms)) is not None:
        refusal.reasons.append(why)
    verdict = await verify_ledger(
        store.redis, store.shards, full=False, days=store.policy.days, archived=archived
    )
    if not verdict.agrees:
        refusal.reasons.append(
            "The ledger and its totals disagree: `kaskad report verify` says where."
        )
    return refusal


async def _look_at_open(store: Store, over_ms: int, refusal: ClosingRefusal) -> None:
    ends: list[tuple[int, Message]] = []
    unread = 0
    async with aclosing(open_messages(store, over_ms)) as pages:
        async for page in pages:
            refusal.open_count += len(page.messages)
            unread += page.unread
            ends += [(_done_by_ms(message), message) for message in page.messages]
            ends.sort(key=lambda end: (-end[0], end[1].id))
            del ends[SHOWN_MAX:]
    if unread:
        refusal.reasons.append(
            f"{unread} of its messages may have steps open and cannot be read: close it with the "
            "newest Kaskad that runs."
        )
    if not ends:
        return
    refusal.done_by = rfc3339(ends[0][0])
    refusal.open = [
        OpenStep(message.id, message.current, message.step.provider, rfc3339(end_ms))
        for end_ms, message in ends
    ]
    refusal.reasons.append(
        f"{refusal.open_count} of its messages have steps open that could still bill, the last "
        f"until {refusal.done_by}."
    )


def _done_by_ms(message: Message) -> int:
    """When nothing more can start or arrive within its time."""
    return message.expires_ms + max(step.grace_ms for step in message.steps)


async def _report(store: Store, query: Query) -> Report:
    policy = store.policy
    pages = pages_of_totals(store.redis, store.shards, query.from_day, query.to_day)
    return await cost_report(pages, query, policy.currency, policy.baseline, zone=policy.days.zone)


def _document(month: Month, days: Days, rows: Report, total: Report, now_ms: int) -> bytes:
    """The report's bytes; `sha256` is the hash of the document without it."""
    shape = {
        "month": month.name,
        "zone": days.zone,
        "from": month.first.isoformat(),
        "to": month.last.isoformat(),
        "closed_at": rfc3339(now_ms),
        "group_by": GROUP_BY,
        "rows": rows.rows(),
        "total": total.total_row(),
    }
    return orjson.dumps(shape | {"sha256": _hash(orjson.dumps(shape))})


def _hash(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()
