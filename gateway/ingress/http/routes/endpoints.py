"""What holds the handlers of all rows."""

from __future__ import annotations

from typing import NamedTuple

from gateway.ingress.api.budgets import BudgetEndpoints
from gateway.ingress.api.callbacks import CallbackEndpoint
from gateway.ingress.api.campaigns import CampaignEndpoints
from gateway.ingress.api.conversions import ConversionEndpoint
from gateway.ingress.api.docs import DocsEndpoints
from gateway.ingress.api.events import EventsEndpoint
from gateway.ingress.api.following import FollowEndpoint
from gateway.ingress.api.health import HealthEndpoints
from gateway.ingress.api.inbound import InboundEndpoints
from gateway.ingress.api.ledger import LedgerEndpoint
from gateway.ingress.api.links import LinkEndpoints
from gateway.ingress.api.messages import MessageEndpoints, SendEndpoint
from gateway.ingress.api.opening import OpenEndpoint
from gateway.ingress.api.ops import OpsEndpoints
from gateway.ingress.api.optouts import OptOutEndpoints
from gateway.ingress.api.reactions import ReactionEndpoint
from gateway.ingress.api.report_details import ReportDetails
from gateway.ingress.api.report_shares import ReportShareEndpoints
from gateway.ingress.api.reports import ReportEndpoints
from gateway.ingress.api.search import SearchEndpoints
from gateway.ingress.api.stored_users import StoredUserEndpoints
from gateway.ingress.api.unsubscribing import UnsubscribeEndpoints
from gateway.ingress.api.users import UserEndpoints
from gateway.ingress.api.webhooks import WebhookEndpoints
from gateway.ingress.console.endpoints import ConsoleEndpoints


class Endpoints(NamedTuple):
    """One a resource."""

    sends: SendEndpoint
    messages: MessageEndpoints
    search: SearchEndpoints
    campaigns: CampaignEndpoints
    events: EventsEndpoint
    reactions: ReactionEndpoint
    conversions: ConversionEndpoint
    unsubscribing: UnsubscribeEndpoints
    optouts: OptOutEndpoints
    users: UserEndpoints
    stored_users: StoredUserEndpoints
    inbound: InboundEndpoints
    reports: ReportEndpoints
    budgets: BudgetEndpoints
    report_shares: ReportShareEndpoints
    webhooks: WebhookEndpoints
    ledger: LedgerEndpoint
    report_details: ReportDetails
    callbacks: CallbackEndpoint
    ops: OpsEndpoints
    console: ConsoleEndpoints
    health: HealthEndpoints
    docs: DocsEndpoints
    following: FollowEndpoint
    links: LinkEndpoints
    opening: OpenEndpoint
