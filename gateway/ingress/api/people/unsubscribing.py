"""`/u/{code}`: a person unsubscribes, by a button of the page or with one click (RFC 8058).

`GET` shows a page and changes nothing, since mail software fetches what stands in mails. Any `POST`
opts the person out of marketing on the channel the code came by, at once, without a redirect; the
page's own buttons say more. A code that nobody has is answered as one whose person opted out of
nothing. While Redis is away the page is shown all the same, and a `POST` is a 503.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args
from urllib.parse import parse_qs

from gateway.core.people.opt_outs import BY_LINK, EVERY_CHANNEL, PERSON, Origin, refuses
from gateway.core.records.unsubscriber import Unsubscriber
from gateway.ingress.http.asgi import FORM_TYPE, HTML, PRIVATE
from gateway.ingress.http.problems import AGAIN_SOON
from gateway.ingress.http.request import Request
from gateway.ingress.pages import unsubscribing as pages
from gateway.ingress.pages.lang import lang_of
from gateway.redis.errors import RedisError
from gateway.store.people import opt_outs, unsubscribing
from gateway.store.store import Store

BODY_BYTES_MAX = 16_384
StopChoice = Literal["channel", "all", "none"]
_CHOICES: tuple[StopChoice, ...] = get_args(StopChoice)
_HEADERS = (
    *PRIVATE,
    (b"content-security-policy", pages.CONTENT_SECURITY_POLICY.encode()),
    (b"x-robots-tag", b"noindex"),
)


class UnsubscribeEndpoints:
    """`now_ms` is the edge's clock."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def show(self, request: Request) -> None:
        stops: pages.Stops = "nothing"
        try:
            who = await unsubscribing.find(self._store, request.parameters["code"])
            if who is not None:
                stops = await self._stops(who)
        except RedisError:
            pass
        await self._answer(request, 200, stops)

    async def change(self, request: Request) -> None:
        body = await request.body(BODY_BYTES_MAX)
        choice = _choice(body) if request.media_type == FORM_TYPE else "channel"
        stops: pages.Stops = "nothing" if choice == "none" else choice
        try:
            who = await unsubscribing.find(self._store, request.parameters["code"])
            if who is not None:
                await self._change(who, choice)
                stops = await self._stops(who)
        except RedisError:
            await self._answer(request, 503, "unknown", AGAIN_SOON)
            return
        await self._answer(request, 200, stops)

    async def _change(self, who: Unsubscriber, choice: StopChoice) -> None:
        redis, shards = self._store.redis, self._store.shards
        if choice == "none":
            await opt_outs.drop(redis, shards, who.address, EVERY_CHANNEL)
            await opt_outs.drop(redis, shards, who.address, who.channel)
            return
        channel = EVERY_CHANNEL if choice == "all" else who.channel
        origin = Origin(PERSON, self._now_ms(), BY_LINK)
        await opt_outs.put(redis, shards, who.address, "marketing", origin, channel)

    async def _stops(self, who: Unsubscriber) -> pages.Stops:
        kept = await opt_outs.find(self._store.redis, self._store.shards, who.address)
        if EVERY_CHANNEL in kept:
            return "all"
        scopes = {channel: one.scope for channel, one in kept.items()}
        return "channel" if refuses(scopes, who.channel, "marketing") else "nothing"

    async def _answer(
        self, request: Request, status: int, stops: pages.Stops, *more: tuple[bytes, bytes]
    ) -> None:
        body = pages.page(stops, lang_of(request.header(b"accept-language")))
        await request.respond(status, body, (*_HEADERS, *more), HTML)


def _choice(body: bytes) -> StopChoice:
    """What a button of the page says; a mail program's click says nothing of it."""
    given = parse_qs(body.decode("ascii", "replace")).get("choice", [""])[0]
    return next((choice for choice in _CHOICES if choice == given), "channel")
