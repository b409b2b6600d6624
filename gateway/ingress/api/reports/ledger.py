"""`GET /v1/ledger`: the lines behind a report's amounts.

The same days, filters and scopes as the cost report, and a page at a time. A page may be short, or
empty, and still have a cursor: one request reads so much of the ledger and no more. What is booked
meanwhile stands behind every cursor that was given out.

A question that cannot be answered is a 422, and a 400 where it asks for something that cannot be;
one about another app is a 403 where only the own may be seen. RedisUnavailable and LedgerFault go
to the app.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from gateway.core.policy import Policy
from gateway.finance.lines.lines import (
    KINDS,
    ArchivedLines,
    LinePlace,
    LinesQuery,
    LineView,
    pages_of_lines,
)
from gateway.finance.question import ReportFault, parse_query
from gateway.ingress.api.bodies.parameters import LIMIT_DEFAULT, LIMIT_RULE, is_limit
from gateway.ingress.api.reports.report_questions import (
    Pairs,
    app_seen,
    pairs_of,
    refusal,
    take_out,
)
from gateway.ingress.api.searches import Searches
from gateway.ingress.http.asgi import PRIVATE, to_json
from gateway.ingress.http.auth import Principal
from gateway.ingress.http.request import Request
from gateway.redis.client import RedisClient
from gateway.store.money.totals import Aside

BOOKINGS_MAX = 100_000  # that one request looks at
LOOKS_MAX = 4  # at once in a worker

_place = re.compile(r"([0-9]{1,4})\.([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,10})").fullmatch


class LinesView(msgspec.Struct, frozen=True):
    """Shard by shard, the oldest first in each; `next` is the cursor of the page after it, which
    may be empty."""

    items: list[LineView]
    next: str | None


class BookingsAsked(NamedTuple):
    """A page of lines: which, how many, and behind which place."""

    query: LinesQuery
    limit: int
    after: LinePlace | None


class LedgerEndpoint:
    """Answers for the ledger's lines. `now_ms` is the edge's clock."""

    def __init__(
        self,
        redis: RedisClient,
        shards: int,
        policy: Policy,
        now_ms: Callable[[], int],
        aside: Aside,
        archived: ArchivedLines,
    ) -> None:
        self._redis = redis
        self._shards = shards
        self._currency, self._days = policy.currency, policy.days
        self._now_ms = now_ms
        self._aside = aside
        self._archived = archived
        self._looks = Searches(LOOKS_MAX, "ledger lines")

    async def lines(self, request: Request) -> None:
        page = await self.page(self.read(request))
        await request.respond(200, to_json(page), PRIVATE)

    def read(self, request: Request) -> BookingsAsked:
        """What the parameters ask for, of what the key may see. Raises Refusal."""
        try:
            return self._asked(pairs_of(request), request.principal)
        except ReportFault as fault:
            raise refusal(fault) from None

    def _asked(self, pairs: Pairs, principal: Principal) -> BookingsAsked:
        others, limit, after = _page_asked(pairs)
        others, kinds = take_out(others, "kind", KINDS)
        query = parse_query(others, self._days.of(self._now_ms()))
        if query.group_by:
            raise ReportFault("group_by", "Lines are not grouped.", impossible=True)
        app = app_seen(principal, query)
        if app is not None:
            query = msgspec.structs.replace(query, filters=(*query.filters, ("app", app)))
        return BookingsAsked(LinesQuery(query, frozenset(kinds)), limit, after)

    async def page(self, asked: BookingsAsked) -> LinesView:
        """One page. Raises Refusal, RedisUnavailable and LedgerFault."""
        query, limit, after = asked
        found: list[LineView] = []
        looked_at = 0
        pages = pages_of_lines(
            self._redis,
            self._shards,
            query,
            self._currency,
            after,
            self._days,
            self._aside,
            self._archived,
        )
        with self._looks.one():
            async with aclosing(pages):
                async for page in pages:
                    looked_at += page.looked_at
                    for place, line in page.lines:
                        if len(found) == limit:
                            return LinesView(found, _cursor(after))
                        found.append(LineView.of(line))
                        after = place
                    if looked_at >= BOOKINGS_MAX:
                        return LinesView(found, _cursor(page.last))
        return LinesView(found, None)


def _page_asked(asked: Pairs) -> tuple[Pairs, int, LinePlace | None]:
    """The other parameters, how many lines, and behind which place. Raises ReportFault."""
    asked, limits = take_out(asked, "limit")
    asked, cursors = take_out(asked, "cursor")
    for name, values in (("limit", limits), ("cursor", cursors)):
        if len(values) > 1:
            raise ReportFault(name, f"The parameter {name!r} is given twice: give it once.")
    limit = limits[0] if limits else str(LIMIT_DEFAULT)
    if not is_limit(limit):
        raise ReportFault("limit", LIMIT_RULE, impossible=True)
    return asked, int(limit), _place_of(cursors[0]) if cursors else None


def _cursor(place: LinePlace | None) -> str | None:
    return None if place is None else ".".join(map(str, place)).encode().hex()


def _place_of(cursor: str) -> LinePlace:
    try:
        found = _place(bytes.fromhex(cursor).decode("ascii"))
    except ValueError:
        found = None
    if found is None:
        raise ReportFault("cursor", "This is no cursor: give `next` of a page.", impossible=True)
    return LinePlace(*map(int, found.groups()))
