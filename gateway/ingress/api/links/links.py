"""`/v1/links`: links that an app makes for itself, for a poster or a bio, and what came of any of
its links.

One that it made can be led elsewhere and ended; that of a message says what its message did. The
picture of a link leads to it with a mark, so that who scanned it is counted apart. What cannot be
is a Refusal that names the key; another app's link is a 404.
"""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import segno
from msgspec.structs import replace

from gateway.core.channels import ChannelName, Url
from gateway.core.links.urls import refusal_of, target_of
from gateway.core.phones import NO_COUNTRY
from gateway.core.reactions.clicks import ClickCounts
from gateway.core.records.links import OwnLink
from gateway.core.records.message import Message
from gateway.core.texts import has_control, is_blank, name_of
from gateway.core.views.words import Time, rfc3339
from gateway.ingress.api.bodies.decoder import moment_ms, read_given, read_object, require_json
from gateway.ingress.api.bodies.names import Name, name_fault
from gateway.ingress.api.links.following import QR_QUERY
from gateway.ingress.archived import ArchiveReader, message_anywhere
from gateway.ingress.http.asgi import HeaderField, to_json
from gateway.ingress.http.problems import Refusal, RequestFault, invalid, refuse
from gateway.ingress.http.request import Request
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.reactions import clicks, links, own_links
from gateway.store.reactions.links import Link
from gateway.store.store import Store

BODY_BYTES_MAX = 16 * 1024
TITLE_MAX = 200
SLUG_RULE = "1 to 64 letters, digits, dashes and underscores; it begins with a letter or digit."
TARGET_RULE = "Where it leads: an absolute http or https address."
END_RULE = "RFC 3339, in the future: until when it leads there."
END_ANEW_RULE = (
    "RFC 3339: until when it leads there; a moment that passed: no longer. null: for ever."
)
EXAMPLE = {"url": "https://shop.example/autumn", "campaign": "autumn-sale", "slug": "autumn"}
QR_SCALE, QR_BORDER, QR_ERROR = 8, 4, "m"
SVG = (b"content-type", b"image/svg+xml")
PNG = (b"content-type", b"image/png")

_slug = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}").fullmatch

LinkTarget = Annotated[Url, msgspec.Meta(description=TARGET_RULE)]
LinkEnd = Annotated[datetime.datetime, msgspec.Meta(tz=True, description=END_RULE)]
EndAnew = Annotated[datetime.datetime, msgspec.Meta(tz=True, description=END_ANEW_RULE)]
Title = Annotated[
    str, msgspec.Meta(max_length=TITLE_MAX, description=f"For people, {TITLE_MAX} characters.")
]


class LinkRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link to make."""

    url: LinkTarget
    campaign: Name | None = None
    title: Title | None = None
    slug: Annotated[str, msgspec.Meta(description=SLUG_RULE)] | None = None
    expires_at: LinkEnd | None = None


class LinkChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of it is to change; what is left out stays."""

    url: LinkTarget | None = None
    title: Title | None = None
    expires_at: Annotated[EndAnew | None, msgspec.Meta(description=END_ANEW_RULE)] = None


class LinkView(msgspec.Struct, frozen=True, kw_only=True):
    """A link and what came of it. `clicks`, and what they are by, are people's; `qr_clicks` are
    those of them that came by the picture."""

    code: str
    link: str
    target: str
    title: str | None
    campaign: str | None
    channel: ChannelName | None
    message: str | None
    expires_at: Time | None
    clicks: int
    clickers: int | None
    qr_clicks: int
    bot_clicks: int
    by_hour: dict[str, int]
    by_country: dict[str, int]
    by_device: dict[str, int]
    bots_by_reason: dict[str, int]


class LinkEndpoints:
    """`now_ms` is the edge's clock."""

    def __init__(self, store: Store, archived: ArchiveReader, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._archived = archived
        self._now_ms = now_ms

    async def make(self, request: Request) -> None:
        require_json(request)
        body = await request.body(BODY_BYTES_MAX)
        asked = read_object(LinkRequest, body, msgspec.json.encode(EXAMPLE).decode())
        campaign = None if asked.campaign is None else name_of(asked.campaign)
        faults = [*self._faults(asked.url, asked.title)]
        if asked.expires_at is not None and moment_ms(asked.expires_at) <= self._now_ms():
            faults.append(RequestFault("/expires_at", END_RULE))
        if asked.slug is not None and _slug(asked.slug) is None:
            faults.append(RequestFault("/slug", SLUG_RULE))
        if campaign is not None and (detail := name_fault(campaign)):
            faults.append(RequestFault("/campaign", detail))
        if faults:
            raise Refusal(invalid(faults))
        made = OwnLink(
            request.principal.app,
            target_of(asked.url),
            self._now_ms(),
            campaign,
            asked.title,
            moment_ms(asked.expires_at),
        )
        code = await own_links.make(self._store, made, asked.slug)
        if code is None:
            raise Refusal(invalid([RequestFault("/slug", "Another link has this slug.")]))
        await self._note(request, "link.make", code)
        await self._show(request, await self._own(request, code))

    async def change(self, request: Request) -> None:
        require_json(request)
        example = '{"url": "https://shop.example/winter"}'
        asked, given = read_given(LinkChange, await request.body(BODY_BYTES_MAX), example)
        faults = [*self._faults(asked.url, asked.title)]
        if "url" in given and asked.url is None:
            faults.append(RequestFault("/url", TARGET_RULE))
        if faults:
            raise Refusal(invalid(faults))
        changed: dict[str, Any] = {}
        if asked.url is not None:
            changed["url"] = target_of(asked.url)
        if "title" in given:
            changed["title"] = asked.title
        if "expires_at" in given:
            ends = asked.expires_at  # 0 is never, so what ended before 1970 ended then
            changed["expires_ms"] = 0 if ends is None else max(moment_ms(ends), 1)
        app, code = request.principal.app, request.parameters["code"]

        def decide(before: OwnLink | None) -> OwnLink | None:
            if before is None or before.app != app:
                return None
            return replace(before, **changed)

        if await own_links.change(self._store, code, decide) is None:
            link = await self._own(request, code)  # else there is none
            detail = "The link of a message leads where its message says: it cannot be changed."
            raise refuse("not-found", detail) if link.own is None else _no_link()
        await self._note(request, "link.change", code)
        await self._show(request, await self._own(request, code))

    async def get(self, request: Request) -> None:
        await self._show(request, await self._own(request, request.parameters["code"]))

    async def svg(self, request: Request) -> None:
        await self._picture(request, "svg", SVG)

    async def png(self, request: Request) -> None:
        await self._picture(request, "png", PNG)

    async def _picture(self, request: Request, kind: str, content_type: HeaderField) -> None:
        link = await self._own(request, request.parameters["code"])
        code = segno.make(f"{self._url(link)}?{QR_QUERY.decode()}", error=QR_ERROR, micro=False)
        out = io.BytesIO()
        code.save(out, kind=kind, scale=QR_SCALE, border=QR_BORDER)
        await request.respond(200, out.getvalue(), content_type=content_type)

    def _faults(self, url: str | None, title: str | None) -> list[RequestFault]:
        rules, faults = self._store.policy.links, []
        if url is not None:
            ours = "A link leads to no link of ours." if rules.is_ours(url) else None
            if (reason := ours or refusal_of(url, rules)) is not None:
                faults.append(RequestFault("/url", reason))
        if title is not None and (has_control(title) or is_blank(title)):
            faults.append(RequestFault("/title", "A title that can be seen, or none."))
        return faults

    async def _own(self, request: Request, code: str) -> Link:
        """The asking app's link. Raises Refusal (404)."""
        link = await links.find(self._store.redis, self._store.links, self._store.shards, code)
        if link is None or link.app != request.principal.app:
            raise _no_link()
        return link

    def _url(self, link: Link) -> str:
        return f"{self._store.policy.links.base_url}/{link.code}"

    async def _show(self, request: Request, link: Link) -> None:
        counts = await clicks.counts_of(self._store, link)
        message = None
        if link.message is not None:
            message = await message_anywhere(self._store, self._archived, link.message)
        await request.respond(200, to_json(_view(link, self._url(link), counts, message)))

    async def _note(self, request: Request, action: str, code: str) -> None:
        deed = Deed(self._now_ms(), request.principal.named, action, code)
        await audit.note(self._store.redis, deed)


def _view(link: Link, url: str, counts: ClickCounts, message: Message | None) -> LinkView:
    own = link.own
    country = NO_COUNTRY if message is None else message.country
    return LinkView(
        code=link.code,
        link=url,
        target=link.target,
        title=None if own is None else own.title,
        campaign=link.campaign,
        channel=link.channel or None,
        message=link.message,
        expires_at=rfc3339(own.expires_ms) if own is not None and own.expires_ms else None,
        clicks=counts.clicks,
        clickers=min(counts.clicks, 1) if own is None else None,
        qr_clicks=counts.qr,
        bot_clicks=counts.bots,
        by_hour={rfc3339(hour): count for hour, count in sorted(counts.by_hour.items())},
        by_country={country: counts.clicks} if country != NO_COUNTRY and counts.clicks else {},
        by_device=dict(sorted(counts.by_device.items())),
        bots_by_reason=dict(sorted(counts.by_reason.items())),
    )


def _no_link() -> Refusal:
    return refuse("not-found", "There is no such link of this app.")
