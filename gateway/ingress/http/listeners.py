"""Which rows of the route table are served where a request came in: on the port of apps and
recipients, on the admin port, at a domain of links, or from our own console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.ingress.http.asgi import ACTS_AS
from gateway.ingress.http.link_paths import LinkPaths
from gateway.ingress.http.request import Request
from gateway.ingress.http.route import HttpRoute, Router
from gateway.ingress.http.routes import ROUTES, Endpoints


class Listeners:
    """`admin_port` 0: everything is served on the one port. Without `links` short links stand where
    the table has them."""

    def __init__(self, admin_port: int) -> None:
        self.links: LinkPaths | None = None
        self._admin_port = admin_port
        self._every = self._public = Router(ROUTES)
        if admin_port:
            self._public = Router([row for row in ROUTES if row.on_admin_port != "only"])
            self._admin = Router([row for row in ROUTES if row.on_admin_port != "no"])

    def find(
        self, scope: Mapping[str, Any], request: Request
    ) -> tuple[HttpRoute[Endpoints], Mapping[str, str]]:
        """A request's row, and the parameters in its path. Raises Refusal (404, 405)."""
        path = request.raw_path
        if ACTS_AS in scope:
            return self._every.find(request.method, path)
        if self._admin_port and request.port == self._admin_port:
            return self._admin.find(request.method, path)
        if self.links is not None:
            path = self.links.path_of(request.header(b"host"), path)
        return self._public.find(request.method, path)
