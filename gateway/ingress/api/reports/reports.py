"""The cost report: `GET /v1/reports/cost` for programs, `GET /reports` for people.

The scope `report` shows the key's own app, `report-all` every app. The page takes the key as a
password of HTTP Basic, because a browser knows no bearer keys; with `format=csv` or `json` it gives
the page's data, and with `xlsx` a workbook, because a browser offers its key to no other address
unasked. A key in the address
is never read: addresses end up in logs and histories.

A report of many rows takes seconds to make, and a worker goes on taking messages meanwhile: all
that is computed is done `aside` of its loop.

A question that cannot be answered is a 422, and a 400 where it asks for something that cannot be;
on the page with the form as it was filled in. One about another app is a 403 where only the own may
be seen.
RedisUnavailable and LedgerFault go to the app.
"""

from __future__ import annotations

import codecs
import datetime
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial

import msgspec

from gateway.core.channels import BASELINE_COLUMN
from gateway.core.policy import Policy
from gateway.finance.extras import MissingExtra
from gateway.finance.question import (
    DAYS_DEFAULT,
    KEYS,
    VALUE_FORMS,
    Query,
    ReportFault,
    parse_query,
)
from gateway.finance.reports.formats import CSV_TYPE, XLSX_TYPE, file_name, to_csv, to_json
from gateway.finance.reports.report import RATE_COLUMNS, Report, ReportTally, cost_report
from gateway.finance.reports.workbook_child import WorkbookFailed, workbook_of
from gateway.ingress.api.reports.report_questions import Pairs, app_seen, choice, pairs_of, refusal
from gateway.ingress.http.asgi import HTML, JSON, PRIVATE
from gateway.ingress.http.problems import refuse
from gateway.ingress.http.request import Request
from gateway.ingress.http.route import Doc, Parameter, Payload
from gateway.ingress.pages.report_reading import grouped, read_page
from gateway.ingress.pages.reports import (
    CONTENT_SECURITY_POLICY,
    MEANINGS,
    PageReports,
    Suggestions,
    fault_page,
    report_page,
)
from gateway.redis.client import RedisClient
from gateway.store.money.totals import Aside, TotalRow, pages_of_totals

FORMATS = ("json", "csv")
PAGE_FORMATS = (*FORMATS, "xlsx")
SWITCHES = ("0", "1")

_POLICY = (b"content-security-policy", CONTENT_SECURITY_POLICY.encode())
_CSV = (b"content-type", CSV_TYPE.encode())
_XLSX = (b"content-type", XLSX_TYPE.encode())


class ReportEndpoints:
    """Answers for the cost report. `now_ms` is the edge's clock."""

    def __init__(
        self,
        redis: RedisClient,
        shards: int,
        policy: Policy,
        now_ms: Callable[[], int],
        aside: Aside,
    ) -> None:
        self._redis = redis
        self._shards = shards
        self._currency, self._baseline, self._days = policy.currency, policy.baseline, policy.days
        self._known = {
            "provider": frozenset((*policy.providers, *policy.former)),
            "route": frozenset(policy.routes),
        }
        self._now_ms = now_ms
        self._aside = aside

    async def cost(self, request: Request) -> None:
        try:
            await self._data(request, pairs_of(request), FORMATS)
        except ReportFault as fault:
            raise refusal(fault) from None

    async def page(self, request: Request) -> None:
        try:
            pairs = pairs_of(request)
            if any(name == "format" for name, _ in pairs):
                await self._data(request, pairs, PAGE_FORMATS)
                return
        except ReportFault as fault:
            raise refusal(fault) from None
        # A form sends its empty fields too.
        await self._page(request, [pair for pair in pairs if pair[1]])

    async def shared_page(self, query: Query, app: str | None, until: str) -> bytes:
        """The page of one question without its form and links, for who may see that alone."""
        query = grouped(query)
        reports, _ = await self._read(query, app)
        note = f"Shared to be read, until {until}."
        made = partial(report_page, query, reports, Suggestions(), self.today(), note=note)
        return await self._aside(made)

    async def _data(self, request: Request, pairs: Pairs, forms: Sequence[str]) -> None:
        others, bom = choice(pairs, "bom", SWITCHES)
        others, rates = choice(others, "rates", SWITCHES)
        others, chosen = choice(others, "format", forms)
        query = parse_query(others, self.today())
        app = app_seen(request.principal, query)
        pages = self._pages(app, query.from_day, query.to_day, hours=query.by_hour)
        zone = self._days.zone
        report = await cost_report(pages, query, self._currency, self._baseline, self._aside, zone)
        self._check_names(report)
        report = msgspec.structs.replace(report, rates=rates == "1")
        if chosen == "json":
            body = await self._aside(partial(to_json, report))
            await request.respond(200, body, PRIVATE, JSON)
            return
        name = f'attachment; filename="{file_name(report, chosen)}"'.encode()
        headers = (*PRIVATE, (b"content-disposition", name))
        if chosen == "xlsx":
            await request.respond(200, await self._workbook(report), headers, _XLSX)
            return
        mark = codecs.BOM_UTF8 if bom == "1" else b""
        body = await self._aside(partial(to_csv, report))
        await request.respond(200, mark + body, headers, _CSV)

    async def _workbook(self, report: Report) -> bytes:
        """Raises Refusal where none can be made here."""
        try:
            return await self._aside(partial(workbook_of, report))
        except (MissingExtra, WorkbookFailed) as fault:
            raise refuse("unavailable", str(fault)) from None

    async def _page(self, request: Request, pairs: Pairs) -> None:
        today = self.today()
        try:
            query = grouped(parse_query(pairs, today))
            app = app_seen(request.principal, query)
            reports, suggestions = await self._read(query, app)
            self._check_names(reports.rows)
            made = partial(report_page, query, reports, suggestions, today)
            status, body = 200, await self._aside(made)
        except ReportFault as fault:
            status, body = _status(fault), fault_page(fault, pairs, today)
        await request.respond(status, body, (*PRIVATE, _POLICY), HTML)

    async def _read(self, query: Query, app: str | None) -> tuple[PageReports, Suggestions]:
        return await read_page(
            query, partial(self._pages, app, hours=True), self._tally, self._aside
        )

    async def _pages(
        self, app: str | None, first: datetime.date, last: datetime.date, *, hours: bool
    ) -> AsyncGenerator[list[TotalRow], None]:
        """The totals of one app, or of all (None)."""
        pages = pages_of_totals(
            self._redis, self._shards, first, last, aside=self._aside, hours=hours
        )
        async with aclosing(pages):
            async for totals in pages:
                yield totals if app is None else await self._aside(partial(_of_app, app, totals))

    def _check_names(self, report: Report) -> None:
        """Nothing but zeros for a name that is mistyped would pass for an answer. One that is gone
        from the configuration is known by what was booked. Raises ReportFault."""
        for key, value in report.query.filters:
            known = self._known.get(key)
            if known is not None and value not in known and not report.lines:
                detail = f"No {key} {value[:40]!r} is configured, nor booked in these days."
                raise ReportFault(key, detail, impossible=True)

    def _tally(self, query: Query) -> ReportTally:
        return ReportTally(query, self._currency, self._baseline, self._days.zone)

    def today(self) -> datetime.date:
        """The day that a question without days ends with."""
        return self._days.of(self._now_ms())


def _of_app(app: str, totals: list[TotalRow]) -> list[TotalRow]:
    return [row for row in totals if row.group.app == app]


def _status(fault: ReportFault) -> int:
    return refusal(fault).problem.status


# --- what the OpenAPI document says of it ---

_COUNTS = (
    "accepted",
    "duplicates",
    "suppressed",
    "sent",
    "delivered",
    "double_delivered",
    "undelivered",
    "parts",
    "undelivered_messages",
    "seen",
    "clicked",
    "bot_clicks",
    "conversions",
    "assisted",
)
_AMOUNTS = (
    "cost",
    "billed",
    "cost_per_delivered",
    BASELINE_COLUMN,
    "saved",
    "saved_pct",
    "cost_per_click",
    "revenue",
    "revenue_per_delivered",
    *RATE_COLUMNS,
)
_DATE: Doc = {"type": "string", "format": "date"}


def _cells(names: Sequence[str], kind: str) -> Doc:
    """A row's cells of one type; of the grouped keys those that were asked for."""
    return {
        name: {"type": [kind, "null"], "description": MEANINGS.get(name, f"The {name}.")}
        for name in names
    }


_ROW: Doc = {
    "type": "object",
    "properties": {
        **_cells(KEYS + _AMOUNTS, "string"),
        **_cells(("hour", "step", *_COUNTS), "integer"),
        "currency": {"type": "string", "description": "The currency of every amount."},
    },
}
_TOTAL = {
    "accepted": 200,
    "duplicates": 3,
    "suppressed": 1,
    "sent": 231,
    "delivered": 196,
    "double_delivered": 0,
    "undelivered": 35,
    "undelivered_messages": 4,
    "seen": 310,
    "clicked": 40,
    "bot_clicks": 0,
    "parts": 196,
    "cost": "2.1480",
    "billed": "3.2080",
    "currency": "EUR",
    "cost_per_delivered": "0.010959",
    BASELINE_COLUMN: "7.8400",
    "saved": "5.6920",
    "saved_pct": "72.6",
    "cost_per_click": "0.053700",
    "conversions": 9,
    "assisted": 2,
    "revenue": "431.2000",
    "revenue_per_delivered": "2.200000",
}
COST_REPORT = Payload(
    text="The report.",
    media={
        "application/json": {
            "type": "object",
            "required": ["from", "to", "group_by", "zone", "rows", "total"],
            "properties": {
                "from": {**_DATE, "description": "The first day."},
                "to": {**_DATE, "description": "The last day."},
                "group_by": {
                    "type": "array",
                    "items": {"enum": list(KEYS)},
                    "description": "What the rows are grouped by, in this order.",
                },
                "zone": {"type": "string", "description": "Whose days count."},
                "rows": {"type": "array", "items": _ROW, "description": "One a group."},
                "total": {**_ROW, "description": "All rows as one."},
            },
        },
        "text/csv": {"type": "string"},
    },
    examples={
        "application/json": {
            "from": "2026-11-01",
            "to": "2026-11-30",
            "group_by": ["campaign"],
            "zone": "UTC",
            "rows": [{"campaign": "autumn-sale", **_TOTAL}],
            "total": _TOTAL,
        },
        "text/csv": "campaign,accepted,delivered\nautumn-sale,200,196\n",
    },
)
_FROM = Parameter(
    "from",
    "query",
    f"First day, of `[reports] zone`; if not given, so that it is {DAYS_DEFAULT} days.",
    _DATE,
)
_TO = Parameter("to", "query", "Last day, which counts; today if not given.", _DATE)


def _choices(values: Sequence[str]) -> Doc:
    return {"enum": list(values), "default": values[0]}


def _filter(name: str) -> Parameter:
    form = f", {VALUE_FORMS[name]}" if name in VALUE_FORMS else ""
    return Parameter(name, "query", f"Only this {name}{form}. Several times: any of these.")


_FILTERS = tuple(map(_filter, KEYS))
DAYS_AND_FILTERS = (_FROM, _TO, *_FILTERS)
COST_PARAMETERS = (
    _FROM,
    _TO,
    Parameter(
        "group_by",
        "query",
        f"Names between commas, of: {', '.join(KEYS)}.",
        {"type": "string", "examples": ["campaign,channel"]},
    ),
    Parameter("format", "query", "How it is written.", _choices(FORMATS)),
    Parameter(
        "bom",
        "query",
        "1: the CSV begins with a byte-order mark, by which some spreadsheets know UTF-8.",
        _choices(SWITCHES),
    ),
    Parameter(
        "rates",
        "query",
        "1: each row has its click rate as well, and the bounds of that.",
        _choices(SWITCHES),
    ),
    *_FILTERS,
)
