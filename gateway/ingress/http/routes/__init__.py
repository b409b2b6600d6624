"""The route table: every endpoint is one row in a file of this package and one handler in
`ingress/api`.

The app routes by it, asks for keys by it and counts by it, and the OpenAPI document is made from
it. To add an endpoint, write its handler and its row.
"""

from __future__ import annotations

from gateway.ingress.http.route import HttpRoute
from gateway.ingress.http.routes.callbacks import CALLBACKS
from gateway.ingress.http.routes.campaigns import CAMPAIGNS
from gateway.ingress.http.routes.console import CONSOLE
from gateway.ingress.http.routes.endpoints import Endpoints
from gateway.ingress.http.routes.links import LINKS
from gateway.ingress.http.routes.messages import MESSAGES
from gateway.ingress.http.routes.operators import OPERATORS
from gateway.ingress.http.routes.people import PEOPLE
from gateway.ingress.http.routes.reports import REPORTS
from gateway.ingress.http.routes.state import STATE
from gateway.ingress.http.routes.webhooks import WEBHOOKS

__all__ = ["ROUTES", "Endpoints"]

ROUTES: tuple[HttpRoute[Endpoints], ...] = (
    *MESSAGES,
    *CAMPAIGNS,
    *PEOPLE,
    *REPORTS,
    *WEBHOOKS,
    *CALLBACKS,
    *OPERATORS,
    *CONSOLE,
    *STATE,
    *LINKS,
)
