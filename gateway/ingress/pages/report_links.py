"""Where each number of the report leads: an amount to its lines, a count to its messages. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from urllib.parse import urlencode

from msgspec.structs import replace

from gateway.core.records.entries import OTHER_CAMPAIGNS
from gateway.finance.question import Query
from gateway.finance.reports.counted import COUNTS
from gateway.finance.reports.report import Cell

REPORT_PAGE = "/reports"
LINES_PAGE = "/reports/lines"
MESSAGES_PAGE = "/reports/messages"

# The kinds of lines behind a column.
AMOUNTS: Mapping[str, tuple[str, ...]] = {
    "cost": ("cost", "adjust", "reverse"),
    "billed": ("bill",),
}
_NOTHING = (None, 0, "0.0000")


def href(path: str, query: Query, *more: tuple[str, str]) -> str:
    """The address that asks this."""
    return f"{path}?{urlencode([*query.parameters(), *more], safe=',')}"


def links_of(query: Query, row: Mapping[str, Cell]) -> dict[str, str]:
    """By column, where the row's numbers lead; those of which there is nothing lead nowhere, and so
    do rows of what cannot be asked for."""
    asked = _of_row(query, row)
    if asked is None:
        return {}
    found = {
        column: href(LINES_PAGE, asked, *(("kind", kind) for kind in kinds))
        for column, kinds in AMOUNTS.items()
        if row[column] not in _NOTHING
    }
    return found | {
        column: href(MESSAGES_PAGE, asked, ("count", column))
        for column in COUNTS
        if row.get(column) not in _NOTHING
    }


def _of_row(query: Query, row: Mapping[str, Cell]) -> Query | None:
    """The question about one row of the answer."""
    asked = replace(query, group_by=())
    for key in query.group_by:
        value = row[key]
        if key == "campaign" and value is None:
            value = ""
        if value in (None, OTHER_CAMPAIGNS):
            return None
        others = tuple(pair for pair in asked.filters if pair[0] != key)
        if key == "day":
            day = datetime.date.fromisoformat(str(value))
            asked = replace(asked, from_day=day, to_day=day, filters=others)
        else:
            asked = replace(asked, filters=(*others, (key, str(value))))
    return asked
