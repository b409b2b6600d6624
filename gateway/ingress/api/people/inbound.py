"""What people write back: `GET /v1/inbound`, and the replies of a callback.

What a reply does is in `gateway.store.people.taken_replies`; it is durable before the provider's
callback is answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from gateway.core.views.reply import ReplyView, view_of
from gateway.ingress.api.bodies.parameters import read_page
from gateway.ingress.api.results import newer_record
from gateway.ingress.http.asgi import to_json
from gateway.ingress.http.problems import Refusal, unavailable
from gateway.ingress.http.request import Request
from gateway.store.people import replies
from gateway.store.people.replies import KEPT_MS
from gateway.store.people.taken_replies import NotNowError, take_replies
from gateway.store.store import Store
from providers.contract import Channel, PersonReply

_cursor = re.compile(r"[0-9]{1,18}-[0-9]{1,18}").fullmatch


class RepliesPage(msgspec.Struct, frozen=True):
    """The newest first; `next` is the cursor of the page after it."""

    items: list[ReplyView]
    next: str | None


class InboundEndpoints:
    """Takes and shows replies. `now_ms` is the edge's clock."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def get(self, request: Request) -> None:
        limit, cursor = read_page(request.query, lambda text: _cursor(text) is not None)
        principal = request.principal
        apps = {principal.app, *([""] if "manage" in principal.scopes else [])}
        oldest_ms = self._now_ms() - KEPT_MS
        found, more = await replies.newest(self._store, apps, limit, oldest_ms, cursor)
        page = RepliesPage([view_of(kept.id, kept.reply) for kept in found], more)
        await request.respond(200, to_json(page))

    async def take(self, provider: str, channel: Channel, said: Sequence[PersonReply]) -> int:
        """Does what replies wish and keeps them; how many were new. Raises RedisUnavailable, and
        Refusal where a message that one answers cannot take it now: what was done until then is
        done again when the provider repeats it."""
        try:
            return await take_replies(self._store, provider, channel, said, self._now_ms)
        except NotNowError as error:
            raise (Refusal(newer_record()) if error.newer else unavailable()) from None
