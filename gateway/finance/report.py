"""The cost report: from the ledger's totals to rows and their sum, pure.

Here are CONTRACT.md section 7's columns, what may be asked, and every ratio;
`gateway.finance.formats` and `gateway.finance.table` write a report down.
Amounts are integers of 1e-6 currency units until `Figures.cells`. A question that cannot be
answered raises `ReportFault`, which names the parameter.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import get_args

import msgspec

from gateway.core import money
from gateway.core.channels import BASELINE_COLUMN, BASELINE_DEFAULT, CHANNELS
from gateway.core.effects import MEASURES
from gateway.core.phones import COUNTRIES
from gateway.core.records.entries import NO_STEP
from gateway.errors import CallerFault
from gateway.store.totals import Aside, TotalRow, at_once
from providers.contract import Category

# What it may be grouped and filtered by: a moment, and the fields of a Group.
KEYS = (
    *("day", "month", "app", "campaign", "variant", "category", "route", "step", "channel"),
    *("provider", "country"),
)
REQUEST_MEASURES = ("accepted", "duplicates", "suppressed")  # booked before there is a step
MESSAGE_MEASURES = (*REQUEST_MEASURES, "undelivered_messages")  # of no step
STEP_KEYS = frozenset(("step", "channel", "provider"))  # a message as a whole has none of these
MONTH_CHARS = len("2026-11")

DAYS_DEFAULT = 30
DAYS_MAX = 36_600  # a hundred years: a day without bookings costs a few microseconds to read
ROWS_MAX = 100_000
VALUE_CHARS_MAX = 128
FIRST_DAY = datetime.date(2000, 1, 1)
LAST_DAY = datetime.date(2999, 12, 31)

# Shown to people where anything came of what was sent.
CONVERSION_COLUMNS = ("conversions", "assisted", "revenue", "revenue_per_delivered")

_FIELDS = {BASELINE_COLUMN: "baseline_cost"}

_iso_day = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
# What a value looks like that there can be; a key that is left out takes any.
_POSSIBLE: Mapping[str, str] = {
    "day": r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
    "month": r"[0-9]{4}-(0[1-9]|1[0-2])",
    "category": "|".join(get_args(Category)),
    "step": r"0|[1-9][0-9]{0,2}",
    "channel": "|".join(map(re.escape, CHANNELS)),
    "country": "|".join(sorted(COUNTRIES | {"001"})),
}
_FORM: Mapping[str, str] = {
    "day": "written as in 2026-11-30",
    "month": "written as in 2026-11",
    "category": f"one of {', '.join(get_args(Category))}",
    "step": "a place in the steps of a message, the first is 0",
    "channel": f"one of {', '.join(CHANNELS)}",
    "country": "the two capital letters of a country, as in DE",
}

Cell = int | str | None


class ReportFault(CallerFault):
    """The question cannot be answered: `parameter` is the one to change, `detail` says how.
    `impossible`: it asks for something that there cannot be."""

    def __init__(self, parameter: str, detail: str, *, impossible: bool = False) -> None:
        super().__init__(detail)
        self.parameter = parameter
        self.detail = detail
        self.impossible = impossible


class Query(msgspec.Struct, frozen=True):
    """A question that can be answered. Both days are UTC and count; `filters` are (key, value):
    of each key one value must match.
    """

    from_day: datetime.date
    to_day: datetime.date
    group_by: tuple[str, ...] = ()
    filters: tuple[tuple[str, str], ...] = ()

    @property
    def counts_messages(self) -> bool:
        """Whether whole messages can be told apart as finely as asked: they have no step, channel
        or provider.
        """
        return STEP_KEYS.isdisjoint((*self.group_by, *(key for key, _ in self.filters)))

    def parameters(self) -> list[tuple[str, str]]:
        """The question as `parse_query` reads it."""
        days = [("from", self.from_day.isoformat()), ("to", self.to_day.isoformat())]
        return [*days, ("group_by", ",".join(self.group_by)), *self.filters]


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


class Line(msgspec.Struct, frozen=True):
    """One row: its keys in the order of `group_by` (None: it has none, such as no campaign) and
    its sums.
    """

    keys: tuple[Cell, ...]
    figures: Figures


class Report(msgspec.Struct, frozen=True):
    """The answer. `total` is the sum of the lines to the last unit; its ratios come from the sums.
    `baseline` is the channel that was compared with.
    """

    query: Query
    currency: str
    lines: tuple[Line, ...]
    total: Figures
    baseline: str = BASELINE_DEFAULT

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
        return figures.cells(self.currency, messages=self.query.counts_messages)


class Tally:
    """Adds up totals under one question; takes any number of `add` calls, holds only the sums.

    Raises ReportFault when the answer would have more than ROWS_MAX rows.
    """

    def __init__(self, query: Query, currency: str, baseline: str = BASELINE_DEFAULT) -> None:
        self._query = query
        self._currency = currency
        self._baseline = baseline
        self._sums: dict[tuple[str | int, ...], dict[str, int]] = {}
        self._wanted: dict[str, set[str]] = {}
        for key, value in query.filters:
            self._wanted.setdefault(key, set()).add(value)

    def add(self, rows: Iterable[TotalRow]) -> None:
        query, messages = self._query, self._query.counts_messages
        for row in rows:
            if not query.from_day <= row.day <= query.to_day:
                continue
            if not messages and row.measure in MESSAGE_MEASURES:
                continue
            if any(str(_value_in(row, key)) not in values for key, values in self._wanted.items()):
                continue
            if row.amount:
                sums = self._sums_of(row)
                sums[row.measure] = sums.get(row.measure, 0) + row.amount

    def _sums_of(self, row: TotalRow) -> dict[str, int]:
        keys = tuple(_value_in(row, key) for key in self._query.group_by)
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
            lines.append(Line(tuple(map(_cell, keys)), Figures.of(sums)))
        return Report(self._query, self._currency, tuple(lines), Figures.of(total), self._baseline)


def _cell(value: str | int) -> Cell:
    """A key as a row has it: nothing where it does not apply."""
    return None if value in ("", NO_STEP) else value


def _value_in(row: TotalRow, key: str) -> str | int:
    if key == "day":
        return row.day.isoformat()
    if key == "month":
        return row.day.isoformat()[:MONTH_CHARS]
    value: str | int = getattr(row.group, key)
    return value


def build(
    rows: Iterable[TotalRow], query: Query, currency: str, baseline: str = BASELINE_DEFAULT
) -> Report:
    """The report of some totals; those outside the question's days and filters do not count.

    Rows are sorted by their keys. Without `group_by` there is one row, or none when nothing was
    booked. Raises ReportFault for more than ROWS_MAX rows.
    """
    tally = Tally(query, currency, baseline)
    tally.add(rows)
    return tally.report()


async def cost_report(
    pages: AsyncGenerator[list[TotalRow], None],
    query: Query,
    currency: str,
    baseline: str = BASELINE_DEFAULT,
    aside: Aside = at_once,
) -> Report:
    """As `build`, for totals that come a page at a time; added up `aside`."""
    tally = Tally(query, currency, baseline)
    async with aclosing(pages):
        async for rows in pages:
            await aside(partial(tally.add, rows))
    return await aside(tally.report)


def parse_query(parameters: Iterable[tuple[str, str]], today: datetime.date) -> Query:
    """The question in (name, value) pairs: `from`, `to`, `group_by`, and filters by any of KEYS.

    `group_by` may be repeated and holds names between commas. A filter may be repeated: any of its
    values matches. `campaign` may be empty: what was sent without one. The days default to the last
    DAYS_DEFAULT up to `to`, and `to` to `today`.
    Raises ReportFault.
    """
    given: dict[str, str] = {}
    group_by: list[str] = []
    filters: list[tuple[str, str]] = []
    for name, value in parameters:
        if name == "group_by":
            group_by += [key for part in value.split(",") if (key := part.strip())]
        elif name in KEYS:
            filters.append((name, _value(name, value)))
        elif name not in ("from", "to"):
            known = ", ".join(("from", "to", "group_by", *KEYS))
            detail = f"There is no parameter {name[:40]!r}; there are: {known}."
            raise ReportFault(name, detail, impossible=True)
        elif name in given:
            raise ReportFault(name, f"The parameter {name!r} is given twice: give it once.")
        else:
            given[name] = value
    from_day, to_day = _days(given, today)
    return Query(from_day, to_day, _group_by(group_by), tuple(dict.fromkeys(filters)))


def _days(given: Mapping[str, str], today: datetime.date) -> tuple[datetime.date, datetime.date]:
    to_day = _day("to", given["to"]) if "to" in given else today
    if "from" in given:
        from_day = _day("from", given["from"])
    else:
        from_day = max(to_day - datetime.timedelta(days=DAYS_DEFAULT - 1), FIRST_DAY)
    if from_day > to_day:
        raise ReportFault(
            "from", f"The report would begin on {from_day} and end before, on {to_day}: swap them."
        )
    days = (to_day - from_day).days + 1
    if days > DAYS_MAX:
        raise ReportFault(
            "from", f"{from_day} to {to_day} are {days} days: ask for {DAYS_MAX} at most."
        )
    return from_day, to_day


def _day(name: str, text: str) -> datetime.date:
    try:
        day = datetime.date.fromisoformat(text) if _iso_day(text) else None
    except ValueError:
        day = None
    if day is None or not FIRST_DAY <= day <= LAST_DAY:
        raise ReportFault(
            name, f"{text[:40]!r} is no day from {FIRST_DAY} on: write it as in 2026-11-30."
        )
    return day


def _group_by(keys: list[str]) -> tuple[str, ...]:
    for position, key in enumerate(keys):
        if key not in KEYS:
            detail = f"A report has no key {key[:40]!r}; its keys are: {', '.join(KEYS)}."
            raise ReportFault("group_by", detail, impossible=True)
        if key in keys[:position]:
            raise ReportFault("group_by", f"The key {key!r} is named twice: name it once.")
    return tuple(keys)


def _value(name: str, value: str) -> str:
    if not value and name != "campaign":
        raise ReportFault(name, f"The parameter {name!r} is empty: name one, or leave it out.")
    if len(value) > VALUE_CHARS_MAX:
        raise ReportFault(name, f"The parameter {name!r} is longer than {VALUE_CHARS_MAX}.")
    if name in _POSSIBLE and not re.fullmatch(_POSSIBLE[name], value):
        detail = f"There can be no {name} {value[:40]!r}: it is {_FORM[name]}."
        raise ReportFault(name, detail, impossible=True)
    return value
