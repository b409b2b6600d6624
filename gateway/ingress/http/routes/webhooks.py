"""Webhooks: where an app is told of events."""

from __future__ import annotations

from gateway.ingress.api.events.webhook_view import (
    AttemptsPage,
    RecoveryBegun,
    TestSent,
    WebhookList,
    WebhookSet,
    WebhookView,
)
from gateway.ingress.api.events.webhooks import RecoverRequest, WebhookRequest
from gateway.ingress.http.documented import PAGE, json_payload
from gateway.ingress.http.route import HttpRoute, Parameter, Payload
from gateway.ingress.http.routes.endpoints import Endpoints

_WANTED = {"url": "https://shop.example/hooks", "events": ["message.delivered"], "enabled": True}
_SHOWN = {
    "name": "orders",
    **_WANTED,
    "disabled": None,
    "waiting": 0,
    "failing_since": None,
    "recovering_since": None,
    "old_secret_until": None,
    "updated_at": "2026-11-28T10:00:00.000Z",
}
_SET = {"name": "orders", **_WANTED, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
_NAME = Parameter("name", "path", "The webhook's name: letters, digits, dots, dashes, underscores.")
_ROTATE = Parameter(
    "rotate", "query", "Make a new secret; both sign for 24 hours.", {"type": "boolean"}
)

WEBHOOKS: tuple[HttpRoute[Endpoints], ...] = (
    HttpRoute(
        method="GET",
        path="/v1/webhooks",
        name="listWebhooks",
        handler=lambda endpoints: endpoints.webhooks.every,
        scope="manage",
        tag="Webhooks",
        summary="The app's webhooks, and how they are",
        answers={200: json_payload("They, by name.", WebhookList, {"items": [_SHOWN]})},
    ),
    HttpRoute(
        method="PUT",
        path="/v1/webhooks/{name}",
        name="putWebhook",
        handler=lambda endpoints: endpoints.webhooks.put,
        scope="manage",
        tag="Webhooks",
        summary="Tell events to an address of the app's, signed",
        text="Keys left out stay. The secret is shown once, when it is made. What happens after "
        "the answer is told.",
        parameters=[_NAME, _ROTATE],
        body=Payload(
            media={"application/json": WebhookRequest},
            examples={"application/json": _WANTED},
            required=False,
        ),
        answers={200: json_payload("The webhook.", WebhookSet, _SET)},
        problems=[400, 409, 422],
    ),
    HttpRoute(
        method="GET",
        path="/v1/webhooks/{name}",
        name="getWebhook",
        handler=lambda endpoints: endpoints.webhooks.get,
        scope="manage",
        tag="Webhooks",
        summary="A webhook, and how it is",
        parameters=[_NAME],
        answers={200: json_payload("The webhook.", WebhookView, _SHOWN)},
        problems=[404, 422],
    ),
    HttpRoute(
        method="DELETE",
        path="/v1/webhooks/{name}",
        name="deleteWebhook",
        handler=lambda endpoints: endpoints.webhooks.delete,
        scope="manage",
        tag="Webhooks",
        summary="Tell nothing more, and forget what waits",
        parameters=[_NAME],
        answers={204: Payload(text="It is gone.")},
        problems=[404, 422],
    ),
    HttpRoute(
        method="POST",
        path="/v1/webhooks/{name}/test",
        name="testWebhook",
        handler=lambda endpoints: endpoints.webhooks.test,
        scope="manage",
        tag="Webhooks",
        summary="Make a call of the type webhook.test",
        parameters=[_NAME],
        answers={202: json_payload("It is on its way.", TestSent, {"id": "evt_3f2b8c1d9e0a4b5c"})},
        problems=[404, 409, 422],
    ),
    HttpRoute(
        method="GET",
        path="/v1/webhooks/{name}/attempts",
        name="webhookAttempts",
        handler=lambda endpoints: endpoints.webhooks.attempts,
        scope="manage",
        tag="Webhooks",
        summary="What tries to tell it came to",
        text="Those of 3 days; of very many the newest are kept.",
        parameters=[_NAME, *PAGE],
        answers={200: json_payload("A page, the newest first.", AttemptsPage)},
        problems=[400, 404, 422],
    ),
    HttpRoute(
        method="POST",
        path="/v1/webhooks/{name}/recover",
        name="recoverWebhook",
        handler=lambda endpoints: endpoints.webhooks.recover,
        scope="manage",
        tag="Webhooks",
        summary="Tell everything since a moment once more",
        text="Each event under the id it had, as far back as it is kept: of messages as far as the "
        "app's event stream reaches, of replies 7 days, of all else the newest 10,000.",
        parameters=[_NAME],
        body=json_payload("", RecoverRequest, {"since": "2026-11-28T10:00:00Z"}),
        answers={202: json_payload("It has begun.", RecoveryBegun)},
        problems=[404, 409, 422],
    ),
)
