"""The pages behind a number of the report: lines, messages, and one message's timeline. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.core.views.message import HappeningView, MessageView
from gateway.finance.lines.lines import LinesQuery, LineView
from gateway.finance.question import Query
from gateway.ingress.pages.page import Page
from gateway.ingress.pages.report_links import LINES_PAGE, MESSAGES_PAGE, REPORT_PAGE, href

_page = Page("report_details", "img-src data:; ", styles=("base", "reports"))
CONTENT_SECURITY_POLICY = _page.content_security_policy

_NOTHING = "–"
_NUMBERS = frozenset(("parts", "amount", "list_amount", "billed", "cost", "attempts"))
_LINES = (
    *("at", "kind", "message", "step", "app", "campaign", "channel", "provider", "country"),
    *("parts", "amount", "list_amount", "currency", "reason"),
)
_STEPS = ("channel", "provider", "status", "attempts", "parts", "billed", "cost")
_HAPPENINGS = ("at", "event", "step", "channel", "provider", "detail")
_MESSAGES = ("id", "created_at", "app", "campaign", "category", "route", "status", "reason")


class DetailCell(msgspec.Struct, frozen=True):
    text: str
    number: bool = False
    href: str = ""


class DetailTable(msgspec.Struct, frozen=True):
    """Rows under a heading; each has a cell a column."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[DetailCell, ...], ...]


def lines_page(query: LinesQuery, lines: Sequence[LineView], cursor: str | None) -> bytes:
    """A page of the lines of a question; the next begins at `cursor`."""
    kinds = [("kind", kind) for kind in sorted(query.kinds)]
    more = href(LINES_PAGE, query.report, *kinds, ("cursor", cursor)) if cursor else ""
    what = ", ".join(sorted(query.kinds)) or "every kind"
    return _render("Ledger lines", query.report, what, (_table("Lines", _LINES, lines),), more)


def messages_page(
    query: Query, count: str, messages: Sequence[MessageView], cursor: str | None
) -> bytes:
    """A page of the messages that a count is of; the next begins at `cursor`."""
    asked = ("count", count)
    more = href(MESSAGES_PAGE, query, asked, ("cursor", cursor)) if cursor else ""
    table = _table("The newest first", _MESSAGES, messages)
    return _render("Messages", query, count.replace("_", " "), (table,), more)


def message_page(message: MessageView, happenings: Sequence[HappeningView]) -> bytes:
    """What happened to a message, and what its steps came to."""
    tables = (
        _table("Timeline", _HAPPENINGS, happenings),
        _table("Steps", _STEPS, message.steps),
    )
    what = ", ".join(
        (message.status, message.app, message.category, message.campaign or "no campaign")
    )
    return _render(f"Message {message.id}", None, what, tables, "")


def _render(
    title: str, query: Query | None, what: str, tables: Sequence[DetailTable], more: str
) -> bytes:
    return _page.render(
        title=title,
        query=query,
        what=what,
        tables=tables,
        more=more,
        report=href(REPORT_PAGE, query) if query is not None else REPORT_PAGE,
    )


def _table(heading: str, names: tuple[str, ...], rows: Sequence[msgspec.Struct]) -> DetailTable:
    cells = tuple(tuple(_cell(name, getattr(row, name)) for name in names) for row in rows)
    return DetailTable(heading, tuple(name.replace("_", " ").capitalize() for name in names), cells)


def _cell(name: str, value: object) -> DetailCell:
    if value is None:
        return DetailCell(_NOTHING, name in _NUMBERS)
    leads = name in ("message", "id")
    return DetailCell(str(value), name in _NUMBERS, f"{MESSAGES_PAGE}/{value}" if leads else "")
