"""The bytes of a scheduled report: a period's cost report as CSV, as a workbook or as a page.

Raises RedisUnavailable, LedgerFault, ReportFault and, for a workbook, MissingExtra.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import AsyncGenerator
from functools import partial

import msgspec

from gateway.core.money.days import Days
from gateway.core.views.words import rfc3339
from gateway.finance.question import Query
from gateway.finance.reports import formats
from gateway.finance.reports.report import Report, ReportTally, cost_report
from gateway.finance.reports.report_workbook import write_workbook
from gateway.finance.reports.schedule import Period, ReportSchedule
from gateway.ingress.pages.report_reading import grouped, read_page
from gateway.ingress.pages.reports import Suggestions, report_page
from gateway.redis.client import RedisClient
from gateway.store.money.totals import Aside, TotalRow, pages_of_totals


class NumberSources(msgspec.Struct, frozen=True):
    """Where the numbers are. What is computed of them is computed `aside`."""

    redis: RedisClient
    shards: int
    currency: str
    baseline: str
    days: Days
    aside: Aside

    async def render(self, schedule: ReportSchedule, period: Period, now_ms: int) -> bytes:
        """One period's report as its schedule wants it."""
        query = schedule.query(period)
        if schedule.form == "html":
            query = grouped(query)
            reports, _ = await read_page(
                query, partial(self._pages, hours=True), self._tally, self.aside
            )
            note = f"{schedule.name}, made {rfc3339(now_ms)}."
            page = partial(report_page, query, reports, Suggestions(), period.last, note=note)
            return await self.aside(page)
        report = await cost_report(
            self._pages(query.from_day, query.to_day, hours=query.by_hour),
            query,
            self.currency,
            self.baseline,
            self.aside,
            self.days.zone,
        )
        write = formats.to_csv if schedule.form == "csv" else _workbook
        return await self.aside(partial(write, report))

    def _pages(
        self, first: datetime.date, last: datetime.date, *, hours: bool
    ) -> AsyncGenerator[list[TotalRow], None]:
        return pages_of_totals(self.redis, self.shards, first, last, aside=self.aside, hours=hours)

    def _tally(self, query: Query) -> ReportTally:
        return ReportTally(query, self.currency, self.baseline, self.days.zone)


def _workbook(report: Report) -> bytes:
    file = io.BytesIO()
    write_workbook(report, file)
    return file.getvalue()
