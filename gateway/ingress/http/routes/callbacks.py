"""What providers send."""

from __future__ import annotations

from gateway.ingress.api.callbacks.callbacks import CallbackResult, Greeting
from gateway.ingress.http.documented import json_payload, provider_name
from gateway.ingress.http.route import HttpRoute, Parameter, Payload
from gateway.ingress.http.routes.endpoints import Endpoints

CALLBACKS: tuple[HttpRoute[Endpoints], ...] = (
    HttpRoute(
        method="POST",
        path="/v1/callbacks/{provider}",
        name="callback",
        handler=lambda endpoints: endpoints.callbacks.take,
        any_query=True,
        quiet=True,
        tag="Providers",
        summary="A provider's receipts, in its own format",
        text="Proven by HTTP basic, `?token=`, an HMAC header or the provider's own signature, as "
        "configured. "
        "Answered once durable; a receipt of an unknown message is parked.",
        parameters=[
            Parameter(
                "provider", "path", "The provider's name in the configuration.", provider_name
            ),
            Parameter("token", "query", "The shared token, where the provider is proven by one."),
        ],
        body=Payload(
            media={"application/json": {}},
            examples={"application/json": {"results": []}},
            required=False,
        ),
        answers={200: json_payload("What was done with the receipts.", CallbackResult)},
        problems=[400, 401, 404, 503],
    ),
    HttpRoute(
        method="GET",
        path="/v1/callbacks/{provider}",
        name="callback_greeting",
        handler=lambda endpoints: endpoints.callbacks.greet,
        any_query=True,
        quiet=True,
        tag="Providers",
        summary="Whether a provider's callbacks are taken here",
        text="Some providers ask before they call back, others get a 405. It changes nothing.",
        parameters=[
            Parameter(
                "provider", "path", "The provider's name in the configuration.", provider_name
            ),
        ],
        answers={200: json_payload("They are.", Greeting)},
        problems=[404, 405],
    ),
)
