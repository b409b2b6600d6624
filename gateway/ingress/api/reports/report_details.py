"""What stands behind a number of the report page: lines of the ledger, the messages that a count is
of, and what happened to one of them. For people, with the key as on `/reports`.

None of these pages says to whom a message went, nor what it said. A message of another app needs
the scope `report-all`; else it is a 404, as if there were none.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gateway.core.views.message import timeline_of
from gateway.finance.question import ReportFault, parse_query
from gateway.finance.reports.counted import COUNTS, CountedMessages
from gateway.ingress.api.messages.shown import shown
from gateway.ingress.api.reports.ledger import LedgerEndpoint
from gateway.ingress.api.reports.report_questions import (
    Pairs,
    app_seen,
    pairs_of,
    refusal,
    take_out,
)
from gateway.ingress.api.searches import Searches
from gateway.ingress.archived import ArchiveReader, message_anywhere
from gateway.ingress.http.asgi import HTML, PRIVATE
from gateway.ingress.http.problems import refuse
from gateway.ingress.http.request import Request
from gateway.ingress.pages.report_details import (
    CONTENT_SECURITY_POLICY,
    lines_page,
    message_page,
    messages_page,
)
from gateway.store.messages.message_search import search
from gateway.store.messages.person_index import IndexPlace
from gateway.store.store import Store

ROWS_A_PAGE = 200
LOOKS_MAX = 4  # at once in a worker

_POLICY = (b"content-security-policy", CONTENT_SECURITY_POLICY.encode())
_place = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,4})\.([0-9]{1,6})").fullmatch


class ReportDetails:
    """Answers for the pages behind the report. `now_ms` is the edge's clock."""

    def __init__(
        self,
        store: Store,
        ledger: LedgerEndpoint,
        archived: ArchiveReader,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._archived = archived
        self._ledger = ledger
        self._now_ms = now_ms
        self._looks = Searches(LOOKS_MAX, "messages behind a count")

    async def lines(self, request: Request) -> None:
        asked = self._ledger.read(request)
        found = await self._ledger.page(asked)
        await _respond(request, lines_page(asked.query, found.items, found.next))

    async def messages(self, request: Request) -> None:
        policy = self._store.policy
        try:
            others, counts = take_out(pairs_of(request), "count", tuple(COUNTS))
            others, before = _before(others)
            query = parse_query(others, policy.days.of(self._now_ms()))
            if len(counts) != 1:
                raise ReportFault("count", f"Name one of: {', '.join(COUNTS)}.")
        except ReportFault as fault:
            raise refusal(fault) from None
        app = app_seen(request.principal, query)
        sought = CountedMessages.of(query, COUNTS[counts[0]], policy.days, app)
        with self._looks.one():
            page = await search(self._store, sought, ROWS_A_PAGE, before, self._archived)
        views = await shown(self._store, page.messages, self._now_ms())
        cursor = None if page.next is None else ".".join(map(str, page.next))
        await _respond(request, messages_page(query, counts[0], views, cursor))

    async def message(self, request: Request) -> None:
        message = await message_anywhere(self._store, self._archived, request.parameters["id"])
        principal = request.principal
        every = "report-all" in principal.scopes
        if message is None or not (every or message.app == principal.app):
            raise refuse("not-found", "There is no such message.")
        (view,) = await shown(self._store, [message], self._now_ms())
        await _respond(request, message_page(view, timeline_of(message).items))


def _before(asked: Pairs) -> tuple[Pairs, IndexPlace | None]:
    """The other parameters, and before which place to go on. Raises ReportFault."""
    others, cursors = take_out(asked, "cursor")
    if not cursors:
        return others, None
    found = _place(cursors[0])
    if found is None or len(cursors) > 1:
        raise ReportFault("cursor", "This is no cursor: follow the page's link.", impossible=True)
    return others, IndexPlace(*map(int, found.groups()))


async def _respond(request: Request, body: bytes) -> None:
    await request.respond(200, body, (*PRIVATE, _POLICY), HTML)
