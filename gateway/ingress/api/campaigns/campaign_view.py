"""A campaign as it is shown: what is declared of it, what it says, and what came of it. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import msgspec

from gateway.core.campaigns.campaign_words import CampaignWords, ContentBody
from gateway.core.campaigns.campaigns import HOLDOUT_PARTS, Campaign, CampaignState
from gateway.core.money.money import format_amount
from gateway.core.records.words import ImportanceName, LinksWord
from gateway.core.views.message import Amount
from gateway.core.views.words import Time, rfc3339
from gateway.ingress.api.campaigns.budgets import BudgetView
from gateway.store.campaigns.declarations import BILLED, COST
from providers.contract import Category

ShownContent = Annotated[
    dict[str, Any], msgspec.Meta(description="As it was given: keys as those of a message.")
]


class VariantView(msgspec.Struct, frozen=True):
    """What is said to a share of people."""

    name: str
    percent: float
    content: ShownContent


class CampaignCounts(msgspec.Struct, frozen=True):
    """Requests by outcome, and messages by state, each in one of them; since it was declared."""

    accepted: int
    duplicates: int
    suppressed: int
    held: int
    queued: int
    sent: int
    delivered: int
    seen: int
    clicked: int
    undelivered: int
    expired: int
    cancelled: int


class CampaignView(msgspec.Struct, frozen=True):
    """A campaign as it is declared. `cancelling`: messages of it are still being cancelled.
    `budgets` are those of this campaign, and say what they still allow. What
    its messages cost, and were billed to apps, stands with the scope `report-all`."""

    name: str
    state: CampaignState
    category: Category | None
    importance: ImportanceName | None
    route: str | None
    ttl: int | None
    links: LinksWord | None
    start_at: Time | None
    end_at: Time | None
    pace: str | None
    send_window: str | None
    recipients_max: int | None
    holdout_percent: float | None
    content: ShownContent | None
    variants: list[VariantView] | None
    exclude_campaigns: list[str]
    silent_for: str | None
    cancelling: bool
    counts: CampaignCounts
    updated_at: Time
    updated_by: str
    budgets: list[BudgetView]
    cost: Amount | msgspec.UnsetType = msgspec.UNSET
    billed: Amount | msgspec.UnsetType = msgspec.UNSET


class CampaignList(msgspec.Struct, frozen=True):
    """The campaigns that are declared, by name; `next` is the cursor of the page after it."""

    items: list[CampaignView]
    next: str | None


def view_of(
    name: str,
    campaign: Campaign,
    words: CampaignWords,
    counts: Counter[str],
    budgets: list[BudgetView],
    *,
    cancelling: bool,
    money: bool,
) -> CampaignView:
    """The campaign as CONTRACT.md section 8 shows it."""
    holdout = campaign.holdout * 100 / HOLDOUT_PARTS
    states = CampaignCounts(*(counts[each] for each in CampaignCounts.__struct_fields__))
    return CampaignView(
        name=name,
        state=campaign.state,
        category=campaign.category,
        importance=campaign.importance,
        route=campaign.route,
        ttl=campaign.ttl_ms // 1000 if campaign.ttl_ms is not None else None,
        links=campaign.links,
        start_at=rfc3339(campaign.start_ms) if campaign.start_ms else None,
        end_at=rfc3339(campaign.end_ms) if campaign.end_ms else None,
        pace=campaign.pace,
        send_window=campaign.send_window,
        recipients_max=campaign.recipients_max,
        holdout_percent=holdout or None,
        content=_shown(words.content) if words.content is not None else None,
        variants=[VariantView(v.name, v.percent, _shown(v.content)) for v in words.variants]
        or None,
        exclude_campaigns=list(campaign.exclude_campaigns),
        silent_for=campaign.silent_for,
        cancelling=cancelling,
        counts=states,
        updated_at=rfc3339(campaign.updated_ms),
        updated_by=campaign.updated_by,
        budgets=budgets,
        cost=format_amount(counts[COST]) if money else msgspec.UNSET,
        billed=format_amount(counts[BILLED]) if money else msgspec.UNSET,
    )


def _shown(body: ContentBody) -> dict[str, Any]:
    """A content without what it does not say."""
    fields: dict[str, Any] = msgspec.to_builtins(body)
    return {
        key: {name: part for name, part in value.items() if part is not None}
        if isinstance(value, dict)
        else value
        for key, value in fields.items()
    }
