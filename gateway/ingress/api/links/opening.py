"""`GET /o/{code}.gif`: somebody, or a program, opens an e-mail. It is always answered with the
picture; who it was is found out behind the answer."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress

from gateway.core.reactions.clickers import visitor_of
from gateway.core.reactions.opens import opened_of
from gateway.ingress.clicks import ClickRecorder
from gateway.ingress.http.request import Request
from gateway.redis.errors import RedisError
from gateway.store.reactions.opens import Opening
from gateway.store.store import Store

PICTURE = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_GIF = (b"content-type", b"image/gif")
_HEADERS = ((b"cache-control", b"no-store"), (b"x-robots-tag", b"noindex"))


class OpenEndpoint:
    """`now_ms` is the edge's clock."""

    def __init__(self, store: Store, clicks: ClickRecorder, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._clicks = clicks
        self._now_ms = now_ms

    async def show(self, request: Request) -> None:
        await request.respond(200, PICTURE, _HEADERS, _GIF)
        with suppress(RedisError):
            key = await self._store.links.key(self._store.redis)
            opened = opened_of(request.parameters["code"], key)
            if opened is not None and request.method == "GET":
                visitor = visitor_of(request.method, request.fields)
                self._clicks.note(Opening(opened, self._now_ms(), visitor))
