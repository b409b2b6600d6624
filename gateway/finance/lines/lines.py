"""The lines behind a report: what the ledger booked in money, one line an amount.

A booking may carry several amounts, and each is a line: what the provider charges (`cost`, or
`reverse` where it takes the whole charge back, or `adjust` by an accepted invoice) and what the app
is billed (`bill`). The sum of `cost`, `adjust` and `reverse` is the report's cost, that of `bill`
what it says was billed, to the last unit, under the same days and filters.

Lines come shard by shard, the oldest first in each. A place says where to go on: what is booked
meanwhile comes behind every place that was told, so pages neither shift nor repeat.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Literal, NamedTuple, Protocol, get_args

import msgspec
from msgspec.structs import replace

from gateway.core.archive.manifest import EntryId
from gateway.core.money.days import UTC_DAYS, Days
from gateway.core.money.money import format_amount
from gateway.core.money.months import NONE_CLOSED, ClosedMonths
from gateway.core.records.entries import NO_STEP, Group, LedgerEntry, Post
from gateway.core.views.words import rfc3339
from gateway.finance.question import BookingSelection, Query
from gateway.redis.client import RedisClient
from gateway.store.former_shards import shards_ever
from gateway.store.keys import keys_of
from gateway.store.money.ledger import (
    CLOCKS_DIFFER_MS,
    Reached,
    TrimmedError,
    before,
    before_first_since,
    pages_of_entries,
)
from gateway.store.money.months import closed_months
from gateway.store.money.totals import Aside, at_once

LineKind = Literal["cost", "bill", "adjust", "reverse", "reserve", "release"]
KINDS: tuple[str, ...] = get_args(LineKind)
AMOUNTS = ("cost", "billed")  # the measures that are lines
EVERY_AMOUNT = 2**31  # behind all amounts of an entry
_DAY = datetime.timedelta(days=1)
_BOOKED_FIRST = frozenset(("sent", "delivered", "double_delivered"))  # with a charge, not after it


class LedgerLine(msgspec.Struct, frozen=True):
    """One amount, in 1e-6 units. `list_amount` is what the price list makes of a charge, 0 of its
    later corrections; `parts` are those the amount is for. `reason`: why the amount is not the
    list's, or there at all, where that is not plain."""

    id: str
    at_ms: int
    kind: LineKind
    message: str | None
    step: int | None
    app: str
    campaign: str | None
    category: str
    route: str | None
    channel: str | None
    provider: str | None
    country: str | None
    parts: int | None
    amount: int
    list_amount: int | None
    currency: str
    reason: str | None


class LineView(msgspec.Struct, frozen=True):
    """One amount that was booked, as CONTRACT.md section 7 has it: decimal strings, RFC 3339."""

    id: str
    at: str
    kind: LineKind
    message: str | None
    step: int | None
    app: str
    campaign: str | None
    category: str
    route: str | None
    channel: str | None
    provider: str | None
    country: str | None
    parts: int | None
    amount: str
    list_amount: str | None
    currency: str
    reason: str | None

    @classmethod
    def of(cls, line: LedgerLine) -> LineView:
        noted = line.list_amount
        return cls(
            id=line.id,
            at=rfc3339(line.at_ms),
            kind=line.kind,
            message=line.message,
            step=line.step,
            app=line.app,
            campaign=line.campaign,
            category=line.category,
            route=line.route,
            channel=line.channel,
            provider=line.provider,
            country=line.country,
            parts=line.parts,
            amount=format_amount(line.amount),
            list_amount=None if noted is None else format_amount(noted),
            currency=line.currency,
            reason=line.reason,
        )


COLUMNS = LineView.__struct_fields__


class LinePlace(NamedTuple):
    """Where a line stands: its shard, its entry there, and the how-manieth amount of that it is."""

    shard: int
    entry_ms: int
    entry: int
    amount: int

    @property
    def post(self) -> int:
        """The how-manieth booking of its entry it is of."""
        return self.amount // len(AMOUNTS)

    @property
    def read_from(self) -> EntryId:
        """Behind which entry the lines after it stand."""
        if self.amount == EVERY_AMOUNT:
            return self.entry_ms, self.entry
        return before(self.entry_ms, self.entry)


class LinesPage(NamedTuple):
    """What one reading found, with the place of each line; `looked_at` is how many bookings it read
    for that, and `last` where it ended."""

    lines: list[tuple[LinePlace, LedgerLine]]
    looked_at: int
    last: LinePlace


class LinesQuery(msgspec.Struct, frozen=True):
    """Which lines: those of a report's days and filters, of these kinds (none: of every kind)."""

    report: Query
    kinds: frozenset[str] = frozenset()


class LinesWanted(msgspec.Struct, frozen=True):
    """A page of one shard's archived lines: behind a place, and of entries up to `through`. Of the
    query's days the first begins at `begins_ms`, and the last is over at `over_ms`."""

    shard: int
    after: LinePlace
    through: EntryId
    query: LinesQuery
    begins_ms: int
    over_ms: int
    zone: str


class ArchivedLines(Reached, Protocol):
    """What an archive says of the ledger's lines."""

    async def lines(self, wanted: LinesWanted) -> LinesPage:
        """One page of them; where its `last` is the end of `through`, there are no more."""


async def pages_of_lines(
    redis: RedisClient,
    shards: int,
    query: LinesQuery,
    currency: str,
    after: LinePlace | None = None,
    days: Days = UTC_DAYS,
    aside: Aside = at_once,
    archived: ArchivedLines | None = None,
) -> AsyncGenerator[LinesPage, None]:
    """The lines behind a place (None: from the first), of all shards there ever were, from the
    archive what it has; a page may have none. `currency` is that of an entry that names none.
    Raises RedisUnavailable and LedgerFault, and what the archive raises."""
    closed = await closed_months(redis, days)
    for shard in await shards_ever(redis, shards):
        if after is not None and shard < after.shard:
            continue
        since, known = None, None
        if after is not None and shard == after.shard:
            since, known = after.read_from, after
        else:
            begins_ms = days.begins_ms(query.report.from_day)
            since = await before_first_since(redis, keys_of(shard), begins_ms)
        if since is None:
            continue
        reader = _Reader(shard, query, BookingSelection(query.report), currency, days, closed)
        pages = reader.pages(
            redis, known or LinePlace(shard, *since, EVERY_AMOUNT), aside, archived
        )
        async with aclosing(pages):
            async for page in pages:
                yield page


class _Reader(msgspec.Struct, frozen=True):
    """What turns a shard's entries into lines."""

    shard: int
    query: LinesQuery
    selection: BookingSelection
    currency: str
    days: Days
    closed: ClosedMonths

    async def pages(
        self,
        redis: RedisClient,
        after: LinePlace,
        aside: Aside,
        archived: ArchivedLines | None,
    ) -> AsyncGenerator[LinesPage, None]:
        """Those behind a place, until the days that are asked for are over."""
        over_ms = self.days.begins_ms(self.query.report.to_day + _DAY)
        while True:
            entries = pages_of_entries(
                redis, self.shard, after.read_from, aside=aside, archived=archived
            )
            try:
                async with aclosing(entries):
                    async for booked in entries:
                        if not booked:
                            return
                        page = await aside(partial(self.page, booked, after))
                        yield page
                        after = page.last
                        if any(e.at_ms >= over_ms + 2 * CLOCKS_DIFFER_MS for _, e in booked):
                            return
                return
            except TrimmedError as trimmed:
                assert archived is not None
                end = LinePlace(self.shard, *trimmed.through, EVERY_AMOUNT)
                while after < end:
                    page = await archived.lines(self._wanted(after, trimmed.through, over_ms))
                    told = [(place, _as_late(line, self.closed)) for place, line in page.lines]
                    yield page._replace(lines=told)
                    after = page.last

    def _wanted(self, after: LinePlace, through: EntryId, over_ms: int) -> LinesWanted:
        begins_ms = self.days.begins_ms(self.query.report.from_day)
        return LinesWanted(
            self.shard, after, through, self.query, begins_ms, over_ms, self.days.zone
        )

    def page(
        self, booked: Sequence[tuple[EntryId, LedgerEntry]], after: LinePlace | None
    ) -> LinesPage:
        lines = [
            (place, line)
            for id_, entry in booked
            for place, line in self._lines(id_, entry)
            if after is None or place > after
        ]
        posts = sum(len(entry.posts) for _, entry in booked)
        return LinesPage(lines, posts, LinePlace(self.shard, *booked[-1][0], EVERY_AMOUNT))

    def _lines(self, id_: EntryId, entry: LedgerEntry) -> Iterator[tuple[LinePlace, LedgerLine]]:
        takes = partial(self.selection.takes, self.days.of(entry.at_ms))
        for place, line in lines_of(self.shard, id_, entry, self.currency, takes, self.closed):
            if not self.query.kinds or line.kind in self.query.kinds:
                yield place, line


def lines_of(
    shard: int,
    id_: EntryId,
    entry: LedgerEntry,
    currency: str,
    takes: Callable[[Group], bool] = lambda _: True,
    closed: ClosedMonths = NONE_CLOSED,
) -> Iterator[tuple[LinePlace, LedgerLine]]:
    """The amounts of one entry, of the groups that `takes` says; `currency` where it names none."""
    for number, post in enumerate(entry.posts):
        for which, measure in enumerate(AMOUNTS):
            amount = post.measures.get(measure)
            if amount is None or not takes(post.group):
                continue
            kind = _kind(post, measure, amount)
            place = LinePlace(shard, *id_, number * len(AMOUNTS) + which)
            line_id = f"{shard}-{id_[0]}-{id_[1]}-{number}-{kind}"
            line = _line(line_id, entry.at_ms, kind, post, amount, entry.currency or currency)
            yield place, _as_late(line, closed)


def _as_late(line: LedgerLine, closed: ClosedMonths) -> LedgerLine:
    """The line with what closed months say of it; it may have been archived before they did."""
    late = closed.late(line.message, line.at_ms)
    return line if late is None else replace(line, reason=late)


def _kind(post: Post, measure: str, amount: int) -> LineKind:
    if measure == "billed":
        return "bill"
    if post.invoice:
        return "adjust"
    taken_back = amount < 0 and post.note is not None and post.note.get("charged") == 0
    return "reverse" if taken_back else "cost"


def _line(
    id_: str, at_ms: int, kind: LineKind, post: Post, amount: int, currency: str
) -> LedgerLine:
    group, note = post.group, post.note or {}
    step = post.step if group.step == NO_STEP else group.step
    at_first = "loose" in note or not _BOOKED_FIRST.isdisjoint(post.measures)
    list_amount = None if kind == "bill" else note.get("list") if at_first else 0
    return LedgerLine(
        id=id_,
        at_ms=at_ms,
        kind=kind,
        message=post.message or None,
        step=None if step == NO_STEP else step,
        app=group.app,
        campaign=group.campaign or None,
        category=group.category,
        route=group.route or None,
        channel=group.channel or None,
        provider=group.provider or None,
        country=group.country or None,
        parts=post.measures.get("parts", note.get("parts")) if at_first else None,
        amount=amount,
        list_amount=list_amount,
        currency=currency,
        reason=_reason(post, kind, amount, list_amount),
    )


def _reason(post: Post, kind: LineKind, amount: int, list_amount: int | None) -> str | None:
    if kind == "bill":
        return None
    if kind == "adjust":
        return f"invoice:{post.invoice}"
    if kind == "reverse":
        return "not_charged"
    if "double_delivered" in post.measures:
        return "double_delivered"
    if post.note is not None and "loose" in post.note:
        return "loose_parts"
    return "receipt_price" if list_amount not in (None, amount) else None
