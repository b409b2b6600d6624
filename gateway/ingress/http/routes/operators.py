"""What operators ask and do."""

from __future__ import annotations

from gateway.ingress.api.ops import DeedsPage, PauseRequest, PauseState
from gateway.ingress.api.ops_view import OpsView
from gateway.ingress.api.parameters import LIMIT_MAX
from gateway.ingress.http.documented import json_payload, page_parameters, provider_name
from gateway.ingress.http.route import HttpRoute, Parameter, Payload
from gateway.ingress.http.routes.endpoints import Endpoints

_PAUSE_BODY = Payload(
    media={"application/json": PauseRequest},
    examples={"application/json": {"reason": "maintenance until six"}},
    required=False,
)
_PAUSE_STATE = {200: json_payload("How the provider stands now.", PauseState)}
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
        method="GET",
        path="/v1/ops/audit",
        name="audit",
        on_admin_port="only",
        handler=lambda endpoints: endpoints.ops.deeds,
        scope="operate",
        tag="Operators",
        summary="Who changed what, and when",
        text="The deeds of operators and of apps as one list; of each the newest 100,000 are kept.",
        parameters=page_parameters(LIMIT_MAX),
        answers={200: json_payload("A page.", DeedsPage)},
        problems=[400],
    ),
)
