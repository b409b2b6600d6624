"""`GET /v1/messages` and `POST /v1/messages/search`: an app's messages by whom they went to or by
campaign, the newest first.

An address holds what is sought in logs and histories; the body of the POST does not. A page may
have fewer messages than asked for, or none, and still a cursor: one search looks at so much of the
index and no more. What cannot be sought is a 400 in an address and a 422 in a body.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

import msgspec

from gateway.core.addresses import Addresses, SoughtAddresses, person_id
from gateway.core.policy import Policy
from gateway.core.texts import name_of
from gateway.core.views.message import MessageView
from gateway.core.views.words import Status
from gateway.ingress.api.bodies.decoder import read_object, require_json
from gateway.ingress.api.bodies.names import NAME_MAX
from gateway.ingress.api.bodies.parameters import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    PARAMETERS_MAX,
    read_parameters,
)
from gateway.ingress.api.messages.shown import shown
from gateway.ingress.api.searches import Searches
from gateway.ingress.archived import ArchiveReader
from gateway.ingress.http.asgi import to_json
from gateway.ingress.http.problems import Refusal, RequestFault, invalid, refuse
from gateway.ingress.http.request import Request
from gateway.store.messages.message_search import FoundPage, Sought, search
from gateway.store.messages.person_index import IndexPlace
from gateway.store.store import Store

SEARCHES_MAX = 4  # at once in a worker
BODY_BYTES_MAX = 8_192
EXAMPLE = '{"user": "u-1001"}'
ADDRESSES = SoughtAddresses.__struct_fields__
WHO = ("user", *ADDRESSES, "campaign")

_place = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,4})\.([0-9]{1,6})").fullmatch

Word = Annotated[str, msgspec.Meta(min_length=1, extra_json_schema={"maxLength": NAME_MAX})]


class SearchRequest(SoughtAddresses, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """At least a user, an address or a campaign; all that is given must hold."""

    user: Word | None = None
    campaign: Word | None = None
    status: Status | None = None
    limit: Annotated[
        int, msgspec.Meta(ge=1, le=LIMIT_MAX, description=f"How many, from 1 to {LIMIT_MAX}.")
    ] = LIMIT_DEFAULT
    cursor: (
        Annotated[str, msgspec.Meta(max_length=128, description="`next` of the page before.")]
        | None
    ) = None


class MessagesPage(msgspec.Struct, frozen=True):
    """The newest first; `next` is the cursor of the page after it, which may be empty."""

    items: list[MessageView]
    next: str | None


class SearchEndpoints:
    """Finds messages, archived ones as well."""

    def __init__(self, store: Store, archived: ArchiveReader, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms
        self._archived = archived
        self._searches = Searches(SEARCHES_MAX, "messages")

    async def of_address(self, request: Request) -> None:
        """What the parameters ask for."""
        await self._answer(request, _body_of(request.query), "query")

    async def of_body(self, request: Request) -> None:
        """What the body asks for."""
        require_json(request)
        await self._answer(request, await request.body(BODY_BYTES_MAX), "invalid")

    async def _answer(self, request: Request, body: bytes, code: str) -> None:
        asked, store = read_object(SearchRequest, body, EXAMPLE, code), self._store
        faults: list[RequestFault] = []
        sought = sought_of(asked, request.principal.app, store.policy, faults)
        before = _place_of(asked.cursor, faults)
        if faults:
            raise Refusal(invalid(faults, code=code))
        with self._searches.one():
            page = await search(store, sought, asked.limit, before, self._archived)
        views = await shown(store, page.messages, self._now_ms())
        await request.respond(200, to_json(MessagesPage(views, _cursor_of(page))))


def _body_of(query: bytes) -> bytes:
    """The parameters as the body that asks for the same. Raises Refusal."""
    values: dict[str, str | int] = {}
    for name, value in read_parameters(query, PARAMETERS_MAX, keep_blank=True):
        if name in values:
            raise refuse("query", f"`{name}` is given more than once: give it once.")
        if name in ADDRESSES:
            value = value.replace(" ", "+")  # a plus sign in an address means a space
        is_number = name == "limit" and value.isdecimal() and len(value) < len(str(1 << 53))
        values[name] = int(value) if is_number else value
    return to_json(values)


def sought_of(asked: SearchRequest, app: str, policy: Policy, faults: list[RequestFault]) -> Sought:
    """What an app seeks, in the spelling that is kept; what cannot be sought is added to
    `faults`."""
    if not any(getattr(asked, name) for name in WHO):
        faults.append(RequestFault("", f"Give at least one of: {', '.join(WHO)}."))
    addresses = asked.read()
    if isinstance(addresses, list):
        faults += (RequestFault(fault.pointer, fault.detail) for fault in addresses)
        addresses = Addresses()
    user = name_of(asked.user) if asked.user is not None else None
    return Sought(
        app,
        tuple(addresses.identities(person_id(user, policy.numbering_of(app)))),
        name_of(asked.campaign) if asked.campaign is not None else None,
        asked.status,
    )


def _place_of(cursor: str | None, faults: list[RequestFault]) -> IndexPlace | None:
    if cursor is None:
        return None
    try:
        found = _place(bytes.fromhex(cursor).decode("ascii"))
    except ValueError:
        found = None
    if found is None:
        faults.append(RequestFault("/cursor", "This is no cursor: give `next` of a page."))
        return None
    return IndexPlace(*map(int, found.groups()))


def _cursor_of(page: FoundPage) -> str | None:
    return None if page.next is None else ".".join(map(str, page.next)).encode().hex()
