"""The ASGI application of a worker: its parts, its routes, and the last word on every failure.

A request's row is found in the route table, its key is asked for the row's scope, and its handler
runs. What is worth a line in the log is told by `request_log`.

Whatever is raised ends here: a Refusal is its problem document, a browser without a key is asked
for one, Redis unavailable is a 503, and anything else a 500 with an incident that is logged with
its traceback. No exception's text reaches a client unless it was written for one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import structlog

from gateway import telemetry
from gateway.core.policy import Policy
from gateway.ingress.api.bodies.stream import Streams
from gateway.ingress.api.callbacks.callbacks import CallbackEndpoint
from gateway.ingress.api.campaigns.budgets import BudgetEndpoints
from gateway.ingress.api.campaigns.campaigns import CampaignEndpoints
from gateway.ingress.api.docs import DocsEndpoints
from gateway.ingress.api.events.event_hub import EventHub
from gateway.ingress.api.events.events import EventsEndpoint
from gateway.ingress.api.events.webhooks import WebhookEndpoints
from gateway.ingress.api.links.following import FollowEndpoint
from gateway.ingress.api.links.links import LinkEndpoints
from gateway.ingress.api.links.opening import OpenEndpoint
from gateway.ingress.api.messages.messages import MessageEndpoints, SendEndpoint
from gateway.ingress.api.messages.search import SearchEndpoints
from gateway.ingress.api.operators.health import HealthEndpoints
from gateway.ingress.api.operators.ops import OpsEndpoints
from gateway.ingress.api.people.inbound import InboundEndpoints
from gateway.ingress.api.people.optouts import OptOutEndpoints
from gateway.ingress.api.people.stored_users import StoredUserEndpoints
from gateway.ingress.api.people.unsubscribing import UnsubscribeEndpoints
from gateway.ingress.api.people.users import UserEndpoints
from gateway.ingress.api.reactions.conversions import ConversionEndpoint
from gateway.ingress.api.reactions.reactions import ReactionEndpoint
from gateway.ingress.api.reports.ledger import LedgerEndpoint
from gateway.ingress.api.reports.report_details import ReportDetails
from gateway.ingress.api.reports.report_shares import ReportShareEndpoints
from gateway.ingress.api.reports.reports import ReportEndpoints
from gateway.ingress.api.results import refusal_of
from gateway.ingress.archived import ArchivedMessages, archive_reader
from gateway.ingress.aside import OneThread
from gateway.ingress.clicks import ClickRecorder
from gateway.ingress.console.calls import Caller
from gateway.ingress.console.endpoints import ConsoleEndpoints
from gateway.ingress.console.money import MoneyViews
from gateway.ingress.console.views import Views
from gateway.ingress.http import openapi
from gateway.ingress.http.asgi import (
    ACTS_AS,
    PRIVATE,
    TEXT,
    AsgiReceive,
    AsgiScope,
    AsgiSend,
    ClientGone,
)
from gateway.ingress.http.auth import (
    LOGIN_CHALLENGE,
    Authority,
    LoginNeeded,
    Principal,
    lacking,
)
from gateway.ingress.http.key_watch import KeyWatch
from gateway.ingress.http.link_paths import LinkPaths
from gateway.ingress.http.listeners import Listeners
from gateway.ingress.http.request import Request
from gateway.ingress.http.request_ids import RequestIds
from gateway.ingress.http.request_log import DONE, RequestLog, RequestOutcome
from gateway.ingress.http.route import (
    DocumentedSettings,
    HttpRoute,
    refuse_unknown_query,
)
from gateway.ingress.http.routes import ROUTES, Endpoints
from gateway.ingress.http.waiting import WaitingBytes
from gateway.ingress.intake import campaign_watch
from gateway.ingress.intake.admission_queue import AdmissionQueue
from gateway.ingress.intake.backlog import Backlog
from gateway.ingress.intake.batcher import Batcher
from gateway.ingress.intake.draining import Draining
from gateway.ingress.intake.quotas import Quotas
from gateway.ingress.intake.server_watch import ServerWatch, disk_free_of
from gateway.ingress.metrics import IngressMetrics
from gateway.redis.errors import RedisError
from gateway.settings.bootstrap import callback_auths_of, callback_readers_of, schedules_of
from gateway.settings.file import Settings
from gateway.store.installation import snapshots
from gateway.store.providers import providers
from gateway.store.store import Store

CLICKS_S_MIN = 3.0  # for clicks, where other requests took all the time there was
WATCHED = frozenset(route.name for route in ROUTES if route.tag == "State")  # asked all day

_log = structlog.get_logger("ingress")


class Ingress:
    """One worker's application; `open_ingress` makes it and runs its background tasks."""

    _ends_s: float | None = None  # by the loop's clock, once it was stopped

    def __init__(
        self,
        settings: Settings,
        store: Store,
        now_ms: Callable[[], int],
        process: str,
        server: str,
    ) -> None:
        limits = settings.server
        self._store = store
        self._now_ms = now_ms
        self._process = process
        self._server = server
        self._providers = (*store.policy.providers, *store.policy.former)
        self.metrics = IngressMetrics()
        self.authority = Authority(settings, store.redis, now_ms)
        self.backlog = Backlog(settings, store, now_ms)
        self.aside = OneThread()
        self.archived = archive_reader(settings, store.redis)
        self._messages = ArchivedMessages(store, self.archived)
        self.ids = RequestIds()
        self.waiting = WaitingBytes(max(limits.waiting_bytes_max, limits.body_bytes_max))
        self.servers = ServerWatch(store, disk_free_of(settings))
        self.draining = Draining(store.redis)
        self.quotas = Quotas(settings, store.redis, self.metrics.quotas, now_ms)
        conditions = self.backlog, self.servers, self.draining
        self.queue = AdmissionQueue(store, *conditions, self.quotas, self.metrics, now_ms)
        self.hub = EventHub(store)
        self.clicks = ClickRecorder(store, self._messages, self.metrics.clicks, now_ms)
        self._stop_within_s = limits.stop_within_ms / 1000
        self._requests = RequestLog(limits.trusted_proxies)
        self.keys = KeyWatch(self.authority)
        self.streams = Streams(self.keys)
        self.sends = SendEndpoint(self.queue, self.streams, limits)
        self.stored_users = StoredUserEndpoints(store, self.streams, limits, now_ms)
        self.inbound = InboundEndpoints(store, now_ms)
        self.callbacks = CallbackEndpoint(
            store,
            callback_readers_of(settings),
            callback_auths_of(settings),
            self.inbound,
            self.metrics,
            now_ms,
            limits.body_bytes_max,
        )
        self.events = EventsEndpoint(store, self.hub, limits, self.keys, self.metrics.quotas)
        self.users = UserEndpoints(store, self.archived, now_ms)
        self.console = self._console(settings)
        endpoints = self._endpoints(settings)
        self._listeners = Listeners(limits.admin_port)
        self._know_link_paths(settings)
        self._handlers = {route.name: route.handler(endpoints) for route in ROUTES}
        self.metrics.watch(
            store,
            *conditions,
            lambda: sum(each.waiting() for each in self._batchers()),
            lambda: self.events.clients,
        )

    def _console(self, settings: Settings) -> ConsoleEndpoints:
        caller, schedules = Caller(self), schedules_of(settings)
        parts = (self.backlog, self.servers, self.users, self.archived, schedules)
        views = Views(self._store, *parts, caller, self._now_ms)
        money = MoneyViews(self._store, views.read, self.archived, self.aside, self._now_ms)
        return ConsoleEndpoints(views, money, caller, self.keys, settings.server)

    def _endpoints(self, settings: Settings) -> Endpoints:
        """What holds the handlers."""
        store, now_ms = self._store, self._now_ms
        body_bytes_max = settings.server.body_bytes_max
        configured = DocumentedSettings(settings.server.batch_items_max, tuple(settings.providers))
        reports = ReportEndpoints(store.redis, store.shards, store.policy, now_ms, self.aside)
        ledger = LedgerEndpoint(
            store.redis, store.shards, store.policy, now_ms, self.aside, self.archived
        )
        return Endpoints(
            sends=self.sends,
            messages=MessageEndpoints(store, self.archived, now_ms),
            campaigns=CampaignEndpoints(store, now_ms),
            search=SearchEndpoints(store, self.archived, now_ms),
            events=self.events,
            reactions=ReactionEndpoint(store, self._messages, now_ms, body_bytes_max),
            conversions=ConversionEndpoint(store, self._messages, now_ms, body_bytes_max),
            unsubscribing=UnsubscribeEndpoints(store, now_ms),
            optouts=OptOutEndpoints(store, now_ms),
            users=self.users,
            stored_users=self.stored_users,
            inbound=self.inbound,
            reports=reports,
            budgets=BudgetEndpoints(store, now_ms),
            report_shares=ReportShareEndpoints(
                store.redis, reports, settings.server.public_url, now_ms
            ),
            webhooks=WebhookEndpoints(store, settings.webhooks.allow_hosts, now_ms),
            ledger=ledger,
            report_details=ReportDetails(store, ledger, self.archived, now_ms),
            callbacks=self.callbacks,
            ops=OpsEndpoints(
                store, self.backlog, self.servers, self.draining, schedules_of(settings), now_ms
            ),
            console=self.console,
            health=HealthEndpoints(
                store.redis, store.policy.former, self.servers, self._render, now_ms
            ),
            docs=DocsEndpoints(
                partial(openapi.document, ROUTES, configured),
                settings.server.public_url,
                self.aside,
            ),
            following=FollowEndpoint(
                store, self.clicks, self._requests.asker, self._requests.guesser, now_ms
            ),
            links=LinkEndpoints(store, self.archived, now_ms),
            opening=OpenEndpoint(store, self.clicks, now_ms),
        )

    def _know_link_paths(self, settings: Settings) -> None:
        paths = LinkPaths(self._store.policy.links, settings.server.public_url)
        self._listeners.links = None if paths.usual else paths

    # --- requests ---

    async def __call__(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        request = Request(scope, receive, send, self.ids, self.waiting)
        name, quiet, endless, outcome = "none", False, False, DONE
        try:
            route, request.parameters = self._listeners.find(scope, request)
            name, quiet, endless = route.name, route.quiet, route.endless
            if route.scope is not None:
                request.principal = await self._identify(scope, request, route)
                if route.scope not in request.principal.scopes:
                    raise lacking(request.principal, route.scope)
            if request.query:
                refuse_unknown_query(route, request.query)
            await self._handlers[name](request)
        except ClientGone:
            return
        except Exception as error:
            outcome = await self._answer_failure(request, error)
        finally:
            request.release()
        seconds = time.perf_counter() - began
        if not endless:
            self.metrics.durations.note((name,), seconds)
        if quiet and outcome is DONE:
            if request.changed_something:
                self._requests.tell(request, name, outcome, seconds)
            return
        self.metrics.requests.labels(name, str(outcome.status or request.status)).inc()
        if name not in WATCHED:
            self._requests.tell(request, name, outcome, seconds)

    async def _identify(
        self, scope: AsgiScope, request: Request, route: HttpRoute[Endpoints]
    ) -> Principal:
        """Whose request it is. Raises Refusal, LoginNeeded and RedisUnavailable."""
        assert route.scope is not None
        if (acting := scope.get(ACTS_AS)) is not None:
            return cast("Principal", acting)
        authorization = request.header(b"authorization")
        if route.login:
            return await self.authority.identify_login(authorization, route.scope)
        return await self.authority.identify(authorization)

    async def _answer_failure(self, request: Request, error: Exception) -> RequestOutcome:
        """Answers, unless an answer had begun; what came of the request."""
        if isinstance(error, LoginNeeded):
            await request.respond(401, error.hint, (*PRIVATE, LOGIN_CHALLENGE), TEXT)
            return RequestOutcome("unauthorized", 401)
        refusal = refusal_of(error)
        if request.status:
            request.abort()  # an answer had begun: all that is left is to end it where it is
        else:
            await request.refuse(refusal)
        return RequestOutcome(refusal.code, refusal.problem.status)

    def _render(self, others: list[bytes] | None) -> bytes:
        return telemetry.render(others, self.metrics.registries, self._process, self._server)

    # --- life ---

    async def keep_publishing(self) -> None:
        """Publishes until it is cancelled."""
        while True:
            try:
                await self.publish()
            except RedisError:
                self.metrics.snapshots_failed.inc()
            await asyncio.sleep(telemetry.PUBLISH_EVERY_S)

    async def publish(self) -> None:
        """This worker's metrics, which providers it has, and which keys were used. Raises
        RedisUnavailable."""
        await self.quotas.measure()
        snapshot = telemetry.snapshot(self.metrics.registries, self._process, self._server)
        await snapshots.publish(self._store.redis, self._process, snapshot, self._now_ms())
        await providers.announce(self._store.redis, self._providers, self._now_ms())
        if self.authority.uses_due:
            await self.authority.tell_uses()

    def take_over(self, settings: Settings, policy: Policy) -> None:
        """A changed configuration, from the next request on."""
        self._store.policy = policy
        self.authority.take_over(settings)
        self.quotas.take_over(settings)
        self._know_link_paths(settings)
        self.callbacks.take_over(callback_auths_of(settings))

    def stop(self) -> None:
        """Ends the streams, in and out, so that nothing new begins; other requests go on."""
        if self._ends_s is None:
            self._ends_s = asyncio.get_running_loop().time() + self._stop_within_s
        self.streams.stop()
        self.hub.close()
        self.console.close()

    def _batchers(self) -> tuple[Batcher[Any, Any], ...]:
        """What gathers for the store."""
        return self.queue.batcher, self.stored_users.batcher, self.callbacks.batcher

    async def drained(self) -> None:
        """Returns once every message and receipt that was taken is durable, and every click, as far
        as there is time for that once it was stopped."""
        for each in self._batchers():
            await each.drained()
        left_s = None
        if self._ends_s is not None:
            left_s = max(self._ends_s - asyncio.get_running_loop().time(), CLICKS_S_MIN)
        await self.clicks.drained(left_s)


@asynccontextmanager
async def open_ingress(
    settings: Settings, store: Store, *, now_ms: Callable[[], int], process: str, server: str
) -> AsyncIterator[Ingress]:
    """The application with its background tasks, for as long as the block.

    `process` is `telemetry.process_name("ingress")`, `server` the `telemetry.server_name` that it
    shares with the other workers. On leaving, what was taken is made durable
    first; a caller that cannot wait cancels.
    """
    app = Ingress(settings, store, now_ms, process, server)
    await app.draining.try_to_look()
    await campaign_watch.look(store, now_ms())  # a request may lack what its campaign says
    tasks = [
        asyncio.create_task(coroutine, name=name)
        for name, coroutine in (
            ("backlog", app.backlog.keep_sampling()),
            ("servers", app.servers.keep_sampling()),
            ("events", app.hub.run()),
            ("clicks", app.clicks.keep_recording()),
            ("keys", app.keys.keep_looking()),
            ("drain", app.draining.keep_looking()),
            ("campaigns", campaign_watch.keep_looking(store, now_ms)),
            ("metrics", app.keep_publishing()),
        )
    ]
    for task in tasks:
        task.add_done_callback(_log_death)
    try:
        yield app
        app.stop()
        await app.drained()
    finally:
        app.aside.close()
        await app.archived.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await snapshots.withdraw(store.redis, process)
            await app.authority.tell_uses()
        except RedisError as error:
            _log.debug("not_withdrawn", reason=str(error))


def _log_death(task: asyncio.Task[None]) -> None:
    """A background task never ends by itself: that it did is a bug, and must not pass unseen."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("background_task_died", task=task.get_name(), exc_info=error)
