"""The cost report: from the ledger's totals to rows and their sum, pure.

Here are CONTRACT.md section 7's columns and every ratio; `gateway.finance.question` says what may
be asked, `gateway.finance.reports.formats` and `gateway.finance.reports.table` write a report down.
Amounts are integers of 1e-6 currency units until `Figures.cells`. A question that cannot be
answered raises `ReportFault`, which names the parameter.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import NamedTuple

import msgspec

from gateway.core.channels import BASELINE_COLUMN, BASELINE_DEFAULT
from gateway.core.effects import MEASURES
from gateway.core.money import money
from gateway.core.people.rates import MILLION, interval
from gateway.core.records.entries import NO_STEP
from gateway.finance.question import BookingSelection, Query, ReportFault, value_in
from gateway.store.money.totals import Aside, TotalRow, at_once

REQUEST_MEASURES = ("accepted", "duplicates", "suppressed")  # booked before there is a step
MESSAGE_MEASURES = (*REQUEST_MEASURES, "undelivered_messages")  # of no step
ROWS_MAX = 100_000

# Shown to people where anything came of what was sent.
CONVERSION_COLUMNS = ("conversions", "assisted", "revenue", "revenue_per_delivered")

# Behind the others, where they are asked for.
RATE_COLUMNS = ("click_pct", "click_pct_low", "click_pct_high")

_FIELDS = {BASELINE_COLUMN: "baseline_cost"}

Cell = int | str | None


class ClickRate(NamedTuple):
    """The share of delivered steps, those beside another of their leg too, of which people followed
    a link, between the bounds within which it lies 19 times of 20; in millionths."""

    low: int
    rate: int
    high: int


class Figures(msgspec.Struct, frozen=True):
    """The sums of one row: counts, parts, and amounts in 1e-6 currency units. `baseline_cost` is
    what the same messages would have cost on the baseline's channel; `cost_not_compared` is the
    part of the cost that was spent on messages it says nothing of. `revenue` is what conversions
    were worth to the app, corrections taken off."""

    accepted: int = 0
    duplicates: int = 0
    suppressed: int = 0
    sent: int = 0
    delivered: int = 0
    double_delivered: int = 0
    undelivered: int = 0
    parts: int = 0
    cost: int = 0
    billed: int = 0
    baseline_cost: int = 0
    cost_not_compared: int = 0
    undelivered_messages: int = 0
    seen: int = 0
    clicked: int = 0
    bot_clicks: int = 0
    conversions: int = 0
    assisted: int = 0
    revenue: int = 0

    @classmethod
    def of(cls, sums: Mapping[str, int]) -> Figures:
        """The sums of measures, by their names in the ledger."""
        return cls(**{_FIELDS.get(measure, measure): amount for measure, amount in sums.items()})

    @property
    def converted(self) -> bool:
        """Whether anything came of what was sent."""
        return bool(self.conversions or self.assisted or self.revenue)

    @property
    def saved(self) -> int:
        return self.baseline_cost - (self.cost - self.cost_not_compared)

    @property
    def cost_per_delivered(self) -> str | None:
        return money.cost_per(self.cost, self.delivered)

    @property
    def cost_per_click(self) -> str | None:
        return money.cost_per(self.cost, self.clicked)

    @property
    def revenue_per_delivered(self) -> str | None:
        return money.cost_per(self.revenue, self.delivered)

    @property
    def saved_pct(self) -> str | None:
        return money.saved_pct(self.saved, self.baseline_cost)

    @property
    def click_rate(self) -> ClickRate | None:
        """None where nothing was delivered."""
        arrived = self.delivered + self.double_delivered
        if arrived <= 0:
            return None
        clicked = max(min(self.clicked, arrived), 0)
        low, high = interval(clicked / arrived, arrived)
        return ClickRate(low, clicked * MILLION // arrived, high)

    def rates(self) -> dict[str, Cell]:
        """The click rate and its bounds in per cent, in the order of RATE_COLUMNS."""
        rate = self.click_rate
        shares = (None, None, None) if rate is None else (rate.rate, rate.low, rate.high)
        return {
            name: None if share is None else money.ratio(100 * share, MILLION, 2)
            for name, share in zip(RATE_COLUMNS, shares, strict=True)
        }

    def cells(self, currency: str, *, messages: bool) -> dict[str, Cell]:
        """Everything of a row but its keys, in the order of the columns; amounts as decimal
        strings.
        """
        row: dict[str, Cell] = {}
        if messages:
            row |= {name: getattr(self, name) for name in REQUEST_MEASURES}
        row |= {
            "sent": self.sent,
            "delivered": self.delivered,
            "double_delivered": self.double_delivered,
            "undelivered": self.undelivered,
            "parts": self.parts,
            "cost": money.format_amount(self.cost),
            "billed": money.format_amount(self.billed),
            "currency": currency,
            "cost_per_delivered": self.cost_per_delivered,
            BASELINE_COLUMN: money.format_amount(self.baseline_cost),
            "saved": money.format_amount(self.saved),
            "saved_pct": self.saved_pct,
        }
        if messages:
            row["undelivered_messages"] = self.undelivered_messages
        return row | {
            "seen": self.seen,
            "clicked": self.clicked,
            "bot_clicks": self.bot_clicks,
            "cost_per_click": self.cost_per_click,
            "conversions": self.conversions,
            "assisted": self.assisted,
            "revenue": money.format_amount(self.revenue),
            "revenue_per_delivered": self.revenue_per_delivered,
        }


class ReportLine(msgspec.Struct, frozen=True):
    """One row: its keys in the order of `group_by` (None: it has none, such as no campaign) and
    its sums.
    """

    keys: tuple[Cell, ...]
    figures: Figures


class Report(msgspec.Struct, frozen=True):
    """The answer. `total` is the sum of the lines to the last unit; its ratios come from the sums.
    `baseline` is the channel that was compared with, `zone` the one whose days count; `rates`: each
    row has its click rate too.
    """

    query: Query
    currency: str
    lines: tuple[ReportLine, ...]
    total: Figures
    baseline: str = BASELINE_DEFAULT
    zone: str = "UTC"
    rates: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.query.group_by, *self.total_row())

    def rows(self) -> list[dict[str, Cell]]:
        return [
            {**dict(zip(self.query.group_by, line.keys, strict=True)), **self._cells(line.figures)}
            for line in self.lines
        ]

    def total_row(self) -> dict[str, Cell]:
        """As a row, without keys."""
        return self._cells(self.total)

    def _cells(self, figures: Figures) -> dict[str, Cell]:
        cells = figures.cells(self.currency, messages=self.query.counts_messages)
        return cells | figures.rates() if self.rates else cells


class ReportTally:
    """Adds up totals under one question; takes any number of `add` calls, holds only the sums.

    Raises ReportFault when the answer would have more than ROWS_MAX rows.
    """

    def __init__(
        self, query: Query, currency: str, baseline: str = BASELINE_DEFAULT, zone: str = "UTC"
    ) -> None:
        self._query = query
        self._currency = currency
        self._baseline = baseline
        self._zone = zone
        self._sums: dict[tuple[str | int, ...], dict[str, int]] = {}
        self._selection = BookingSelection(query)

    def add(self, rows: Iterable[TotalRow]) -> None:
        messages = self._query.counts_messages
        for row in rows:
            if not messages and row.measure in MESSAGE_MEASURES:
                continue
            if row.amount and self._selection.takes(row.day, row.group):
                sums = self._sums_of(row)
                sums[row.measure] = sums.get(row.measure, 0) + row.amount

    def _sums_of(self, row: TotalRow) -> dict[str, int]:
        keys = tuple(value_in(row.day, row.group, key) for key in self._query.group_by)
        sums = self._sums.get(keys)
        if sums is None:
            if len(self._sums) == ROWS_MAX:
                raise ReportFault(
                    "group_by",
                    f"The report would have more than {ROWS_MAX} rows: group by fewer keys, or "
                    "ask for fewer days.",
                )
            sums = self._sums[keys] = {}
        return sums

    def report(self) -> Report:
        total = dict.fromkeys(MEASURES, 0)
        lines = []
        for keys in sorted(self._sums):
            sums = self._sums[keys]
            for measure, amount in sums.items():
                total[measure] += amount
            lines.append(ReportLine(tuple(map(_cell, keys)), Figures.of(sums)))
        figures = Figures.of(total)
        return Report(
            self._query, self._currency, tuple(lines), figures, self._baseline, self._zone
        )


def _cell(value: str | int) -> Cell:
    """A key as a row has it: nothing where it does not apply."""
    return None if value in ("", NO_STEP) else value


def build(
    rows: Iterable[TotalRow], query: Query, currency: str, baseline: str = BASELINE_DEFAULT
) -> Report:
    """The report of some totals; those outside the question's days and filters do not count.

    Rows are sorted by their keys. Without `group_by` there is one row, or none when nothing was
    booked. Raises ReportFault for more than ROWS_MAX rows.
    """
    tally = ReportTally(query, currency, baseline)
    tally.add(rows)
    return tally.report()


async def cost_report(
    pages: AsyncGenerator[list[TotalRow], None],
    query: Query,
    currency: str,
    baseline: str = BASELINE_DEFAULT,
    aside: Aside = at_once,
    zone: str = "UTC",
) -> Report:
    """As `build`, for totals that come a page at a time; added up `aside`."""
    tally = ReportTally(query, currency, baseline, zone)
    async with aclosing(pages):
        async for rows in pages:
            await aside(partial(tally.add, rows))
    return await aside(tally.report)
