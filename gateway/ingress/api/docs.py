"""`/`, `/openapi.json` and `/docs`: where all begins, and the API's document for programs and for
people. None can fail.

The document and its page are made when first asked for, aside: they take a tenth of a second, which
neither a start nor another request waits for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from gateway.ingress.http.asgi import HTML, to_json
from gateway.ingress.http.request import Request
from gateway.ingress.http.route import Doc
from gateway.ingress.pages import docs
from gateway.store.money.totals import Aside

_POLICY = (b"content-security-policy", docs.CONTENT_SECURITY_POLICY.encode())
_START_POLICY = (b"content-security-policy", docs.START_POLICY.encode())


class DocsEndpoints:
    """Shows the OpenAPI document that `describe` makes; `public_url` stands in the page's
    examples. `aside` does one thing after the other."""

    def __init__(self, describe: Callable[[], Doc], public_url: str, aside: Aside) -> None:
        self._describe = describe
        self._public_url = public_url
        self._aside = aside

    @cached_property
    def _document(self) -> Doc:
        return self._describe()

    @cached_property
    def _json(self) -> bytes:
        return to_json(self._document)

    @cached_property
    def _html(self) -> bytes:
        return docs.page(self._document, self._public_url)

    async def openapi(self, request: Request) -> None:
        await request.respond(200, await self._aside(lambda: self._json))

    async def start(self, request: Request) -> None:
        await request.respond(200, docs.start(), (_START_POLICY,), HTML)

    async def page(self, request: Request) -> None:
        await request.respond(200, await self._aside(lambda: self._html), (_POLICY,), HTML)
