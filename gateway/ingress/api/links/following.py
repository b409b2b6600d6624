"""`GET /l/{code}`: somebody follows a link, and is sent on to where it leads.

The target is the one that is kept, never anything of the request. Who it was is recorded behind the
answer. An unknown code is a 404, one of a link that is over a 410, and Redis away a 503, each with
a page for people; a peer that asks for too many unknown ones has to wait.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.links.urls import target_of, utm_of
from gateway.core.reactions.clickers import user_agent_of, visitor_of
from gateway.core.reactions.clicks import device_of
from gateway.ingress.clicks import ClickRecorder
from gateway.ingress.http.asgi import HTML, TEXT
from gateway.ingress.http.problems import RETRY_AFTER_S
from gateway.ingress.http.request import Request
from gateway.ingress.link_reads import LinkReads
from gateway.ingress.misses import TOGETHER_MAX, Misses
from gateway.ingress.pages import links as pages
from gateway.ingress.pages.lang import lang_of
from gateway.redis.errors import RedisError
from gateway.store.reactions import links
from gateway.store.reactions.clicks import Click
from gateway.store.reactions.links import Link
from gateway.store.store import Store

QR_QUERY = b"q=1"  # of the address in a link's picture
_SENT_ON = (
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-robots-tag", b"noindex"),
)
_PAGE = (*_SENT_ON, (b"content-security-policy", pages.CONTENT_SECURITY_POLICY.encode()))


class FollowEndpoint:
    def __init__(
        self,
        store: Store,
        clicks: ClickRecorder,
        asker: Callable[[Request], str],
        guesser: Callable[[Request], str],
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._reads = LinkReads(store)
        self._clicks = clicks
        self._asker = asker
        self._guesser = guesser
        self._now_ms = now_ms
        self._misses = Misses(now_ms)
        self._together = Misses(now_ms, TOGETHER_MAX)

    async def follow(self, request: Request) -> None:
        if self._misses and self._guesses(request):
            await self._show(request, 429)
            return
        code, store = request.parameters["code"], self._store
        try:
            link = await self._reads.find(code)
            if link is None:
                gone = await links.was_there(store.redis, store.links, code)
                if not gone:
                    self._misses.note(self._guesser(request))
                    self._together.note(self._asker(request))
                await self._show(request, 410 if gone else 404)
                return
        except RedisError:
            await self._show(request, 503)
            return
        now_ms = self._now_ms()
        if link.own is not None and 0 < link.own.expires_ms <= now_ms:
            await self._show(request, 410)
            return
        location = self._target(link).encode()
        await request.respond(302, b"", ((b"location", location), *_SENT_ON), TEXT)
        if request.method == "GET":
            self._clicks.note(self._click(request, link, now_ms))

    def _guesses(self, request: Request) -> bool:
        """Whether whoever asks, or all who come the same way, asked in vain too often."""
        return self._misses.too_many(self._guesser(request)) or self._together.too_many(
            self._asker(request)
        )

    def _target(self, link: Link) -> str:
        rules = self._store.policy.links
        if not rules.utm:
            return link.target
        names = {"app": link.app, "campaign": link.campaign or "", "channel": link.channel}
        names["step"] = str(link.step) if link.message is not None else ""
        return target_of(link.target, utm_of(rules, names))

    def _click(self, request: Request, link: Link, now_ms: int) -> Click:
        return Click(
            link,
            now_ms,
            visitor_of(request.method, request.fields),
            device_of(user_agent_of(request.fields)),
            QR_QUERY in request.query.split(b"&"),
        )

    async def _show(self, request: Request, status: int) -> None:
        body = pages.page(status, lang_of(request.header(b"accept-language")))
        retry = ((b"retry-after", b"%d" % _RETRY_S[status]),) if status in _RETRY_S else ()
        await request.respond(status, body, (*_PAGE, *retry), HTML)


_RETRY_S = {429: 60, 503: RETRY_AFTER_S}
