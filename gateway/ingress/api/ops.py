"""`/v1/ops`: what operators ask and do, over HTTP.

Pauses are those of `kaskad provider`; who did what stands in the audit. A provider that the
configuration does not have is a 404.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from gateway.core.policy import Policy
from gateway.ingress.api.budgets import views_of
from gateway.ingress.api.decoder import read_object, require_json
from gateway.ingress.api.health import PauseView, server_shown
from gateway.ingress.api.ops_view import read_fleet, view_of
from gateway.ingress.api.parameters import read_page
from gateway.ingress.api.results import Time
from gateway.ingress.backlog import Backlog
from gateway.ingress.http.asgi import rfc3339, to_json
from gateway.ingress.http.problems import refuse
from gateway.ingress.http.request import Request
from gateway.ingress.server_watch import ServerWatch
from gateway.store import audit, pauses
from gateway.store.audit import KeptDeed
from gateway.store.pauses import DETAIL_MAX, Pause
from gateway.store.store import Store

BODY_BYTES_MAX = 4_096
EXAMPLE = '{"reason": "maintenance until six"}'


class PauseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why; it is kept with who and when."""

    reason: Annotated[str, msgspec.Meta(max_length=DETAIL_MAX)] = ""


class PauseState(msgspec.Struct, frozen=True):
    """How a provider stands now."""

    provider: str
    paused: PauseView | None


class DeedView(msgspec.Struct, frozen=True):
    """Who changed what, and when. `by` is `user@host` of a command line, or an app with the prefix
    of its key."""

    id: str
    at: Time
    by: str
    action: str
    target: str
    detail: str


class DeedsPage(msgspec.Struct, frozen=True):
    """The newest first; `next` is the cursor of the page after it."""

    items: list[DeedView]
    next: str | None


class OpsEndpoints:
    """Answers operators. `now_ms` is the edge's clock."""

    def __init__(
        self, store: Store, backlog: Backlog, servers: ServerWatch, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._redis = store.redis
        self._backlog = backlog
        self._servers = servers
        self._now_ms = now_ms

    async def overview(self, request: Request) -> None:
        store, now_ms = self._store, self._now_ms()
        shared = await read_fleet(self._redis, now_ms)
        budgets = await views_of(store, store.policy.budgets, now_ms)
        servers = [server_shown(server) for server in self._servers.servers]
        view = view_of(store.policy, shared, self._backlog.states, servers, budgets)
        await request.respond(200, to_json(view))

    async def pause(self, request: Request) -> None:
        name, reason = self._provider(request), await _reason(request)
        by, now_ms = request.principal.named, self._now_ms()
        changed = await pauses.hold(self._redis, name, reason, by, now_ms)
        await _respond(request, name, changed.after)

    async def resume(self, request: Request) -> None:
        name, reason = self._provider(request), await _reason(request)
        by, now_ms = request.principal.named, self._now_ms()
        changed = await pauses.resume(self._redis, name, reason, by, now_ms)
        await _respond(request, name, changed.after)

    async def deeds(self, request: Request) -> None:
        asked = read_page(request.query, audit.is_id)
        page = await audit.read(self._redis, asked.limit, asked.cursor)
        shown = [_shown(kept) for kept in page.deeds]
        await request.respond(200, to_json(DeedsPage(shown, page.next)))

    def _provider(self, request: Request) -> str:
        """The provider in the address, by its present name. Raises Refusal."""
        policy = self._store.policy
        name = policy.present(request.parameters["name"])
        if name not in policy.providers:
            raise refuse("not-found", f"There is no such provider; {_listed(policy)}.")
        return name


def _listed(policy: Policy) -> str:
    return f"the configuration has {', '.join(sorted(policy.providers))}"


async def _respond(request: Request, name: str, stands: Pause | None) -> None:
    view = None if stands is None else PauseView.of(name, stands)
    await request.respond(200, to_json(PauseState(name, view)))


async def _reason(request: Request) -> str:
    """The reason in the body, which may be left out. Raises Refusal."""
    body = await request.body(BODY_BYTES_MAX)
    if not body:
        return ""
    require_json(request)
    return read_object(PauseRequest, body, EXAMPLE).reason


def _shown(kept: KeptDeed) -> DeedView:
    deed = kept.deed
    at = rfc3339(deed.at_ms)
    return DeedView(kept.id, at, deed.by, deed.action, deed.target, deed.detail)
