"""Campaigns: what is declared of them."""

from __future__ import annotations

from gateway.ingress.api.campaigns.campaign_view import CampaignList, CampaignView
from gateway.ingress.api.campaigns.campaigns import CampaignRequest
from gateway.ingress.http.documented import PAGE, json_payload
from gateway.ingress.http.route import HttpRoute, Parameter
from gateway.ingress.http.routes.endpoints import Endpoints

_DECLARED = {
    "state": "running",
    "category": "marketing",
    "pace": "600/m",
    "holdout_percent": 10,
    "content": {"text": "{{name}}, autumn is here: 20 % off until Sunday."},
    "variants": [
        {"name": "urgent", "percent": 50, "content": {"text": "{{name}}, only until Sunday!"}}
    ],
}
_SHOWN = {
    "name": "autumn-sale",
    "state": "running",
    "category": "marketing",
    "importance": None,
    "route": None,
    "ttl": None,
    "links": None,
    "start_at": None,
    "end_at": None,
    "pace": "600/m",
    "send_window": None,
    "recipients_max": None,
    "holdout_percent": 10.0,
    "content": {"text": "{{name}}, autumn is here: 20 % off until Sunday."},
    "variants": [
        {"name": "urgent", "percent": 50.0, "content": {"text": "{{name}}, only until Sunday!"}}
    ],
    "exclude_campaigns": ["summer-sale"],
    "silent_for": None,
    "cancelling": False,
    "counts": {
        "accepted": 1_000,
        "duplicates": 12,
        "suppressed": 110,
        "held": 500,
        "queued": 100,
        "sent": 60,
        "delivered": 300,
        "seen": 40,
        "clicked": 0,
        "undelivered": 0,
        "expired": 0,
        "cancelled": 0,
    },
    "updated_at": "2026-11-28T10:00:00.000Z",
    "updated_by": "shop kk_1a2b",
    "budgets": [],
    "cost": "1.5000",
    "billed": "2.7000",
}
_LISTED = {"items": [_SHOWN], "next": None}
_CAMPAIGN = {200: json_payload("The campaign.", CampaignView, _SHOWN)}
_NAME = Parameter("name", "path", "The campaign's name, as messages name it.")

CAMPAIGNS: tuple[HttpRoute[Endpoints], ...] = (
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
        parameters=[_NAME],
        body=json_payload("", CampaignRequest, _DECLARED),
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
        parameters=[_NAME],
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
        summary="The campaigns that are declared",
        parameters=PAGE,
        answers={200: json_payload("They, by name.", CampaignList, _LISTED)},
    ),
)
