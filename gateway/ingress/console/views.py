"""What the console's pages show, read from the store and from the API, a function a page.

An operator sees every app's messages and people: a key of scope `operate` reads here what the keys
of all apps may, and changes only what its own scopes allow. Raises RedisUnavailable, and Refusal
for what is not there.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import convert, structs, to_builtins

from gateway import telemetry
from gateway.core.explain import explain_message
from gateway.core.records.message import StepStatus
from gateway.core.views.message import timeline_of
from gateway.core.views.message import view_of as message_view
from gateway.core.views.words import rfc3339
from gateway.finance.reports.schedule import ReportSchedule
from gateway.ingress.api.bodies.parameters import PARAMETERS_MAX, read_parameters
from gateway.ingress.api.events.webhook_view import view_of as webhook_view
from gateway.ingress.api.messages.explain_view import explain_view
from gateway.ingress.api.messages.search import ADDRESSES, SearchRequest, sought_of
from gateway.ingress.api.operators.ops_view import OpsView, fleet_of, view_of
from gateway.ingress.api.operators.remarks import remarks
from gateway.ingress.api.people.users import UserEndpoints
from gateway.ingress.api.results import no_message
from gateway.ingress.archived import ArchiveReader, message_anywhere
from gateway.ingress.console.calls import ApiCall, Caller, segment
from gateway.ingress.console.pulse import Beat, Pulse, counted
from gateway.ingress.http.auth import Principal
from gateway.ingress.http.problems import Problem, Refusal, RequestFault, refuse
from gateway.ingress.http.request import Request
from gateway.ingress.intake.backlog import Backlog
from gateway.ingress.intake.server_watch import ServerWatch
from gateway.store import quarantine
from gateway.store.events import webhook_queues
from gateway.store.installation import snapshots
from gateway.store.messages import raw_receipts, receipts
from gateway.store.messages.message_search import Sought, search
from gateway.store.store import Store

FAULTS_OF_MESSAGES = 500  # the newest ones, of which a provider's errors are counted
FAULTS_SHOWN = 8
FOUND_MAX = 50
PARKED_MAX = 100
SET_ASIDE_MAX = 200
FUNNEL_DAYS = 90
CAMPAIGNS_A_PAGE = 50
DEEDS_A_PAGE = 50
ATTEMPTS_SHOWN = 50
BY = {kind: kind.capitalize() for kind in (*ADDRESSES, "user", "campaign", "id")}
BY_PERSON = {kind: label for kind, label in BY.items() if kind not in ("campaign", "id")}
BY_FIRST = next(iter(BY))

View = dict[str, Any]


class Now(NamedTuple):
    """How everything is, and what to look at."""

    ops: OpsView
    beats: list[Beat]
    alarms: list[str]
    versions: Counter[tuple[str, str]]


class Views:
    """`now_ms` is the edge's clock."""

    def __init__(
        self,
        store: Store,
        backlog: Backlog,
        servers: ServerWatch,
        users: UserEndpoints,
        archived: ArchiveReader,
        schedules: Sequence[ReportSchedule],
        caller: Caller,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._backlog = backlog
        self._servers = servers
        self._users = users
        self._archived = archived
        self._schedules = schedules
        self._caller = caller
        self._now_ms = now_ms
        self._pulse = Pulse()

    async def read(self, request: Request, path: str, app: str | None = None) -> Any:
        """What the API answers to an operator, or as `app` sees it. Raises Refusal."""
        answered = await self._caller.call(
            ApiCall("GET", path), reader(request.principal, app), request.peer
        )
        if answered.status >= 500:
            raise Refusal(convert(answered.json, Problem))
        if not answered.done:
            raise refuse("not-found" if answered.status == 404 else "query", detail_of(answered))
        return answered.json

    # --- now and providers ---

    async def _look(self) -> Now:
        store, redis, now_ms = self._store, self._store.redis, self._now_ms()
        names = await snapshots.processes(redis, now_ms)
        figures = list(telemetry.figures(await snapshots.of(redis, names)))
        self._pulse.note(counted(figures, now_ms))
        shared = await fleet_of(store, figures, self._schedules, now_ms)
        servers = self._servers.servers
        ops = view_of(store.policy, shared, self._backlog.states, servers, now_ms)
        told = telemetry.versions(figures)
        processes = {name: told.get(name, "") for name in names}
        alarms = [*remarks(ops, shared, processes, now_ms), *self._pulse.alarms()]
        if self._backlog.quarantined:
            alarms.append(f"{self._backlog.quarantined} things are set aside.")
        versions = Counter((telemetry.role_of(n), version) for n, version in processes.items())
        return Now(ops, self._pulse.beats(), alarms, versions)

    async def now(self, _request: Request) -> View:
        look = await self._look()
        lanes = sorted((lane for lane in look.ops.lanes if lane.length), key=lambda lane: -lane.age)
        return {
            "ops": look.ops,
            "beats": look.beats,
            "alarms": look.alarms,
            "processes": sorted(look.versions.items()),
            "lanes": lanes,
            "waiting": sum(lane.length for lane in lanes),
            "providers": _rows(look.ops),
            "quarantined": self._backlog.quarantined,
            "archive_lag": self._archive_lag_s(look.ops),
            "webhooks_failing": sum(each.failing_since is not None for each in look.ops.webhooks),
        }

    def _archive_lag_s(self, ops: OpsView) -> float | None:
        """The age of the oldest booking that is not archived; None: there is none."""
        if ops.archive is None or ops.archive.waiting_since is None:
            return None
        since = datetime.datetime.fromisoformat(ops.archive.waiting_since)
        return self._now_ms() / 1000 - since.timestamp()

    async def providers(self, _request: Request) -> View:
        ops = (await self._look()).ops
        return {"providers": _rows(ops), "shares": _shares(ops)}

    async def provider(self, request: Request) -> View:
        policy = self._store.policy
        name = policy.present(request.parameters["name"])
        if name not in policy.providers:
            raise refuse("not-found", "There is no such provider.")
        (row,) = (row for row in _rows((await self._look()).ops) if row["name"] == name)
        routes = [route for route, steps in policy.routes.items() if steps[0].providers == (name,)]
        return {"name": name, "row": row, "faults": await self._faults(name), "routes": routes}

    async def _faults(self, provider: str) -> list[tuple[str, str, int]]:
        """Codes, names and numbers of the errors of the newest messages, most frequent first."""
        page = await search(self._store, Sought(None), FAULTS_OF_MESSAGES)
        found = Counter(
            (fault.code, fault.name)
            for message in page.messages
            for step in message.steps
            if step.provider == provider
            and step.status != StepStatus.SKIPPED
            and (fault := step.latest_fault) is not None
        )
        return [(*fault, count) for fault, count in found.most_common(FAULTS_SHOWN)]

    # --- messages and people ---

    async def found(self, request: Request, by: str, text: str) -> View:
        """Messages of every app by one thing."""
        sought = self._sought(request, by, text)
        sought = structs.replace(sought, app=None)
        page = await search(self._store, sought, FOUND_MAX, archived=self._archived)
        currency = self._store.policy.currency
        items = [message_view(message, currency) for message in page.messages]
        return {"items": items, "more": page.next is not None}

    async def message(self, request: Request) -> View:
        message = await message_anywhere(self._store, self._archived, request.parameters["id"])
        if message is None:
            raise Refusal(no_message())
        policy = self._store.policy
        why = explain_message(message, policy, self._now_ms())
        shown = to_builtins(message_view(message, policy.currency))
        to = shown["to"] or ""
        return {
            "message": shown,
            "to": to if isinstance(to, str) else ", ".join(filter(None, map(to.get, ADDRESSES))),
            "timeline": to_builtins(timeline_of(message)),
            "explain": to_builtins(explain_view(why, policy.currency)),
            "receipts": [
                {"at": rfc3339(each.at_ms)} | structs.asdict(each)
                for each in await raw_receipts.read(self._store, message.id)
            ],
            "receipts_kept": bool(self._store.retention.raw_receipts_ms),
        }

    async def person(self, request: Request, by: str, text: str) -> View:
        identities = self._sought(request, by, text).identities
        if not identities:
            raise refuse("query", "A person has a phone, an e-mail address or a user id.")
        view = await self._users.person(identities[0], request.principal.app)
        if view is None:
            return {"person": None}
        out = [address for each in view.optouts for address in _addresses(each)]
        return {"person": {"view": view, "addresses": _addresses(view), "out": out}}

    def _sought(self, request: Request, by: str, text: str) -> Sought:
        """Raises Refusal."""
        if by not in BY or by == "id" or not text:
            raise refuse("query", "Say what to look for.")
        faults: list[RequestFault] = []
        asked = msgspec.convert({by: text}, SearchRequest)
        sought = sought_of(asked, request.principal.app, self._store.policy, faults)
        if faults:
            raise refuse("query", faults[0].detail)
        return sought

    # --- campaigns ---

    async def campaigns(self, request: Request) -> View:
        path = f"/v1/campaigns?limit={CAMPAIGNS_A_PAGE}"
        return {"listed": await self.read(request, path + _cursor(request))}

    async def campaign(self, request: Request) -> View:
        name = segment(request.parameters["name"])
        campaign = await self.read(request, f"/v1/campaigns/{name}")
        today = self._store.policy.days.of(self._now_ms())
        first = today - datetime.timedelta(days=FUNNEL_DAYS - 1)
        report = await self.read(
            request,
            f"/v1/reports/cost?campaign={name}&group_by=step,channel"
            f"&from={first.isoformat()}&to={today.isoformat()}",
        )
        counts = campaign["counts"]
        open_now = sum(counts[state] for state in ("held", "queued", "sent"))
        return {"campaign": campaign, "steps": report["rows"], "open": open_now}

    # --- webhooks ---

    async def webhooks(self, _request: Request) -> View:
        """Those of every app."""
        store, now_ms = self._store, self._now_ms()
        await store.webhooks.look(store.redis)
        every = sorted(store.webhooks.now.every.items())
        states = await webhook_queues.states(store.redis, [each.id for _, each in every])
        return {
            "webhooks": [
                {"app": app} | to_builtins(webhook_view(name, webhook, state, now_ms))
                for ((app, name), webhook), state in zip(every, states, strict=True)
            ]
        }

    async def webhook(self, request: Request) -> View:
        app, name = request.parameters["app"], segment(request.parameters["name"])
        path = f"/v1/webhooks/{name}"
        attempts = f"{path}/attempts?limit={ATTEMPTS_SHOWN}"
        return {
            "app": app,
            "webhook": await self.read(request, path, app),
            "attempts": (await self.read(request, attempts, app))["items"],
        }

    # --- what is left over ---

    async def leftovers(self, _request: Request) -> View:
        """Unmatched receipts, those due next first, and what was set aside."""
        store = self._store
        parked = await receipts.unmatched(store, PARKED_MAX)
        aside = await quarantine.listed(store.redis, store.shards)
        return {
            "receipts": [
                {
                    "provider": each.provider,
                    "status": each.receipt.status,
                    "ref": each.receipt.ref or each.receipt.provider_id,
                    "error": "" if (fault := each.receipt.fault) is None else fault.code,
                    "since": rfc3339(each.since_ms),
                    "next": rfc3339(due_ms),
                    "raw": each.receipt.raw,
                }
                for due_ms, each in parked.first
            ],
            "receipts_total": parked.total,
            "aside": [
                {"what": each.what, "reason": each.reason, "at": rfc3339(each.at_ms)}
                for each in aside[:SET_ASIDE_MAX]
            ],
            "aside_total": len(aside),
        }

    async def audit(self, request: Request) -> View:
        path = f"/v1/ops/audit?limit={DEEDS_A_PAGE}"
        return {"listed": await self.read(request, path + _cursor(request))}


def _addresses(holder: object) -> list[str]:
    """Those that it names by kind and somebody can be looked for by."""
    found = (getattr(holder, kind, None) for kind in ADDRESSES)
    return [address for address in found if isinstance(address, str)]


def _cursor(request: Request) -> str:
    """The page that is asked for, as a further parameter of the call."""
    cursor = dict(read_parameters(request.query, PARAMETERS_MAX)).get("cursor", "")
    return f"&cursor={segment(cursor)}" if cursor else ""


def reader(principal: Principal, app: str | None = None) -> Principal:
    """Who may read what an operator looks at: as `app`, or all apps' money and campaigns."""
    scopes = principal.scopes | {"read", "report", "report-all", "manage"}
    return structs.replace(principal, app=app or principal.app, scopes=frozenset(scopes))


def detail_of(answered: Any) -> str:
    """What a call that failed was told."""
    return str((answered.json or {}).get("detail", "The call failed."))


def _rows(ops: OpsView) -> list[Mapping[str, Any]]:
    """The providers with all that waits for each."""
    waiting: Counter[str] = Counter()
    ages: dict[str, float] = {}
    for lane in ops.lanes:
        waiting[lane.provider] += lane.length
        ages[lane.provider] = max(ages.get(lane.provider, 0.0), lane.age)
    return [
        {
            "name": name,
            "view": view,
            "rate": None if view.temporary_rate is msgspec.UNSET else view.temporary_rate,
            "sessions": None if view.sessions is msgspec.UNSET else view.sessions,
            "share": None if view.share is msgspec.UNSET else view.share,
            "waiting": waiting[name],
            "age": ages.get(name, 0.0),
        }
        for name, view in ops.providers.items()
    ]


def _shares(ops: OpsView) -> list[Mapping[str, Any]]:
    """The providers that share a channel, those of one together."""
    sharing = [row for row in _rows(ops) if row["share"] is not None]
    return sorted(sharing, key=lambda row: (row["view"].channel, row["name"]))
