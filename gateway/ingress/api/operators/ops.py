"""`/v1/ops`: what operators ask and do, over HTTP.

Pauses are those of `kaskad provider`. A rate for a while and a drain are of the whole installation,
kept over restarts, and held to within 2 seconds everywhere. Who did what stands in the audit. A
provider that the configuration does not have is a 404.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated

import msgspec

from gateway.core.policy import Policy
from gateway.core.views.words import Time, rfc3339
from gateway.finance.reports.schedule import ReportSchedule
from gateway.ingress.api.bodies.decoder import read_object, require_json
from gateway.ingress.api.bodies.parameters import read_page
from gateway.ingress.api.operators.health import PauseView
from gateway.ingress.api.operators.ops_view import RateView, drain_view, read_fleet, view_of
from gateway.ingress.http.asgi import to_json
from gateway.ingress.http.problems import Refusal, RequestFault, invalid, refuse
from gateway.ingress.http.request import Request
from gateway.ingress.intake.backlog import Backlog
from gateway.ingress.intake.draining import Draining
from gateway.ingress.intake.server_watch import ServerWatch
from gateway.store.installation import audit, drains
from gateway.store.installation.audit import KeptDeed
from gateway.store.providers import pauses, temporary_rates
from gateway.store.providers.pauses import DETAIL_MAX, Pause
from gateway.store.store import Store
from providers.notation import RATE_PER_S_MAX, Duration, Rate

BODY_BYTES_MAX = 4_096
EXAMPLE = '{"reason": "maintenance until six"}'
RATE_EXAMPLE = '{"rate": "50/s", "for": "15m"}'
RATE_FOR_MS_MIN, RATE_FOR_MS_MAX = 1_000, 7 * 86_400_000
RATE_RULE = f'Messages a second, such as 50 or "50/s", from 1 to {RATE_PER_S_MAX}.'
FOR_RULE = 'From one second to 7 days: a duration such as "15m", or seconds.'


def _key(field: str) -> str:
    """`for` is a word of Python's own."""
    return field.rstrip("_")


class PauseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why; it is kept with who and when."""

    reason: Annotated[str, msgspec.Meta(max_length=DETAIL_MAX)] = ""


class RateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=_key):
    """The rate instead of the configured one, and for how long."""

    rate: Annotated[int | str, msgspec.Meta(description=RATE_RULE)]
    for_: Annotated[int | str, msgspec.Meta(description=FOR_RULE)]


class RateState(msgspec.Struct, frozen=True):
    """A provider's rate for a while; null: the configured one holds."""

    provider: str
    temporary_rate: RateView | None


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
        self,
        store: Store,
        backlog: Backlog,
        servers: ServerWatch,
        draining: Draining,
        schedules: Sequence[ReportSchedule],
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._redis = store.redis
        self._backlog = backlog
        self._servers = servers
        self._draining = draining
        self._schedules = schedules
        self._now_ms = now_ms

    async def overview(self, request: Request) -> None:
        policy, now_ms = self._store.policy, self._now_ms()
        shared = await read_fleet(self._store, self._schedules, now_ms)
        view = view_of(policy, shared, self._backlog.states, self._servers.servers, now_ms)
        await request.respond(200, to_json(view))

    async def pause(self, request: Request) -> None:
        name, reason = self._provider(request), await _reason(request)
        by, now_ms, former = request.principal.named, self._now_ms(), self._store.policy.former
        changed = await pauses.hold(self._redis, name, reason, by, now_ms, former)
        await _respond(request, name, changed.after)

    async def resume(self, request: Request) -> None:
        name, reason = self._provider(request), await _reason(request)
        by, now_ms, former = request.principal.named, self._now_ms(), self._store.policy.former
        changed = await pauses.resume(self._redis, name, reason, by, now_ms, former)
        await _respond(request, name, changed.after)

    async def set_rate(self, request: Request) -> None:
        name, (rate_per_s, for_ms) = self._provider(request), await _rate(request)
        by, now_ms = request.principal.named, self._now_ms()
        rate = await temporary_rates.begin(self._redis, name, rate_per_s, for_ms, by, now_ms)
        await request.respond(200, to_json(RateState(name, RateView.of(rate))))

    async def end_rate(self, request: Request) -> None:
        name, former = self._provider(request), self._store.policy.former
        by, now_ms = request.principal.named, self._now_ms()
        await temporary_rates.end(self._redis, name, former, by, now_ms)
        await request.respond(200, to_json(RateState(name, None)))

    async def begin_drain(self, request: Request) -> None:
        reason = await _reason(request)
        await drains.begin(self._redis, reason, request.principal.named, self._now_ms())
        await self._tell_drain(request)

    async def end_drain(self, request: Request) -> None:
        await drains.end(self._redis, request.principal.named, self._now_ms())
        await self._tell_drain(request)

    async def drain(self, request: Request) -> None:
        await self._tell_drain(request)

    async def _tell_drain(self, request: Request) -> None:
        """Looks at the drain, so that this worker keeps to it at once, and then at the lanes."""
        await self._draining.look()
        await self._backlog.sample()
        view = drain_view(self._draining.drain, self._backlog.states, self._now_ms())
        await request.respond(200, to_json(view))

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


async def _rate(request: Request) -> tuple[int, int]:
    """Messages a second and milliseconds. Raises Refusal."""
    body = await request.body(BODY_BYTES_MAX)
    require_json(request)
    asked = read_object(RateRequest, body, RATE_EXAMPLE)
    rate = f"{asked.rate}/s" if isinstance(asked.rate, int) else asked.rate
    lasts = f"{asked.for_}s" if isinstance(asked.for_, int) else asked.for_
    faults = []
    rate_per_s = for_ms = 0
    try:
        rate_per_s = int(Rate.parse(rate))
    except ValueError:
        faults.append(RequestFault("/rate", RATE_RULE))
    with suppress(ValueError):
        for_ms = int(Duration.parse(lasts))
    if not RATE_FOR_MS_MIN <= for_ms <= RATE_FOR_MS_MAX:
        faults.append(RequestFault("/for", FOR_RULE))
    if faults:
        raise Refusal(invalid(faults))
    return rate_per_s, for_ms


def _shown(kept: KeptDeed) -> DeedView:
    deed = kept.deed
    at = rfc3339(deed.at_ms)
    return DeedView(kept.id, at, deed.by, deed.action, deed.target, deed.detail)
