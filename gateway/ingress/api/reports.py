"""The cost report over HTTP: `GET /v1/reports/cost` for programs, `GET /reports` for people.

Owns how a question is read from an address and how the answer is sent. Plain ASGI that awaits
only the link, so it knows no framework and no loop; keys, the clock and the writing of problems
are the ingress's, which gives the first two in `FinanceDeps` and answers what is raised here:
ReportFault (422), StoreUnavailable (503), LedgerFault (500) and the refusals of `authorise`.
Methods are GET and HEAD; the caller refuses others.

Whoever has the scope `report` sees every app: the bill is one. A browser knows no bearer keys, so
`/reports` takes HTTP Basic with the API key as the password and any user name; with `format=csv`
or `json` it gives the page's data, because a browser offers its key to no other address unasked.
A key in the address is never read: addresses end up in logs and histories.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from gateway.finance.formats import CSV_TYPE, JSON_TYPE, csv_name, to_csv, to_json
from gateway.finance.report import Query, ReportFault, Tally, cost_report, parse_query
from gateway.ingress.pages.reports import (
    CONTENT_SECURITY_POLICY,
    GROUP_BY_DEFAULT,
    PATH,
    Answers,
    Choices,
    fault_page,
    report_page,
)
from gateway.redis.client import Link
from gateway.store.totals import pages_of_totals
from gateway.store.writes import day_of

API_PATH = "/v1/reports/cost"
PARAMETERS_MAX = 32
CHOICES_MAX = 200  # suggestions of one field of the form
FORMATS = ("json", "csv")

Headers = Sequence[tuple[bytes, bytes]]
Parameters = list[tuple[str, str]]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_AUTHORIZATION = b"authorization"
_PRIVATE = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_CHALLENGE = (b"www-authenticate", b'Basic realm="Kaskad reports", charset="UTF-8"')
_ASK_FOR_KEY = (
    b"Give an API key with the scope report as the password; the user name does not matter.\n"
)


class FinanceDeps(msgspec.Struct, frozen=True):
    """What the ingress lends. `authorise` takes the request's headers, wants a bearer key with
    the scope `report`, and raises one of `refusals` for any other; `now_ms` is the clock.
    """

    link: Link
    shards: int
    currency: str
    authorise: Callable[[Headers], Awaitable[object]]
    refusals: tuple[type[Exception], ...]
    now_ms: Callable[[], int]


def endpoints(deps: FinanceDeps) -> dict[str, App]:
    """The ASGI application of each path."""

    async def cost(scope: Scope, _receive: Receive, send: Send) -> None:
        await _cost(deps, scope, send)

    async def page(scope: Scope, _receive: Receive, send: Send) -> None:
        await _reports(deps, scope, send)

    return {API_PATH: cost, PATH: page}


async def _cost(deps: FinanceDeps, scope: Scope, send: Send) -> None:
    await deps.authorise(scope["headers"])
    await _answer_data(deps, _parameters(scope), send)


async def _answer_data(deps: FinanceDeps, parameters: Parameters, send: Send) -> None:
    others, chosen = _format(parameters)
    query = parse_query(others, day_of(deps.now_ms()))
    pages = pages_of_totals(deps.link, deps.shards, query.from_day, query.to_day)
    report = await cost_report(pages, query, deps.currency)
    if chosen == "json":
        await _answer(send, 200, JSON_TYPE, to_json(report))
        return
    name = f'attachment; filename="{csv_name(report)}"'.encode()
    await _answer(send, 200, CSV_TYPE, to_csv(report), ((b"content-disposition", name),))


async def _reports(deps: FinanceDeps, scope: Scope, send: Send) -> None:
    try:
        await deps.authorise(with_bearer(scope["headers"]))
    except deps.refusals:
        # Whatever was wrong with the key, another one helps: the browser asks for it.
        await _answer(send, 401, "text/plain; charset=utf-8", _ASK_FOR_KEY, (_CHALLENGE,))
        return
    parameters = _parameters(scope)
    if any(name == "format" for name, _ in parameters):
        await _answer_data(deps, parameters, send)
    else:
        # A form sends its empty fields too.
        await _answer_page(deps, [pair for pair in parameters if pair[1]], send)


async def _answer_page(deps: FinanceDeps, given: Parameters, send: Send) -> None:
    today = day_of(deps.now_ms())
    try:
        query = parse_query(given, today)
        if not query.group_by:
            query = msgspec.structs.replace(query, group_by=(GROUP_BY_DEFAULT,))
        answers, choices = await _read(deps, query)
        status, body = 200, report_page(query, answers, choices, today)
    except ReportFault as fault:
        status, body = 422, fault_page(fault, given, today)
    policy = (b"content-security-policy", CONTENT_SECURITY_POLICY.encode())
    await _answer(send, status, "text/html; charset=utf-8", body, (policy,))


async def _read(deps: FinanceDeps, query: Query) -> tuple[Answers, Choices]:
    """Everything on the page, from one reading of the totals."""
    rows, summary, channels = (
        Tally(msgspec.structs.replace(query, group_by=keys), deps.currency)
        for keys in (query.group_by, (), ("channel",))
    )
    apps: set[str] = set()
    campaigns: set[str] = set()
    async for page in pages_of_totals(deps.link, deps.shards, query.from_day, query.to_day):
        for tally in (rows, summary, channels):
            tally.add(page)
        apps.update(row.group.app for row in page)
        campaigns.update(row.group.campaign for row in page)
    answers = Answers(rows.report(), summary.report(), channels.report())
    return answers, Choices(_suggestions(apps), _suggestions(campaigns))


def _suggestions(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in names if name)[:CHOICES_MAX])


def with_bearer(headers: Headers) -> Headers:
    """The headers with HTTP Basic turned into the bearer key that its password is; others as they
    are.
    """
    return [(name, _bearer(value) if name == _AUTHORIZATION else value) for name, value in headers]


def _bearer(value: bytes) -> bytes:
    scheme, _, token = value.partition(b" ")
    if scheme.lower() != b"basic":
        return value
    try:
        _, _, key = base64.b64decode(token.strip(), validate=True).partition(b":")
    except binascii.Error:
        return value
    return b"Bearer " + key


def _parameters(scope: Scope) -> Parameters:
    text = scope["query_string"].decode("ascii", "replace")
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
    except ValueError:
        raise ReportFault(
            "", f"The address has more than {PARAMETERS_MAX} parameters: leave some out."
        ) from None


def _format(parameters: Parameters) -> tuple[Parameters, str]:
    """The other parameters, and the format asked for."""
    others = [pair for pair in parameters if pair[0] != "format"]
    formats = [value for name, value in parameters if name == "format"] or [FORMATS[0]]
    if len(formats) > 1 or formats[0] not in FORMATS:
        raise ReportFault("format", f"The format is one of: {', '.join(FORMATS)}.")
    return others, formats[0]


async def _answer(
    send: Send, status: int, content_type: str, body: bytes, headers: Headers = ()
) -> None:
    told = [
        (b"content-type", content_type.encode()),
        (b"content-length", b"%d" % len(body)),
        *_PRIVATE,
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
