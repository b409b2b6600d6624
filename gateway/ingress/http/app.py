"""The ASGI application of a worker: its parts, its routes, and the last word on every failure.

Owns the table of addresses and the life of the worker's background tasks. The hot addresses are
plain ASGI and found by one comparison; Starlette routes the rest. It must not know what an endpoint
does. Whatever an endpoint raises ends here: a Refusal is its problem document, Redis away a 503, a
question the report cannot answer a 422, and anything else a 500 with an incident that is logged
with its traceback. No exception's text reaches a client unless it was written for one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from gateway import telemetry
from gateway.finance.report import ReportFault
from gateway.ingress.api import reports as finance
from gateway.ingress.api.callbacks import PREFIX as CALLBACKS
from gateway.ingress.api.callbacks import CallbackEndpoint
from gateway.ingress.api.event_hub import EventHub
from gateway.ingress.api.events import EventsEndpoint
from gateway.ingress.api.health import StateEndpoints
from gateway.ingress.api.message import MessageEndpoints
from gateway.ingress.api.messages import Intake, SendEndpoint
from gateway.ingress.api.optouts import OptOutEndpoints
from gateway.ingress.api.results import refusal_of
from gateway.ingress.api.stream import StreamEndpoint
from gateway.ingress.backlog import Backlog
from gateway.ingress.http import openapi
from gateway.ingress.http.asgi import (
    AsgiMessage,
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    media_type,
    respond_refusal,
    to_json,
)
from gateway.ingress.http.auth import Authority
from gateway.ingress.http.problems import Fault, Refusal, invalid, refuse
from gateway.ingress.metrics import Metrics
from gateway.ingress.pages import docs
from gateway.redis.errors import StoreError
from gateway.settings.bootstrap import adapters_of, callback_auths_of
from gateway.settings.file import Settings
from gateway.store.store import Store

MESSAGES = "/v1/messages"
EVENTS = "/v1/events"

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = structlog.get_logger("ingress")


class Ingress:
    """One worker's application; `open_ingress` makes it and runs its background tasks."""

    def __init__(
        self, settings: Settings, store: Store, now_ms: Callable[[], int], process: str
    ) -> None:
        limits = settings.server
        self._link = store.link
        self._now_ms = now_ms
        self._process = process
        self.metrics = Metrics()
        self.authority = Authority(settings, store.link, now_ms)
        self.backlog = Backlog(settings, store, now_ms)
        self.intake = Intake(store, self.backlog, self.metrics, now_ms)
        self.hub = EventHub(store.link, store.shards)
        self.stream = StreamEndpoint(self.intake, self.authority, limits)
        self.sends = SendEndpoint(self.intake, self.authority, limits)
        self.callbacks = CallbackEndpoint(
            store,
            adapters_of(settings),
            callback_auths_of(settings),
            self.metrics,
            now_ms,
            limits.body_bytes_max,
        )
        self.events = EventsEndpoint(store.link, self.hub, self.authority, limits)
        self.document = openapi.document(settings.providers, limits.batch_items_max)
        self._plain: dict[str, App] = dict(
            finance.endpoints(
                finance.FinanceDeps(
                    link=store.link,
                    shards=store.shards,
                    currency=settings.prices.currency,
                    authorise=self._authorise_report,
                    refusals=(Refusal,),
                    now_ms=now_ms,
                )
            )
        )
        self._router = self._make_router(store, docs.page(self.document, limits.public_url))
        self.metrics.watch(
            store,
            self.backlog,
            lambda: self.intake.batcher.waiting() + self.callbacks.batcher.waiting(),
            lambda: self.events.clients,
        )

    # --- routes ---

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        try:
            if path == MESSAGES and scope["method"] == "POST":
                endpoint: App = self.sends
                if media_type(scope) == "application/x-ndjson":
                    endpoint = self.stream
                await endpoint(scope, receive, send)
            elif path.startswith(CALLBACKS) and scope["method"] == "POST":
                await self.callbacks(scope, receive, send)
            else:
                await self._logged(scope, receive, send, path)
        except ClientGone:
            return
        except Exception as error:
            status = await self._answer_failure(scope, send, error)
            name = "send" if path == MESSAGES else "callback"
            self.metrics.requests.labels(name, str(status)).inc()
            _log.debug("refused", endpoint=name, status=status)

    async def _logged(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """A request off the hot path: one line in the log when it is over, whatever became of it.

        The line names the endpoint and not the address, which may hold a phone number."""
        began = time.perf_counter()
        status = 0

        async def noting(message: AsgiMessage) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._elsewhere(scope, receive, noting, path)
        except ClientGone:
            return
        except Exception as error:
            await self._answer_failure(scope, noting, error)
        ms = round((time.perf_counter() - began) * 1000, 1)
        endpoint = scope.get("kaskad.endpoint", "none")
        self.metrics.requests.labels(endpoint, str(status)).inc()
        _log.info("request", endpoint=endpoint, method=scope["method"], status=status, ms=ms)

    async def _elsewhere(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        method = scope["method"]
        if path == MESSAGES or path.startswith(CALLBACKS):
            raise _method_not_allowed("POST")
        if path == EVENTS:
            if method != "GET":
                raise _method_not_allowed("GET")
            scope["kaskad.endpoint"] = "events"
            await self.events(scope, receive, send)
            return
        plain = self._plain.get(path)
        if plain is not None:
            if method not in ("GET", "HEAD"):
                raise _method_not_allowed("GET, HEAD")
            scope["kaskad.endpoint"] = "reports"
            await plain(scope, receive, send)
            return
        scope["app"] = self  # so that Starlette raises what it would else answer in its own words
        await self._router(scope, receive, send)

    async def _answer_failure(self, scope: Scope, send: Send, error: Exception) -> int:
        """Answers, unless an answer had begun; returns the status that the failure has."""
        refusal = _refusal_of(error)
        try:
            await respond_refusal(scope, send, refusal)
        except RuntimeError:
            # The answer had begun: all that is left is to end it where it is.
            if (guard := scope.get("kaskad.guard")) is not None:
                guard.abort()
        return refusal.problem.status

    def _make_router(self, store: Store, page: bytes) -> Router:
        messages = MessageEndpoints(store, self.authority, self._now_ms)
        optouts = OptOutEndpoints(store, self.authority)
        state = StateEndpoints(store.link, self._render, self._now_ms)
        document = to_json(self.document)
        policy = {"content-security-policy": docs.CONTENT_SECURITY_POLICY}

        async def openapi_json(_request: Request) -> Response:
            return Response(document, media_type="application/json")

        async def docs_page(_request: Request) -> Response:
            return Response(page, media_type="text/html", headers=policy)

        return Router(
            [
                _route(
                    "/v1/messages/{id}", GET=messages.get_message, DELETE=messages.delete_message
                ),
                _route(
                    "/v1/optouts/{phone}",
                    GET=optouts.get_opt_out,
                    PUT=optouts.put_opt_out,
                    DELETE=optouts.delete_opt_out,
                ),
                _route("/healthz", GET=state.healthz),
                _route("/readyz", GET=state.readyz),
                _route("/metrics", GET=state.metrics),
                _route("/openapi.json", GET=openapi_json),
                _route("/docs", GET=docs_page),
            ],
            redirect_slashes=False,
        )

    def _render(self, snapshots: list[bytes]) -> bytes:
        return telemetry.render(snapshots, self.metrics.registry, self._process)

    async def _authorise_report(self, headers: Headers) -> object:
        return await self.authority.require(headers, "report")

    # --- life ---

    async def keep_publishing(self) -> None:
        """Publishes this worker's figures until it is cancelled."""
        while True:
            try:
                registry, now_ms = self.metrics.registry, self._now_ms()
                await telemetry.publish(self._link, self._process, registry, now_ms)
            except StoreError:
                self.metrics.snapshots_failed.inc()
            await asyncio.sleep(telemetry.PUBLISH_EVERY_S)

    def stop(self) -> None:
        """Ends the streams, in and out, so that nothing new begins; other requests go on."""
        self.stream.stop()
        self.hub.close()

    async def drained(self) -> None:
        """Returns once every message and receipt that was taken is durable."""
        await self.intake.batcher.drained()
        await self.callbacks.batcher.drained()


@asynccontextmanager
async def open_ingress(
    settings: Settings, store: Store, *, now_ms: Callable[[], int], process: str
) -> AsyncIterator[Ingress]:
    """The application with its background tasks, for as long as the block.

    `process` is `telemetry.process_name("ingress")`. On leaving, what was taken is made durable
    first; a caller that cannot wait cancels.
    """
    app = Ingress(settings, store, now_ms, process)
    tasks = [
        asyncio.create_task(coroutine, name=name)
        for name, coroutine in (
            ("backlog", app.backlog.keep_sampling()),
            ("events", app.hub.run()),
            ("figures", app.keep_publishing()),
        )
    ]
    for task in tasks:
        task.add_done_callback(_tell_of_death)
    try:
        yield app
        app.stop()
        await app.drained()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await telemetry.withdraw(store.link, process)
        except StoreError as error:
            _log.debug("not_withdrawn", reason=str(error))


def _tell_of_death(task: asyncio.Task[None]) -> None:
    """A background task never ends by itself: that it did is a bug, and must not pass unseen."""
    if not task.cancelled() and (fault := task.exception()) is not None:
        _log.error("background_task_died", task=task.get_name(), exc_info=fault)


def _route(path: str, **methods: Callable[[Request], Awaitable[Response]]) -> Route:
    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        chosen = methods[method]
        request.scope["kaskad.endpoint"] = chosen.__name__
        return await chosen(request)

    return Route(path, endpoint, methods=list(methods))


def _refusal_of(error: Exception) -> Refusal:
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            return _method_not_allowed((error.headers or {}).get("Allow", ""))
        return refuse("not-found", "There is nothing at this address; /docs lists all there is.")
    if isinstance(error, ReportFault):
        pointer = f"/{error.parameter}" if error.parameter else ""
        return Refusal(invalid([Fault(pointer, error.detail)]))
    return refusal_of(error)


def _method_not_allowed(allowed: str) -> Refusal:
    return refuse("method-not-allowed", f"Use {allowed}.", (b"allow", allowed.encode()))
