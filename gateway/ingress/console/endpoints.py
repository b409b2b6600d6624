"""`/console`: pages for whoever is on duty, and what can be done there.

A key of scope `operate` opens them, as the password of HTTP Basic. Pages work without a script;
with one the live part of a page follows by Server-Sent Events. What a form does is one call of the
API with the rights of that key; its answer is shown with the call as curl. What cannot be shown or
done is a page that says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from urllib.parse import parse_qsl

import msgspec

from gateway.ingress.api.bodies.parameters import PARAMETERS_MAX, read_parameters
from gateway.ingress.api.results import refusal_of
from gateway.ingress.console import actions
from gateway.ingress.console.actions import ActionForm, FormFields, Input, form
from gateway.ingress.console.calls import ApiCall, Caller, segment
from gateway.ingress.console.money import MoneyViews
from gateway.ingress.console.views import BY, BY_FIRST, BY_PERSON, View, Views
from gateway.ingress.http.asgi import FORM_TYPE, HTML, ClientGone, Headers, to_json
from gateway.ingress.http.key_watch import KeyWatch
from gateway.ingress.http.problems import Refusal, refuse
from gateway.ingress.http.request import Request
from gateway.ingress.http.route import Handler
from gateway.ingress.pages import console as pages
from gateway.redis.errors import RedisError
from gateway.settings.tables import Server

BODY_BYTES_MAX = 16_384
FIELDS_MAX = 32
LIVE_EVERY_S = 2.0
LIVE_MAX = 32  # streams of a worker

# A page that sent no referrer at all would post its forms with the origin `null`.
_PAGE_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    pages.POLICY,
)
_LIVE_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


class ConsoleEndpoints:
    """Answers for the console."""

    def __init__(
        self,
        views: Views,
        money: MoneyViews,
        caller: Caller,
        keys: KeyWatch,
        limits: Server,
    ) -> None:
        self._views = views
        self._money = money
        self._caller = caller
        self._keys = keys
        self._public_url = limits.public_url
        self._has_admin_port = bool(limits.admin_port)
        self._timeout_s = limits.request_timeout_ms / 1000
        self._live: set[asyncio.Event] = set()
        self._live_views: Mapping[str, Callable[[Request], Awaitable[View]]] = {
            "now": views.now,
            "providers": views.providers,
            "campaigns": views.campaigns,
        }

    # --- pages ---

    async def now(self, request: Request) -> None:
        view = await self._views.now(request)
        drains = view["ops"].drain is not msgspec.UNSET
        act = self._form(request, "drain-end") if drains else self._drain(request)
        await self._show(request, "now", view | {"drain_form": act})

    async def providers(self, request: Request) -> None:
        await self._show(request, "providers", await self._views.providers(request))

    async def provider(self, request: Request) -> None:
        view = await self._views.provider(request)
        await self._show(request, "provider", view | {"forms": self._of_provider(request, view)})

    async def campaigns(self, request: Request) -> None:
        await self._show(request, "campaigns", await self._views.campaigns(request))

    async def campaign(self, request: Request) -> None:
        view = await self._views.campaign(request)
        await self._show(request, "campaign", view | {"forms": self._of_campaign(request, view)})

    async def webhooks(self, request: Request) -> None:
        await self._show(request, "webhooks", await self._views.webhooks(request))

    async def webhook(self, request: Request) -> None:
        view = await self._views.webhook(request)
        await self._show(request, "webhook", view | {"forms": self._of_webhook(request, view)})

    async def messages(self, request: Request) -> None:
        await self._show(request, "messages", {"by": BY_FIRST, "text": "", "found": None})

    async def search(self, request: Request) -> None:
        fields = await _fields(request)
        by, text = fields.get("by", ""), fields.get("text", "").strip()
        if by == "id" and text:
            place = f"/console/messages/{segment(text)}".encode()
            await request.respond(303, b"", (*_PAGE_HEADERS, (b"location", place)), HTML)
            return
        found = await self._views.found(request, by, text)
        await self._show(request, "messages", {"by": by, "text": text, "found": found})

    async def message(self, request: Request) -> None:
        view = await self._views.message(request)
        message = view["message"]
        cancel = None
        if not message["final"] and message["app"] == request.principal.app:
            cancel = self._form(request, "message-cancel", {"id": message["id"]})
        raw = msgspec.json.format(to_json(message), indent=2).decode()
        await self._show(request, "message", view | {"cancel": cancel, "raw": raw})

    async def people(self, request: Request) -> None:
        view = {"by": BY_FIRST, "text": "", "asked": False, "person": None, "forms": []}
        await self._show(request, "people", view)

    async def find_person(self, request: Request) -> None:
        fields = await _fields(request)
        by, text = fields.get("by", ""), fields.get("text", "").strip()
        view = await self._views.person(request, by, text)
        forms = self._of_person(request, view["person"])
        view |= {"by": by, "text": text, "asked": True, "forms": forms}
        await self._show(request, "people", view)

    async def leftovers(self, request: Request) -> None:
        await self._show(request, "leftovers", await self._views.leftovers(request))

    async def money(self, request: Request) -> None:
        await self._show(request, "money", await self._money.money(request))

    async def month(self, request: Request) -> None:
        await self._show(request, "month", await self._money.month(request))

    async def audit(self, request: Request) -> None:
        await self._show(request, "audit", await self._views.audit(request))

    # --- doing ---

    async def act(self, request: Request) -> None:
        fields = await _fields(request)
        actions.refuse_foreign(request, fields)
        asked = actions.call_of(fields)
        answered = await self._caller.call(asked, request.principal, request.peer)
        answer = msgspec.json.format(to_json(answered.json), indent=2).decode()
        back = fields.get("back", "")
        view = {
            "label": actions.ACTIONS[fields["action"]].label,
            "done": answered.done,
            "status": answered.status,
            "answer": "" if answered.json is None else answer,
            "curl": self._curl(request, asked),
            "back": back if back.startswith("/console") else "/console",
        }
        status = 200 if answered.done else answered.status
        await self._show(request, "done", view, status)

    def _form(
        self,
        request: Request,
        name: str,
        hidden: Mapping[str, str] | None = None,
        inputs: tuple[Input, ...] = (),
    ) -> ActionForm:
        return form(name, request.principal, partial(self._curl, request), hidden, inputs)

    def _curl(self, request: Request, call: ApiCall) -> str:
        """A call as curl, to where it is answered: what is for operators, on the port they use."""
        host = request.header(b"host")
        if host is None or not (self._has_admin_port and call.path.startswith("/v1/ops")):
            return call.curl(self._public_url)
        return call.curl(f"http://{host.decode('latin-1')}")

    def _drain(self, request: Request) -> ActionForm:
        reason = Input("reason", "Why", placeholder="the store moves")
        return self._form(request, "drain", {"what": "everything"}, (reason,))

    def _of_provider(self, request: Request, view: View) -> list[ActionForm]:
        of, row = {"name": view["name"]}, view["row"]
        why = Input("reason", "Why", placeholder="maintenance until six")
        rate = Input("rate", "Messages a second", placeholder="50/s", required=True)
        lasts = Input("for", "For", value="30m", required=True)
        paused = row["view"].paused is not None
        forms = [self._form(request, "resume" if paused else "pause", of, (why,))]
        forms.append(self._form(request, "rate", of, (rate, lasts)))
        if row["rate"] is not None:
            forms.append(self._form(request, "rate-end", of))
        if view["routes"]:
            options = [(route, route) for route in view["routes"]]
            to = Input("to", "To", placeholder="+79161234567", required=True)
            text = Input("text", "Text", value="A test by Kaskad.", required=True)
            route = Input("route", "Route", value=options[0][0], options=options)
            page = {"page": request.id.decode()}
            forms.append(self._form(request, "test-send", page, (to, text, route)))
        return forms

    def _of_campaign(self, request: Request, view: View) -> list[ActionForm]:
        campaign = view["campaign"]
        of = {"name": campaign["name"]}
        if campaign["state"] == "cancelled":
            return []
        pace = Input("pace", "First steps a minute", campaign["pace"] or "", "600/m; empty: none")
        turn = "campaign-resume" if campaign["state"] == "paused" else "campaign-pause"
        return [
            self._form(request, turn, of),
            self._form(request, "campaign-pace", of, (pace,)),
            self._form(request, "campaign-cancel", of),
        ]

    def _of_webhook(self, request: Request, view: View) -> list[ActionForm]:
        """Only its own app's: the API changes no other's."""
        if view["app"] != request.principal.app:
            return []
        of = {"name": view["webhook"]["name"]}
        if not view["webhook"]["enabled"]:
            return [self._form(request, "webhook-enable", of)]
        since = Input("since", "Since", placeholder="2026-11-21T10:00:00Z", required=True)
        return [
            self._form(request, "webhook-test", of),
            self._form(request, "webhook-recover", of, (since,)),
            self._form(request, "webhook-disable", of),
        ]

    def _of_person(self, request: Request, person: View | None) -> list[ActionForm]:
        if person is None:
            return []
        scopes = [("marketing", "marketing"), ("all", "all")]
        scope = Input("scope", "Of", value="marketing", options=scopes)
        out = set(person["out"])
        in_reach = [each for each in person["addresses"] if each not in out]
        forms = [self._form(request, "opt-in", {"address": each}) for each in sorted(out)]
        forms += [self._form(request, "opt-out", {"address": each}, (scope,)) for each in in_reach]
        if user := person["view"].user:
            forms.append(self._form(request, "erase", {"user": user}))
        return forms

    # --- live ---

    async def live(self, request: Request) -> None:
        asked = dict(read_parameters(request.query, PARAMETERS_MAX))
        name = asked.get("page", "")
        view = self._live_views.get(name)
        if view is None:
            raise refuse("query", f"`page` is one of: {', '.join(self._live_views)}.")
        if len(self._live) >= LIVE_MAX:
            raise refuse("unavailable", "Too many pages are followed here: try again later.")
        ended = asyncio.Event()
        self._live.add(ended)
        try:
            with self._keys.watching(request.principal, "operate", ended.set):
                async with asyncio.TaskGroup() as tasks:
                    watcher = tasks.create_task(request.until_gone())
                    await self._follow(request, name, view, ended)
                    watcher.cancel()
        except* (TimeoutError, ClientGone):
            request.abort()
        finally:
            self._live.discard(ended)

    async def _follow(
        self,
        request: Request,
        name: str,
        view: Callable[[Request], Awaitable[View]],
        ended: asyncio.Event,
    ) -> None:
        """Sends the live part of a page whenever it changed, until told to end. Raises TimeoutError
        when nobody takes it."""
        await request.begin(200, _LIVE_HEADERS)
        shown = ""
        while not ended.is_set():
            try:
                html = pages.live(name, await view(request))
            except RedisError:
                html = shown  # what was shown stands
            event = ": still here\n\n" if html == shown else _event(html)
            shown = html
            async with asyncio.timeout(self._timeout_s):
                await request.write(event.encode())
            try:
                await asyncio.wait_for(ended.wait(), LIVE_EVERY_S)
            except TimeoutError:
                continue
        await request.end()

    def close(self) -> None:
        """Ends what is followed."""
        for ended in self._live:
            ended.set()

    def page(self, handler: Handler) -> Handler:
        """A handler whose refusals are pages too."""

        async def answer(request: Request) -> None:
            try:
                await handler(request)
            except (Refusal, RedisError) as error:
                refusal = refusal_of(error)
                problem = refusal.problem
                fault = {"title": problem.title, "detail": problem.detail}
                await self._show(request, "fault", fault, problem.status, refusal.headers)

        return answer

    async def _show(
        self,
        request: Request,
        name: str,
        view: View,
        status: int = 200,
        headers: Headers = (),
    ) -> None:
        body = pages.render(name, view | self._frame(request))
        await request.respond(status, body, (*_PAGE_HEADERS, *headers), HTML)

    def _frame(self, request: Request) -> View:
        return {
            "csrf": actions.token_of(request.principal),
            "path": request.path,
            "who": request.principal.named,
            "kinds": BY,
            "person_kinds": BY_PERSON,
        }


async def _fields(request: Request) -> FormFields:
    """The fields of a form. Raises Refusal."""
    if request.media_type != FORM_TYPE:
        raise refuse("media-type", f"Send {FORM_TYPE}.")
    body = await request.body(BODY_BYTES_MAX)
    try:
        return dict(parse_qsl(body.decode("ascii"), True, max_num_fields=FIELDS_MAX))
    except ValueError:
        raise refuse("malformed", "The form cannot be read.") from None


def _event(html: str) -> str:
    return "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
