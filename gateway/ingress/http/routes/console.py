"""The console's pages: for people, so they stand in no document of the API."""

from __future__ import annotations

from collections.abc import Callable

from gateway.ingress.console.endpoints import ConsoleEndpoints
from gateway.ingress.http.route import Handler, HttpRoute, Method
from gateway.ingress.http.routes.endpoints import Endpoints


def _page(
    path: str,
    name: str,
    handler: Callable[[ConsoleEndpoints], Handler],
    method: Method = "GET",
    *,
    endless: bool = False,
) -> HttpRoute[Endpoints]:
    return HttpRoute(
        method=method,
        path=f"/console{path}",
        name=name,
        on_admin_port="only",
        handler=lambda endpoints: endpoints.console.page(handler(endpoints.console)),
        scope="operate",
        login=True,
        endless=endless,
    )


CONSOLE: tuple[HttpRoute[Endpoints], ...] = (
    _page("", "console", lambda console: console.now),
    _page("/providers", "consoleProviders", lambda console: console.providers),
    _page("/providers/{name}", "consoleProvider", lambda console: console.provider),
    _page("/messages", "consoleMessages", lambda console: console.messages),
    _page("/messages", "consoleSearch", lambda console: console.search, "POST"),
    _page("/messages/{id}", "consoleMessage", lambda console: console.message),
    _page("/campaigns", "consoleCampaigns", lambda console: console.campaigns),
    _page("/campaigns/{name}", "consoleCampaign", lambda console: console.campaign),
    _page("/people", "consolePeople", lambda console: console.people),
    _page("/people", "consolePerson", lambda console: console.find_person, "POST"),
    _page("/webhooks", "consoleWebhooks", lambda console: console.webhooks),
    _page("/webhooks/{app}/{name}", "consoleWebhook", lambda console: console.webhook),
    _page("/leftovers", "consoleLeftovers", lambda console: console.leftovers),
    _page("/money", "consoleMoney", lambda console: console.money),
    _page("/money/{month}", "consoleMonth", lambda console: console.month),
    _page("/audit", "consoleAudit", lambda console: console.audit),
    _page("/act", "consoleAct", lambda console: console.act, "POST"),
    _page("/live", "consoleLive", lambda console: console.live, endless=True),
)
