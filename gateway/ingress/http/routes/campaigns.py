"""Campaigns: what is declared of them."""

from __future__ import annotations

from gateway.ingress.api.campaigns import CampaignList, CampaignRequest, CampaignView
from gateway.ingress.http.documented import json_payload
from gateway.ingress.http.route import HttpRoute, Parameter
from gateway.ingress.http.routes.endpoints import Endpoints

_CAMPAIGN = {200: json_payload("The campaign.", CampaignView)}
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
        body=json_payload("", CampaignRequest, {"state": "paused", "category": "marketing"}),
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
        summary="All campaigns that are declared",
        answers={200: json_payload("They, by name.", CampaignList)},
    ),
)
