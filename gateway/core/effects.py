"""What a decision asks the store to do, beside writing the records it changed.

The rules return these; `gateway.store` carries them out in the same transaction as the records. A
ledger post that carries money names its message and step, so every cent can be traced; one that
only counts is added up a batch.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.core.channels import BASELINE_COLUMN
from gateway.core.money.budgets import Move
from gateway.core.people.rates import Tally
from gateway.core.records.entries import NO_STEP, Group, Post, StatusChange
from gateway.core.records.message import MESSAGE_NAMES, STEP_NAMES, Message, Step
from gateway.core.records.words import REACTION_NAMES, ReactionName
from gateway.core.waits import Delay

# What was spent on messages that the baseline is not compared with, such as those without a phone.
NOT_COMPARED = "cost_not_compared"

# The measures of CONTRACT.md section 7, as the ledger books them. All are integers; amounts are in
# 1e-6 units.
MEASURES = (
    "accepted",
    "duplicates",
    "suppressed",
    "sent",
    "delivered",
    "double_delivered",
    "undelivered",
    "parts",
    "cost",
    "billed",
    BASELINE_COLUMN,
    NOT_COMPARED,
    "undelivered_messages",
    "seen",
    "clicked",
    "bot_clicks",
    "conversions",
    "assisted",
    "revenue",
)
# A post of these alone needs no message: it is added up with others of its batch.
COUNTS = frozenset(
    (
        "accepted",
        "duplicates",
        "suppressed",
        "sent",
        "undelivered",
        "undelivered_messages",
        "seen",
        "clicked",
        "bot_clicks",
        "conversions",
        "assisted",
    )
)
# What people do, which the totals tell apart by the hour of the day.
BY_HOUR = frozenset(("seen", "clicked"))

WhyIgnored = Literal["currency", "amount"]


class IgnoredPrice(msgspec.Struct, frozen=True):
    """A price in a receipt that was not booked: it is in another currency or in none, or far beyond
    the list price (1e-6 units), which stands instead."""

    why: WhyIgnored
    provider: str
    message: str
    price: str
    currency: str | None
    list_price: int


class Fallback(msgspec.Struct, frozen=True):
    """A step follows one that ended without what it waited for: their channels, and how that one
    ended or, where it was not sent, why."""

    channel: str
    to: str
    reason: str


def fallback_from(left: Step, to: str) -> Fallback:
    """From a step that ended or was passed over to the channel of the next."""
    if left.arrived:
        return Fallback(left.channel, to, "no_reaction")
    reason = left.fault.code if left.fault is not None else STEP_NAMES[left.status]
    return Fallback(left.channel, to, reason)


class Effects(msgspec.Struct, gc=False):
    """Beside the message record: `lane` is the (provider, category) to enqueue it on."""

    changed: bool = False
    people_changed: bool = False
    lane: tuple[str, str] | None = None
    look_up: bool = False  # ask the provider about the current step
    submit: bool = False  # the claim holds: send the current step now
    refused: str | None = None  # why the event was not allowed (a cancel that came too late)
    ignored_price: IgnoredPrice | None = None
    handed_over: str = ""  # the provider from which another one took the step over
    fallback: Fallback | None = None
    reaction: tuple[str, ReactionName] | None = None  # on which channel, and which
    reserved: dict[str, int] = {}  # of budgets, for the message that was released
    lacking: dict[str, int] = {}  # of budgets, which kept it from that
    moves: list[Move] = []  # of budgets
    posts: list[Post] = []
    tallies: list[Tally] = []
    delays: list[Delay] = []
    status_changes: list[StatusChange] = []
    notices: list[StatusChange] = []  # told to the app, though the status is as it was


def group_of(message: Message, step: int = NO_STEP, provider: str = "") -> Group:
    """The group a booking of the message, or of one provider's work on the step at that place,
    belongs to."""
    return Group(
        message.app,
        message.campaign or "",
        message.category,
        "" if step == NO_STEP else message.steps[step].channel,
        provider,
        message.country,
        message.route,
        step,
        message.variant,
    )


def status_change_of(message: Message, step: Step | None, now_ms: int) -> StatusChange:
    return StatusChange(
        app=message.app,
        id=message.id,
        campaign=message.campaign,
        status=MESSAGE_NAMES[message.status],
        channel=step.channel if step else None,
        reason=message.reason,
        at_ms=now_ms,
        noted=message.metadata is not None,
        final=message.closed,
        reaction=REACTION_NAMES[message.reaction],
    )
