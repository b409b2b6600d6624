"""`/v1/webhooks`: where an app is told of events, with which secret, and what that came to.

A webhook is its app's alone. What is set holds everywhere before it is answered: a call that
changes something waits until every process has looked.
"""

from __future__ import annotations

import asyncio
import re
import secrets as random_bits
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from gateway.core.records.webhook import Secret, Webhook, WebhookEvent
from gateway.core.texts import is_plain_name
from gateway.core.views.words import rfc3339
from gateway.core.webhooks import (
    EVENTS,
    OF_OPERATORS,
    SECRET_BYTES,
    TEST,
    rotated,
    secret_of,
)
from gateway.ingress.api.bodies.decoder import Moment, moment_ms, read_given, require_json
from gateway.ingress.api.bodies.parameters import read_page, read_parameters
from gateway.ingress.api.events.webhook_view import (
    AttemptsPage,
    RecoveryBegun,
    TestSent,
    WebhookList,
    WebhookSet,
    attempt_view,
    view_of,
)
from gateway.ingress.api.results import of_newer
from gateway.ingress.http.asgi import to_json
from gateway.ingress.http.auth import Principal
from gateway.ingress.http.problems import Refusal, RequestFault, invalid, refuse
from gateway.ingress.http.request import Request
from gateway.store.events import outbox, webhook_queues, webhooks
from gateway.store.events.webhook_queues import Recovery
from gateway.store.events.webhooks import WEBHOOKS_MAX, UnreadableWebhookError
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.store import Store
from providers.http.receivers import is_receiver

BODY_BYTES_MAX = 16 * 1024
URL_CHARS_MAX = 2_048
KNOWN_S = 1.1  # every process looks at what is declared more often
EXAMPLE = '{"url": "https://shop.example/hooks", "events": ["message.delivered"]}'
SINCE_EXAMPLE = '{"since": "2026-11-28T10:00:00Z"}'
NAME_RULE = "A name of 1 to 64 letters, digits, dots, dashes and underscores."
URL_RULE = (
    "An https address of at most 2048 characters, without user or fragment; http for hosts of "
    "webhooks.allow_hosts alone."
)

_cursor = re.compile(r"[0-9]{1,18}-[0-9]{1,18}\.[0-9]{1,6}").fullmatch


EventType = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(EVENTS)})]


class WebhookRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an app is to be told, and of what; of a webhook that there is, keys left out stay."""

    url: Annotated[str, msgspec.Meta(max_length=URL_CHARS_MAX, description=URL_RULE)] = ""
    events: Annotated[
        list[EventType], msgspec.Meta(max_length=len(EVENTS), description="Types of events.")
    ] = []
    enabled: Annotated[bool, msgspec.Meta(description="true or false.")] = True


class RecoverRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From when on everything is told once more."""

    since: Moment


class WebhookEndpoints:
    """Keeps webhooks and shows them. `hosts` may be private and reached by http; `now_ms` is the
    edge's clock."""

    def __init__(self, store: Store, hosts: Collection[str], now_ms: Callable[[], int]) -> None:
        self._store = store
        self._redis = store.redis
        self._hosts = frozenset(hosts)
        self._now_ms = now_ms

    async def put(self, request: Request) -> None:
        app, name = _named(request)
        rotate = _rotates(request.query)
        wanted, given = await self._asked(request)
        faults = list(self._faults(wanted, given))
        if faults:
            raise Refusal(invalid(faults))
        _refuse_operators_events(wanted.events, request.principal)
        now_ms, fresh = self._now_ms(), secret_of(random_bits.token_bytes(SECRET_BYTES))
        changed = shown = False

        def decide(before: Webhook | None, count: int) -> Webhook:
            nonlocal changed, shown
            if before is None and count >= WEBHOOKS_MAX:
                raise refuse("final", f"An app has {WEBHOOKS_MAX} webhooks at most: delete one.")
            after = _changed(before, wanted, given, fresh, now_ms)
            if rotate and before is not None:
                after = replace(after, secrets=rotated(after.secrets, fresh, now_ms))
            shown = before is None or rotate
            changed = before is None or after != replace(before, updated_ms=now_ms)
            return after

        keys = ", ".join(sorted(given | ({"secret"} if rotate else set())))
        deed = Deed(now_ms, request.principal.named, "webhook.put", f"{app} {name}", keys)
        try:
            stands = await webhooks.change(self._redis, app, name, decide, deed)
        except UnreadableWebhookError as error:
            raise of_newer("The webhook was written") from error
        assert stands is not None, "it was put there"
        await self._store.webhooks.look(self._redis)
        if changed:
            await asyncio.sleep(KNOWN_S)
        secret = fresh if shown else msgspec.UNSET
        answer = WebhookSet(name, stands.url, list(stands.events), stands.enabled, secret)
        await request.respond(200, to_json(answer))

    async def get(self, request: Request) -> None:
        _, name, webhook = await self._found(request)
        (state,) = await webhook_queues.states(self._redis, [webhook.id])
        await request.respond(200, to_json(view_of(name, webhook, state, self._now_ms())))

    async def every(self, request: Request) -> None:
        await self._store.webhooks.look(self._redis)
        app = request.principal.app
        mine = [(n, w) for (of, n), w in sorted(self._every()) if of == app]
        states = await webhook_queues.states(self._redis, [each.id for _, each in mine])
        now_ms = self._now_ms()
        views = [view_of(*each, state, now_ms) for each, state in zip(mine, states, strict=True)]
        await request.respond(200, to_json(WebhookList(views)))

    async def delete(self, request: Request) -> None:
        app, name, _ = await self._found(request)
        deed = Deed(self._now_ms(), request.principal.named, "webhook.delete", f"{app} {name}")
        await webhooks.change(self._redis, app, name, lambda _before, _count: None, deed)
        await self._store.webhooks.look(self._redis)
        await request.respond(204)

    async def test(self, request: Request) -> None:
        """Puts an event of its own kind into the queue."""
        _, name, webhook = await self._found(request, enabled=True)
        data = msgspec.json.encode({"webhook": name})
        event = WebhookEvent(outbox.new_id(), TEST, self._now_ms(), data=data)
        await outbox.give(self._redis, [(webhook.id, [event])])
        await request.respond(202, to_json(TestSent(event.id)))

    async def attempts(self, request: Request) -> None:
        _, _, webhook = await self._found(request)
        asked = read_page(request.query, lambda text: _cursor(text) is not None)
        page = await webhook_queues.read_tries(self._redis, webhook.id, asked.limit, asked.cursor)
        shown = AttemptsPage([attempt_view(each) for each in page.tries], page.next)
        await request.respond(200, to_json(shown))

    async def recover(self, request: Request) -> None:
        """Has everything since a moment told once more."""
        app, name, webhook = await self._found(request, enabled=True)
        require_json(request)
        body = await request.body(BODY_BYTES_MAX)
        wanted, _ = read_given(RecoverRequest, body, SINCE_EXAMPLE)
        now_ms, since_ms = self._now_ms(), moment_ms(wanted.since)
        if since_ms > now_ms:
            raise Refusal(invalid([RequestFault("/since", "A moment in the past.")]))
        await webhook_queues.recover(self._redis, webhook.id, Recovery(since_ms, now_ms))
        deed = Deed(
            now_ms,
            request.principal.named,
            "webhook.recover",
            f"{app} {name}",
            f"since {rfc3339(since_ms)}",
        )
        await audit.note(self._redis, deed)
        await request.respond(202, to_json(RecoveryBegun(rfc3339(since_ms), rfc3339(now_ms))))

    async def _asked(self, request: Request) -> tuple[WebhookRequest, Set[str]]:
        """What a body asks for; none asks for nothing."""
        body = await request.body(BODY_BYTES_MAX)
        if not body:
            return WebhookRequest(), frozenset()
        require_json(request)
        return read_given(WebhookRequest, body, EXAMPLE)

    async def _found(self, request: Request, *, enabled: bool = False) -> tuple[str, str, Webhook]:
        """The webhook in the address. Raises Refusal."""
        app, name = _named(request)
        await self._store.webhooks.look(self._redis)
        webhook = self._store.webhooks.now.every.get((app, name))
        if webhook is None:
            raise refuse("not-found", "Your app has no webhook of this name.")
        if enabled and not webhook.enabled:
            raise refuse("final", "The webhook is disabled: enable it first.")
        return app, name, webhook

    def _every(self) -> Iterable[tuple[tuple[str, str], Webhook]]:
        return self._store.webhooks.now.every.items()

    def _faults(self, wanted: WebhookRequest, given: Set[str]) -> Iterator[RequestFault]:
        if "url" in given and not is_receiver(wanted.url, self._hosts):
            yield RequestFault("/url", URL_RULE)
        if "events" in given and not wanted.events:
            yield RequestFault("/events", "One type of event at least.")
        for index, event in enumerate(wanted.events):
            if event not in EVENTS:
                there_are = ", ".join(EVENTS)
                yield RequestFault(f"/events/{index}", f"No such event; there are: {there_are}.")


def _changed(
    before: Webhook | None, wanted: WebhookRequest, given: Set[str], fresh: str, now_ms: int
) -> Webhook:
    """The webhook with the keys that were given. Raises Refusal where a new one lacks some."""
    if before is None:
        rules = {"url": URL_RULE, "events": "Types of events."}
        lacking = {key: rule for key, rule in rules.items() if key not in given}
        if lacking:
            faults = [RequestFault(f"/{k}", f"Required: {rule}") for k, rule in lacking.items()]
            raise Refusal(invalid(faults))
        before = Webhook(random_bits.token_hex(8), "", (), (Secret(fresh),))
    changes: dict[str, Any] = {}
    if "url" in given:
        changes["url"] = wanted.url
    if "events" in given:
        changes["events"] = tuple(dict.fromkeys(wanted.events))
    if "enabled" in given:
        changes |= {"enabled": wanted.enabled, "why": "", "disabled_ms": 0}
    return replace(before, **changes, updated_ms=now_ms)


def _refuse_operators_events(events: Sequence[str], principal: Principal) -> None:
    """Raises Refusal (403) of events that are for operators alone."""
    theirs = [event for event in events if event in OF_OPERATORS]
    if theirs and "operate" not in principal.scopes:
        told = " and ".join(dict.fromkeys(theirs))
        raise refuse("forbidden", f"This key lacks the scope operate, which {told} needs.")


def _named(request: Request) -> tuple[str, str]:
    """The app, and the webhook's name in the path. Raises Refusal."""
    name = request.parameters["name"]
    if is_plain_name(name) is None:
        raise Refusal(invalid([RequestFault("/name", NAME_RULE)]))
    return request.principal.app, name


def _rotates(query: bytes) -> bool:
    asked = dict(read_parameters(query, 2, keep_blank=True)).get("rotate", "false")
    if asked not in ("true", "false"):
        raise refuse("query", "`rotate` is true or false.")
    return asked == "true"
