"""`/`, `/openapi.json` and `/docs`: where all begins, and the API's document for programs and for
people. None can fail.
"""

from __future__ import annotations

from gateway.ingress.http.asgi import HTML, to_json
from gateway.ingress.http.request import Request
from gateway.ingress.http.route import Doc
from gateway.ingress.pages import docs

_POLICY = (b"content-security-policy", docs.CONTENT_SECURITY_POLICY.encode())
_START_POLICY = (b"content-security-policy", docs.START_POLICY.encode())


class DocsEndpoints:
    """Shows an OpenAPI document; `public_url` stands in the page's examples."""

    def __init__(self, document: Doc, public_url: str) -> None:
        self._json = to_json(document)
        self._html = docs.page(document, public_url)
        self._start = docs.start()

    async def openapi(self, request: Request) -> None:
        await request.respond(200, self._json)

    async def start(self, request: Request) -> None:
        await request.respond(200, self._start, (_START_POLICY,), HTML)

    async def page(self, request: Request) -> None:
        await request.respond(200, self._html, (_POLICY,), HTML)
