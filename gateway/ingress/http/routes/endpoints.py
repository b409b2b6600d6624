"""What holds the handlers of all rows."""

from __future__ import annotations

from typing import NamedTuple

from gateway.ingress.api.callbacks.callbacks import CallbackEndpoint
from gateway.ingress.api.campaigns.budgets import BudgetEndpoints
from gateway.ingress.api.campaigns.campaigns import CampaignEndpoints
from gateway.ingress.api.docs import DocsEndpoints
from gateway.ingress.api.events.events import EventsEndpoint
from gateway.ingress.api.events.webhooks import WebhookEndpoints
from gateway.ingress.api.links.following import FollowEndpoint
from gateway.ingress.api.links.links import LinkEndpoints
from gateway.ingress.api.links.opening import OpenEndpoint
from gateway.ingress.api.messages.messages import MessageEndpoints, SendEndpoint
from gateway.ingress.api.messages.search import SearchEndpoints
from gateway.ingress.api.operators.health import HealthEndpoints
from gateway.ingress.api.operators.ops import OpsEndpoints
from gateway.ingress.api.people.inbound import InboundEndpoints
from gateway.ingress.api.people.optouts import OptOutEndpoints
from gateway.ingress.api.people.stored_users import StoredUserEndpoints
from gateway.ingress.api.people.unsubscribing import UnsubscribeEndpoints
from gateway.ingress.api.people.users import UserEndpoints
from gateway.ingress.api.reactions.conversions import ConversionEndpoint
from gateway.ingress.api.reactions.reactions import ReactionEndpoint
from gateway.ingress.api.reports.ledger import LedgerEndpoint
from gateway.ingress.api.reports.report_details import ReportDetails
from gateway.ingress.api.reports.report_shares import ReportShareEndpoints
from gateway.ingress.api.reports.reports import ReportEndpoints
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
