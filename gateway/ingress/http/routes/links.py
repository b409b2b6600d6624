"""Links: those that an app makes for itself, what came of any, and following them."""

from __future__ import annotations

from gateway.core.links.link_codes import CODE_CHARS
from gateway.ingress.api.links.links import EXAMPLE, LinkChange, LinkRequest, LinkView
from gateway.ingress.http.documented import json_payload
from gateway.ingress.http.link_paths import BEFORE, BESIDE_CODE
from gateway.ingress.http.route import HttpRoute, Parameter, Payload
from gateway.ingress.http.routes.endpoints import Endpoints

_SHOWN = {
    "code": "autumn",
    "link": "https://k.example/autumn",
    "target": "https://shop.example/autumn",
    "title": "Poster",
    "campaign": "autumn-sale",
    "channel": None,
    "message": None,
    "expires_at": None,
    "clicks": 3,
    "clickers": None,
    "qr_clicks": 2,
    "bot_clicks": 1,
    "by_hour": {"2026-11-28T10:00:00.000Z": 3},
    "by_country": {},
    "by_device": {"phone": 3},
    "bots_by_reason": {"previewer": 1},
}
_LINK = {200: json_payload("The link.", LinkView, _SHOWN)}
_A_CODE = rf"[0-9A-Za-z]{{{CODE_CHARS}}}"
_CODE = Parameter("code", "path", "The link's code or slug.")
_SVG = {"image/svg+xml": {"type": "string"}}
_PNG = {"image/png": {"type": "string", "contentMediaType": "image/png"}}

LINKS: tuple[HttpRoute[Endpoints], ...] = (
    HttpRoute(
        method="POST",
        path="/v1/links",
        name="makeLink",
        handler=lambda endpoints: endpoints.links.make,
        scope="send",
        tag="Links",
        summary="Make a link for a poster or a bio",
        text="Under the slug, or a code of its own; nobody's person, so that it has no clickers.",
        body=json_payload("", LinkRequest, EXAMPLE),
        answers=_LINK,
        problems=[422],
    ),
    HttpRoute(
        method="GET",
        path="/v1/links/{code}",
        name="getLink",
        handler=lambda endpoints: endpoints.links.get,
        scope="read",
        tag="Links",
        summary="Where a link leads, and what came of it",
        text="The app's own: one that it made, or one of its messages.",
        parameters=[_CODE],
        answers=_LINK,
        problems=[404],
    ),
    HttpRoute(
        method="PATCH",
        path="/v1/links/{code}",
        name="changeLink",
        handler=lambda endpoints: endpoints.links.change,
        scope="send",
        tag="Links",
        summary="Lead a link elsewhere, or end it",
        text="Keys left out stay; null takes title or end away.",
        parameters=[_CODE],
        body=json_payload("", LinkChange, {"url": "https://shop.example/winter"}),
        answers=_LINK,
        problems=[404, 422],
    ),
    HttpRoute(
        method="GET",
        path="/v1/links/{code}/qr.svg",
        name="linkSvg",
        handler=lambda endpoints: endpoints.links.svg,
        scope="read",
        tag="Links",
        summary="A link's QR code, as SVG",
        parameters=[_CODE],
        answers={200: Payload(text="The picture.", media=_SVG)},
        problems=[404],
    ),
    HttpRoute(
        method="GET",
        path="/v1/links/{code}/qr.png",
        name="linkPng",
        handler=lambda endpoints: endpoints.links.png,
        scope="read",
        tag="Links",
        summary="A link's QR code, as PNG",
        parameters=[_CODE],
        answers={200: Payload(text="The picture.", media=_PNG)},
        problems=[404],
    ),
    HttpRoute(
        method="GET",
        path="/l/{code}",
        name="follow",
        handler=lambda endpoints: endpoints.following.follow,
        any_query=True,
        quiet=True,
        # Links go on that were sent when they stood elsewhere, and with a slash at their end, which
        # people add who type them.
        elsewhere=rf"/(?!v[0-9]+/)(?:(?:[^/]+/)*(?={_A_CODE}/?$)|l/(?=[^/]+/$))(?P<code>[^/]+)/?",
    ),
    HttpRoute(
        method="GET",
        path="/o/{code}.gif",
        name="openPicture",
        handler=lambda endpoints: endpoints.opening.show,
        elsewhere=rf"{BEFORE}o/(?P<code>{BESIDE_CODE})\.gif",
        quiet=True,
    ),
)
