"""`POST /v1/reports/shares`: a read-only link to one report, and the page it leads to.

Who has the link needs no key, and sees what the key that made it could see of that one question,
its days fixed, until the link ends: the page and nothing else. The secret is in the address's path
and nowhere else; its hash is all that is kept. A link that has ended and one that never was are the
same 404.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Mapping
from typing import Annotated
from urllib.parse import parse_qsl

import msgspec

from gateway.core.records.report_share import ReportShare
from gateway.core.views.words import rfc3339
from gateway.finance.question import Query, ReportFault, parse_query
from gateway.ingress.api.bodies.decoder import moment_ms, read_object, require_json
from gateway.ingress.api.reports.report_questions import PARAMETERS_MAX, Pairs, app_seen
from gateway.ingress.api.reports.reports import ReportEndpoints
from gateway.ingress.http.asgi import HTML, PRIVATE, TEXT, to_json
from gateway.ingress.http.problems import Refusal, RequestFault, invalid
from gateway.ingress.http.request import Request
from gateway.ingress.pages.reports import CONTENT_SECURITY_POLICY
from gateway.redis.client import RedisClient
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.money import report_shares

PATH = "/shared"
BODY_BYTES_MAX = 16_384
SECRET_BYTES = 24
EXAMPLE = {
    "query": "from=2026-11-01&to=2026-11-30&group_by=channel&campaign=autumn",
    "expires_at": "2026-12-31T00:00:00Z",
}
ENDED = b"This link has ended, or there never was one. Ask whoever gave it to you for a new one.\n"
_HEADERS = (
    *PRIVATE,
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-robots-tag", b"noindex"),
)
_SHOWN = msgspec.json.encode(EXAMPLE).decode()
_Values = str | list[str]


class ShareRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which report is shown, and how long."""

    query: Annotated[
        str | dict[str, _Values],
        msgspec.Meta(description="As GET /v1/reports/cost takes it: a text, or its parameters."),
    ]
    expires_at: Annotated[
        datetime.datetime,
        msgspec.Meta(tz=True, description="When the link ends: RFC 3339, in the future."),
    ]


class ShareView(msgspec.Struct, frozen=True):
    """The link; it is told this once."""

    url: str
    expires_at: str


class ReportShareEndpoints:
    """Makes links and shows what they lead to. `now_ms` is the edge's clock."""

    def __init__(
        self,
        redis: RedisClient,
        reports: ReportEndpoints,
        public_url: str,
        now_ms: Callable[[], int],
    ) -> None:
        self._redis = redis
        self._reports = reports
        self._public_url = public_url
        self._now_ms = now_ms

    async def make(self, request: Request) -> None:
        require_json(request)
        asked = read_object(ShareRequest, await request.body(BODY_BYTES_MAX), _SHOWN)
        until_ms, now_ms = moment_ms(asked.expires_at), self._now_ms()
        if until_ms <= now_ms:
            raise Refusal(invalid([RequestFault("/expires_at", "Give a moment in the future.")]))
        try:
            query = parse_query(_pairs(asked.query), self._reports.today())
        except ReportFault as fault:
            raise Refusal(invalid([RequestFault("/query", fault.detail)])) from None
        named = request.principal.named
        share = ReportShare(
            named,
            until_ms,
            query.from_day,
            query.to_day,
            query.group_by,
            query.filters,
            app_seen(request.principal, query),
        )
        secret = secrets.token_urlsafe(SECRET_BYTES)
        await report_shares.keep(self._redis, secret, share, now_ms)
        until = rfc3339(until_ms)
        deed = Deed(now_ms, named, "report.share", detail=f"until {until}")
        await audit.note(self._redis, deed)
        url = f"{self._public_url}{PATH}/{secret}"
        await request.respond(200, to_json(ShareView(url, until)), PRIVATE)

    async def show(self, request: Request) -> None:
        secret = request.parameters["secret"]
        share = await report_shares.find(self._redis, secret, self._now_ms())
        if share is None:
            await request.respond(404, ENDED, PRIVATE, TEXT)
            return
        query = Query(share.from_day, share.to_day, share.group_by, share.filters)
        page = await self._reports.shared_page(query, share.app, rfc3339(share.until_ms)[:10])
        await request.respond(200, page, _HEADERS, HTML)


def _pairs(query: str | Mapping[str, _Values]) -> Pairs:
    """Raises ReportFault."""
    if not isinstance(query, str):
        return [
            (name, value)
            for name, values in query.items()
            for value in ([values] if isinstance(values, str) else values)
        ]
    try:
        return parse_qsl(query.lstrip("?"), keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
    except ValueError:
        raise ReportFault("", f"It has more than {PARAMETERS_MAX} parameters.") from None
