"""The route table: every endpoint is one row here and one handler in `ingress/api`.

The app routes by it, asks for keys by it and counts by it, and the OpenAPI document is made from
it. To add an endpoint, write its handler and its row.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.core import channels
from gateway.ingress.api.callbacks import CallbackEndpoint, CallbackResult
from gateway.ingress.api.campaigns import (
    CampaignEndpoints,
    CampaignList,
    CampaignRequest,
    CampaignView,
)
from gateway.ingress.api.docs import DocsEndpoints
from gateway.ingress.api.events import EventData, EventsEndpoint
from gateway.ingress.api.health import Health, HealthEndpoints, Readiness
from gateway.ingress.api.message_view import MessageView
from gateway.ingress.api.messages import MessageEndpoints, SendEndpoint
from gateway.ingress.api.ops import (
    DEEDS_MAX,
    DeedsPage,
    OpsEndpoints,
    PauseRequest,
    PauseState,
)
from gateway.ingress.api.ops_view import OpsView
from gateway.ingress.api.optouts import OptOutEndpoints, OptOutRequest, OptOutView
from gateway.ingress.api.reports import COST_PARAMETERS, COST_REPORT, ReportEndpoints
from gateway.ingress.api.requests import KEY_MAX
from gateway.ingress.api.results import Result
from gateway.ingress.api.users import ErasedView, UserEndpoints, UserView
from gateway.ingress.http.documented import (
    json_payload,
    one_or_many,
    provider_name,
    text_payload,
)
from gateway.ingress.http.route import HttpRoute, Parameter, Payload
from gateway.ingress.pages.reports import PATH as REPORT_PAGE


class Endpoints(NamedTuple):
    """What holds the handlers."""

    sends: SendEndpoint
    messages: MessageEndpoints
    campaigns: CampaignEndpoints
    events: EventsEndpoint
    optouts: OptOutEndpoints
    users: UserEndpoints
    reports: ReportEndpoints
    callbacks: CallbackEndpoint
    ops: OpsEndpoints
    health: HealthEndpoints
    docs: DocsEndpoints


EXAMPLE = {
    "to": "+79161234567",
    "user": "u-1001",
    "campaign": "autumn-sale",
    "category": "marketing",
    "text": "Autumn sale: 20% off until Sunday.",
    **channels.EXAMPLE,
    "metadata": {"segment": "b"},
}
_REPLAYED = {
    "Idempotent-Replayed": {
        "description": "`true` when this is the first answer again.",
        "schema": {"const": "true"},
    }
}
_MESSAGE = {200: json_payload("The message.", MessageView)}
_MESSAGE_ID = Parameter("id", "path", "The message's id.")
_OPT_OUT = {200: json_payload("The opt-out.", OptOutView)}
_ADDRESS = Parameter("address", "path", "A phone number in E.164, or an e-mail address.")
_CAMPAIGN = {200: json_payload("The campaign.", CampaignView)}
_CAMPAIGN_NAME = Parameter("name", "path", "The campaign's name, as messages name it.")
_USER = Parameter("user", "path", "The person's id at the caller.")

_PAUSE_BODY = Payload(media={"application/json": PauseRequest}, required=False)
_PAUSE_STATE = {200: json_payload("How the provider stands now.", PauseState)}
_PROVIDER = Parameter("name", "path", "The provider's name in the configuration.", provider_name)

ROUTES: tuple[HttpRoute[Endpoints], ...] = (
    HttpRoute(
        method="POST",
        path="/v1/messages",
        name="send",
        handler=lambda endpoints: endpoints.sends.send,
        scope="send",
        quiet=True,
        tag="Messages",
        summary="Send one message, an array, or a stream",
        text="Answered once durable. A stream is answered while it is read, one line "
        "for each line, in order; a client must read while it writes. A line that is an "
        "`error` is the last one that was read: go on from it.",
        parameters=[
            Parameter(
                "Idempotency-Key",
                "header",
                "The same key and body within 24 hours give the first answer "
                "again. Items of an array have `key#index`, lines of a stream `key#line`.",
                {"type": "string", "minLength": 1, "maxLength": KEY_MAX},
            )
        ],
        body=Payload(
            media={"application/json": one_or_many, "application/x-ndjson": {"type": "string"}},
            example=EXAMPLE,
        ),
        answers={
            200: Payload(
                text="One message that was a duplicate or suppressed; or the results of an "
                "array, in order, with `index`; or of a stream, line by line, with `line`.",
                media={
                    "application/json": (Result, list[Result]),
                    "application/x-ndjson": {"type": "string"},
                },
                headers=_REPLAYED,
            ),
            202: Payload(
                text="Accepted: it will reach a final status.",
                media={"application/json": Result},
                headers=_REPLAYED,
            ),
        },
        problems=[422, 429],
    ),
    HttpRoute(
        method="GET",
        path="/v1/messages/{id}",
        name="getMessage",
        handler=lambda endpoints: endpoints.messages.get,
        scope="read",
        tag="Messages",
        summary="A message: its status, its steps and what it costs",
        parameters=[_MESSAGE_ID],
        answers=_MESSAGE,
        problems=[404],
    ),
    HttpRoute(
        method="DELETE",
        path="/v1/messages/{id}",
        name="cancelMessage",
        handler=lambda endpoints: endpoints.messages.cancel,
        scope="send",
        tag="Messages",
        summary="Cancel: no further step starts",
        parameters=[_MESSAGE_ID],
        answers=_MESSAGE,
        problems=[404, 409],
    ),
    HttpRoute(
        method="GET",
        path="/v1/optouts/{address}",
        name="getOptOut",
        handler=lambda endpoints: endpoints.optouts.get,
        scope="send",
        tag="Opt-outs",
        summary="Whether somebody opted out",
        parameters=[_ADDRESS],
        answers=_OPT_OUT,
        problems=[404, 422],
    ),
    HttpRoute(
        method="PUT",
        path="/v1/optouts/{address}",
        name="putOptOut",
        handler=lambda endpoints: endpoints.optouts.put,
        scope="send",
        tag="Opt-outs",
        summary="Somebody opts out",
        parameters=[_ADDRESS],
        body=json_payload("", OptOutRequest),
        answers=_OPT_OUT,
        problems=[422],
    ),
    HttpRoute(
        method="DELETE",
        path="/v1/optouts/{address}",
        name="deleteOptOut",
        handler=lambda endpoints: endpoints.optouts.delete,
        scope="send",
        tag="Opt-outs",
        summary="Somebody may be sent messages again",
        parameters=[_ADDRESS],
        answers={204: Payload(text="There is no opt-out now.")},
        problems=[422],
    ),
    HttpRoute(
        method="GET",
        path="/v1/users/{user}",
        name="getUser",
        handler=lambda endpoints: endpoints.users.get,
        scope="read",
        tag="People",
        summary="What is kept of a person",
        parameters=[_USER],
        answers={200: json_payload("The person.", UserView)},
        problems=[404],
    ),
    HttpRoute(
        method="DELETE",
        path="/v1/users/{user}",
        name="deleteUser",
        handler=lambda endpoints: endpoints.users.delete,
        scope="send",
        tag="People",
        summary="A person is forgotten",
        text="For the app, with `manage` for every app. Opt-outs and the ledger's money stay.",
        parameters=[_USER],
        answers={200: json_payload("How much there was.", ErasedView)},
        problems=[404],
    ),
    HttpRoute(
        method="PUT",
        path="/v1/campaigns/{name}",
        name="putCampaign",
        handler=lambda endpoints: endpoints.campaigns.put,
        scope="manage",
        tag="Campaigns",
        summary="Declare a campaign, pause, resume or cancel it",
        text="Keys left out stay, `null` resets one. It holds within 2 seconds everywhere; "
        "`cancelled` is for good.",
        parameters=[_CAMPAIGN_NAME],
        body=json_payload("", CampaignRequest),
        answers=_CAMPAIGN,
        problems=[409, 422],
    ),
    HttpRoute(
        method="GET",
        path="/v1/campaigns/{name}",
        name="getCampaign",
        handler=lambda endpoints: endpoints.campaigns.get,
        scope="read",
        tag="Campaigns",
        summary="What is declared of a campaign, and how many of its messages are in which state",
        parameters=[_CAMPAIGN_NAME],
        answers=_CAMPAIGN,
        problems=[404, 422],
    ),
    HttpRoute(
        method="GET",
        path="/v1/campaigns",
        name="listCampaigns",
        handler=lambda endpoints: endpoints.campaigns.every,
        scope="read",
        tag="Campaigns",
        summary="All campaigns that are declared",
        answers={200: json_payload("They, by name.", CampaignList)},
    ),
    HttpRoute(
        method="GET",
        path="/v1/events",
        name="followEvents",
        handler=lambda endpoints: endpoints.events.follow,
        scope="read",
        endless=True,
        tag="Messages",
        summary="Follow status changes as Server-Sent Events",
        text="Each `event: status` carries an EventData object. Reconnect with "
        "`Last-Event-ID` and nothing is missed.",
        parameters=[
            Parameter("Last-Event-ID", "header", "The id of the last event that was received.")
        ],
        answers={
            200: Payload(
                text="The stream; it does not end.",
                media={"text/event-stream": {"type": "string"}},
                shown=[EventData],
            )
        },
    ),
    HttpRoute(
        method="GET",
        path="/v1/reports/cost",
        name="costReport",
        handler=lambda endpoints: endpoints.reports.cost,
        scope="report",
        tag="Reports",
        summary="What was sent and delivered, and what it cost",
        text="All amounts are exact decimal strings and add up to the ledger. The "
        "scope `report` shows the key's own app, `report-all` every app.",
        parameters=COST_PARAMETERS,
        answers={200: COST_REPORT},
        problems=[400, 422],
    ),
    HttpRoute(
        method="GET",
        path=REPORT_PAGE,
        name="reportPage",
        handler=lambda endpoints: endpoints.reports.page,
        scope="report",
        login=True,
    ),
    HttpRoute(
        method="POST",
        path="/v1/callbacks/{provider}",
        name="callback",
        handler=lambda endpoints: endpoints.callbacks.take,
        any_query=True,
        quiet=True,
        tag="Providers",
        summary="A provider's receipts, in its own format",
        text="Proven by HTTP basic, `?token=` or an HMAC header, as configured. "
        "Answered once durable; a receipt of an unknown message is parked.",
        parameters=[
            Parameter(
                "provider", "path", "The provider's name in the configuration.", provider_name
            ),
            Parameter("token", "query", ""),
        ],
        body=Payload(media={"application/json": {}}, required=False),
        answers={200: json_payload("What was done with the receipts.", CallbackResult)},
        problems=[400, 401, 404, 503],
    ),
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
        parameters=[
            Parameter(
                "limit",
                "query",
                "How many.",
                {"type": "integer", "minimum": 1, "maximum": DEEDS_MAX},
            ),
            Parameter("cursor", "query", "`next` of the page before."),
        ],
        answers={200: json_payload("A page.", DeedsPage)},
        problems=[400],
    ),
    HttpRoute(
        method="GET",
        path="/healthz",
        name="health",
        on_admin_port="too",
        handler=lambda endpoints: endpoints.health.health,
        tag="State",
        summary="Alive",
        answers={200: json_payload("It answers.", Health)},
    ),
    HttpRoute(
        method="GET",
        path="/readyz",
        name="readiness",
        on_admin_port="too",
        handler=lambda endpoints: endpoints.health.readiness,
        tag="State",
        summary="Ready: Redis can be reached",
        answers={
            200: json_payload("Ready.", Readiness),
            503: json_payload("Not ready.", Readiness),
        },
    ),
    HttpRoute(
        method="GET",
        path="/metrics",
        name="metrics",
        on_admin_port="only",
        handler=lambda endpoints: endpoints.health.metrics,
        tag="State",
        summary="Metrics for Prometheus",
        answers={200: text_payload("The metrics.", "text/plain")},
    ),
    HttpRoute(
        method="GET",
        path="/",
        name="start",
        handler=lambda endpoints: endpoints.docs.start,
    ),
    HttpRoute(
        method="GET",
        path="/openapi.json",
        name="openapi",
        handler=lambda endpoints: endpoints.docs.openapi,
        tag="State",
        summary="This document",
        answers={200: json_payload("OpenAPI 3.1.", {"type": "object"})},
    ),
    HttpRoute(
        method="GET",
        path="/docs",
        name="docs",
        handler=lambda endpoints: endpoints.docs.page,
        tag="State",
        summary="This document, for people",
        answers={200: text_payload("The page.", "text/html")},
    ),
)
