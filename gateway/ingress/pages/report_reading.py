"""Everything that a report page shows, from one reading of the totals."""

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

import msgspec

from gateway.finance.question import Query
from gateway.finance.reports.report import ReportTally
from gateway.ingress.pages.report_charts import time_key
from gateway.ingress.pages.report_reactions import reaction_keys
from gateway.ingress.pages.reports import (
    GROUP_BY_DEFAULT,
    PageReports,
    Suggestions,
    time_before,
)
from gateway.store.money.totals import Aside, TotalRow

SUGGESTIONS_MAX = 200  # of one field of the form

# Of the days from one to another, both counted.
Pages = Callable[[datetime.date, datetime.date], AsyncGenerator[list[TotalRow], None]]


def grouped(query: Query) -> Query:
    """As a page shows it: grouped by something."""
    return query if query.group_by else msgspec.structs.replace(query, group_by=(GROUP_BY_DEFAULT,))


async def read_page(
    query: Query, pages: Pages, tally: Callable[[Query], ReportTally], aside: Aside
) -> tuple[PageReports, Suggestions]:
    """Of a question that is grouped; what is computed is computed `aside`. Raises ReportFault."""
    earlier = time_before(query)
    tallies = [
        tally(msgspec.structs.replace(query, group_by=keys))
        for keys in (
            *(query.group_by, (), ("channel",), (time_key(query),)),
            *(reaction_keys(query), ("hour",)),
        )
    ]
    tallies.append(tally(msgspec.structs.replace(earlier, group_by=())))
    apps: set[str] = set()
    campaigns: set[str] = set()

    def add(totals: list[TotalRow]) -> None:
        for each in tallies:
            each.add(totals)
        shown = [row.group for row in totals if row.day >= query.from_day]
        apps.update(group.app for group in shown)
        campaigns.update(group.campaign for group in shown)

    def finish() -> tuple[PageReports, Suggestions]:
        reports = PageReports(*(each.report() for each in tallies))
        return reports, Suggestions(_suggested(apps), _suggested(campaigns))

    async with aclosing(pages(earlier.from_day, query.to_day)) as found:
        async for totals in found:
            await aside(partial(add, totals))
    return await aside(finish)


def _suggested(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in names if name)[:SUGGESTIONS_MAX])
