"""What operators ask and do."""

from __future__ import annotations

import msgspec

from gateway.ingress.api.operators.ops import (
    RATE_EXAMPLE,
    DeedsPage,
    PauseRequest,
    PauseState,
    RateRequest,
    RateState,
)
from gateway.ingress.api.operators.ops_view import DrainView, OpsView
from gateway.ingress.http.documented import PAGE, json_payload, provider_name
from gateway.ingress.http.route import HttpRoute, Parameter, Payload
from gateway.ingress.http.routes.endpoints import Endpoints

_PAUSE_BODY = Payload(
    media={"application/json": PauseRequest},
    examples={"application/json": {"reason": "maintenance until six"}},
    required=False,
)
_PAUSE_STATE = {200: json_payload("How the provider stands now.", PauseState)}
_RATE_STATE = {200: json_payload("The rate it has now.", RateState)}
_DRAIN_STATE = {200: json_payload("How far it is.", DrainView)}
_PROVIDER = Parameter("name", "path", "The provider's name in the configuration.", provider_name)

OPERATORS: tuple[HttpRoute[Endpoints], ...] = (
    HttpRoute(
        method="GET",
        path="/v1/ops",
        name="ops",
        on_admin_port="only",
        handler=lambda endpoints: endpoints.ops.overview,
        scope="operate",
        tag="Operators",
        summary="How everything is at this moment",
        text="A second old at most.",
        answers={200: json_payload("All of it.", OpsView)},
    ),
    HttpRoute(
        method="POST",
        path="/v1/ops/providers/{name}/pause",
        name="pauseProvider",
        on_admin_port="only",
        handler=lambda endpoints: endpoints.ops.pause,
        scope="operate",
        tag="Operators",
        summary="Send nothing to a provider until it is resumed",
        text="Every dispatcher keeps to it within 2 seconds, also after a restart.",
        parameters=[_PROVIDER],
        body=_PAUSE_BODY,
        answers=_PAUSE_STATE,
        problems=[404, 422],
    ),
    HttpRoute(
        method="POST",
        path="/v1/ops/providers/{name}/resume",
        name="resumeProvider",
        on_admin_port="only",
        handler=lambda endpoints: endpoints.ops.resume,
        scope="operate",
        tag="Operators",
        summary="End a provider's pause, an operator's or one that began by itself",
        parameters=[_PROVIDER],
        body=_PAUSE_BODY,
        answers=_PAUSE_STATE,
        problems=[404, 422],
    ),
    HttpRoute(
        method="PUT",
        path="/v1/ops/providers/{name}/rate",
        name="setProviderRate",
        on_admin_port="only",
        handler=lambda endpoints: endpoints.ops.set_rate,
        scope="operate",
        tag="Operators",
        summary="Give a provider another rate for a while",
        text="Every dispatcher keeps to it within 2 seconds, also after a restart; then the "
        "configured rate holds again. It may be higher than that.",
        parameters=[_PROVIDER],
        body=Payload(
            media={"application/json": RateRequest},
            examples={"application/json": msgspec.json.decode(RATE_EXAMPLE)},
        ),
        answers=_RATE_STATE,
        problems=[404, 422],
    ),
    HttpRoute(
        method="DELETE",
        path="/v1/ops/providers/{name}/rate",
        name="endProviderRate",
        on_admin_port="only",
        handler=lambda endpoints: endpoints.ops.end_rate,
        scope="operate",
        tag="Operators",
        summary="Give a provider its configured rate back before the time is over",
        parameters=[_PROVIDER],
        answers=_RATE_STATE,
        problems=[404],
    ),
    HttpRoute(
        method="POST",
        path="/v1/ops/drain",
        name="beginDrain",
        on_admin_port="only",
        handler=lambda endpoints: endpoints.ops.begin_drain,
        scope="operate",
        tag="Operators",
        summary="Refuse new messages everywhere and let the lanes run empty",
        text="Every ingress answers sends with 503 and `Retry-After` within 2 seconds, also after "
        "a restart; receipts and everything else are taken. Ask again, or `GET` it, until `empty` "
        "is true: what waits for a moment or a receipt may fill a lane later. `DELETE` ends it.",
        body=_PAUSE_BODY,
        answers=_DRAIN_STATE,
        problems=[422],
    ),
    HttpRoute(
        method="GET",
        path="/v1/ops/drain",
        name="drain",
        on_admin_port="only",
        handler=lambda endpoints: endpoints.ops.drain,
        scope="operate",
        tag="Operators",
        summary="Whether it drains, and how far that is",
        answers=_DRAIN_STATE,
    ),
    HttpRoute(
        method="DELETE",
        path="/v1/ops/drain",
        name="endDrain",
        on_admin_port="only",
        handler=lambda endpoints: endpoints.ops.end_drain,
        scope="operate",
        tag="Operators",
        summary="Take new messages again",
        answers=_DRAIN_STATE,
    ),
    HttpRoute(
        method="GET",
        path="/v1/ops/audit",
        name="audit",
        on_admin_port="only",
        handler=lambda endpoints: endpoints.ops.deeds,
        scope="operate",
        tag="Operators",
        summary="Who changed what, and when",
        text="The deeds of operators and of apps as one list; of each the newest 100,000 are kept.",
        parameters=PAGE,
        answers={200: json_payload("A page.", DeedsPage)},
        problems=[400],
    ),
)
