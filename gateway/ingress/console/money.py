"""What the console's pages of money show: what is spent, what may be, and what closed months are.

Amounts are those of the report, of `GET /v1/budgets` and of a month's report as it was written.
What was booked late for a closed month is looked up in the ledger behind its days, so much of it
and no more. Raises RedisUnavailable, LedgerFault, and Refusal for what is not there.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import msgspec

from gateway.core.money.money import format_amount
from gateway.core.money.months import LATE, Month
from gateway.core.views.words import rfc3339
from gateway.finance.lines.lines import (
    ArchivedLines,
    LedgerLine,
    LinesQuery,
    LineView,
    pages_of_lines,
)
from gateway.finance.question import Query
from gateway.finance.reports.closing import document_of, is_whole
from gateway.ingress.api.reports.ledger import BOOKINGS_MAX
from gateway.ingress.api.searches import Searches
from gateway.ingress.console.views import View
from gateway.ingress.http.problems import refuse
from gateway.ingress.http.request import Request
from gateway.store.money.months import closed_months, read_report
from gateway.store.money.totals import Aside
from gateway.store.store import Store

MONTHS_SHOWN = 12  # the newest
LATE_SHOWN = 50
LOOKS_MAX = 2  # at once in a worker
FILTERS = ("app", "campaign", "category", "country", "channel")  # of a budget
_DAY = datetime.timedelta(days=1)


class MoneyViews:
    """`read` asks the API for an operator; `now_ms` is the edge's clock."""

    def __init__(
        self,
        store: Store,
        read: Callable[[Request, str], Awaitable[Any]],
        archived: ArchivedLines,
        aside: Aside,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._read = read
        self._archived = archived
        self._aside = aside
        self._now_ms = now_ms
        self._looks = Searches(LOOKS_MAX, "late lines")

    async def money(self, request: Request) -> View:
        today = self._store.policy.days.of(self._now_ms())
        budgets = (await self._read(request, "/v1/budgets"))["items"]
        closed = await closed_months(self._store.redis, self._store.policy.days)
        before = (today.replace(day=1) - _DAY).strftime("%Y-%m")
        newest = sorted(closed.at_ms, reverse=True)[:MONTHS_SHOWN]
        return {
            "spent": [await self._spent(request, *span) for span in _spans(today)],
            "budgets": [budget | _standing(budget) for budget in budgets],
            "months": [await self._closed(name, closed.at_ms[name]) for name in newest],
            "closable": None if before in closed.at_ms else before,
            "zone": self._store.policy.days.zone,
        }

    async def month(self, request: Request) -> View:
        month = Month.named(request.parameters["month"])
        kept = None if month is None else await read_report(self._store.redis, month.name)
        if month is None or kept is None:
            raise refuse("not-found", "This month is not closed.")
        shown = _shown(kept)
        if shown is None:
            raise refuse("not-found", "Its report cannot be read any more: put a backup's back.")
        return {"month": shown, "late": await self._late(month)}

    async def _spent(
        self, request: Request, label: str, first: datetime.date, last: datetime.date
    ) -> View:
        days = f"from={first.isoformat()}&to={last.isoformat()}"
        report = await self._read(request, f"/v1/reports/cost?{days}")
        return {"label": label, "days": days, "total": report["total"]}

    async def _closed(self, name: str, at_ms: int) -> View:
        """Without a `total` where its report is gone, or cannot be read."""
        kept = await read_report(self._store.redis, name)
        shown = None if kept is None else _shown(kept)
        return shown or {"month": name, "closed_at": rfc3339(at_ms), "total": None}

    async def _late(self, month: Month) -> View:
        """What was booked for it since it was closed, as far as one look reads the ledger."""
        store, days = self._store, self._store.policy.days
        query = LinesQuery(Query(month.last + _DAY, days.of(self._now_ms())))
        pages = pages_of_lines(
            store.redis,
            store.shards,
            query,
            store.policy.currency,
            None,
            days,
            self._aside,
            self._archived,
        )
        found: list[LedgerLine] = []
        sums: defaultdict[str, int] = defaultdict(int)
        count = looked_at = 0
        with self._looks.one():
            async with aclosing(pages):
                async for page in pages:
                    looked_at += page.looked_at
                    late = [line for _, line in page.lines if line.reason == LATE + month.name]
                    for line in late:
                        sums["billed" if line.kind == "bill" else "cost"] += line.amount
                    count += len(late)
                    found += late[: LATE_SHOWN - len(found)]
                    if looked_at >= BOOKINGS_MAX:
                        break
        return {
            "count": count,
            "cost": format_amount(sums["cost"]),
            "billed": format_amount(sums["billed"]),
            "lines": [msgspec.to_builtins(LineView.of(line)) for line in found],
            "looked_at": looked_at,
            "whole": looked_at < BOOKINGS_MAX,
            "since": (month.last + _DAY).isoformat(),
        }


def _spans(today: datetime.date) -> Iterator[tuple[str, datetime.date, datetime.date]]:
    first = today.replace(day=1)
    yield "Today", today, today
    yield "This month", first, today
    yield "Last month", (first - _DAY).replace(day=1), first - _DAY


def _standing(budget: Mapping[str, Any]) -> View:
    """How full it is, in per cent, and in a word."""
    limit, used, left = (Decimal(budget[name]) for name in ("limit", "used", "left"))
    percent = float(100 * used / limit) if limit else 100.0
    state = "warned" if budget["warned"] else "open"
    of = [f"{name} {budget[name]}" for name in FILTERS if budget[name] is not None]
    reserved = float(100 * Decimal(budget["reserved"]) / limit) if limit else 0.0
    return {
        "percent": percent,
        "settled_percent": max(percent - reserved, 0.0),
        "state": "full" if not left else state,
        "of": ", ".join(of) or "everything",
    }


def _shown(kept: bytes) -> View | None:
    report = document_of(kept)
    return None if report is None else report | {"whole": is_whole(kept)}
