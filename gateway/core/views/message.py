"""A message as its app sees it. Pure; it cannot fail."""

from __future__ import annotations

from collections.abc import Container
from typing import Annotated, Literal

import msgspec

from gateway.core.addresses import Recipient
from gateway.core.channels import CHANNELS, ChannelName, Until
from gateway.core.holding import waits_for
from gateway.core.ids import step_ref
from gateway.core.money.money import format_amount
from gateway.core.policy import Policy
from gateway.core.records.held import Held
from gateway.core.records.message import MESSAGE_NAMES, STEP_NAMES, Message, Step
from gateway.core.records.words import (
    IMPORTANCE_NAMES,
    REACTION_NAMES,
    ImportanceName,
    ReactionName,
)
from gateway.core.timeline import timeline
from gateway.core.views.words import HeldView, Status, Time, held_view, rfc3339
from providers.contract import Category

Amount = Annotated[
    str,
    msgspec.Meta(
        description="A decimal amount, exact.",
        extra_json_schema={"pattern": "^[0-9]+\\.[0-9]{4,6}$", "examples": ["0.0120"]},
    ),
]
StepWord = Literal[
    "queued",
    "sent",
    "delivered",
    "seen",
    "clicked",
    "undelivered",
    "expired",
    "rejected",
    "skipped",
    "unknown",
]


class StepError(msgspec.Struct, frozen=True):
    """What the provider said; `permanent`: trying again cannot help."""

    code: str
    name: str
    permanent: bool


class StepView(msgspec.Struct, frozen=True):
    """One attempt to reach the person on one channel, by one or several providers in turn.
    `provider` is the one that has it, null until one is chosen, `parts` where the channel has
    none, `billed` and `cost` until something was booked."""

    channel: ChannelName
    provider: str | None
    status: StepWord
    until: Until
    provider_id: str | None
    attempts: int
    sent_at: Time | None
    delivered_at: Time | None
    seen_at: Time | None
    clicked_at: Time | None
    done_at: Time | None
    parts: int | None
    billed: Amount | None
    cost: Amount | None
    error: StepError | None


class HappeningView(msgspec.Struct, frozen=True):
    """Something that happened to the step of that index in `steps`, or to the whole message."""

    at: Time
    event: Annotated[
        str,
        msgspec.Meta(
            description="accepted, started, tried, sent, not_known, unknown, delivered, seen, "
            "replied, clicked, undelivered, expired, rejected, skipped, suppressed, cancelled or "
            "ended; there may be more."
        ),
    ]
    step: int | None
    channel: ChannelName | None
    provider: str | None
    detail: str | None


class TimelineView(msgspec.Struct, frozen=True):
    """All that is known to have happened to a message, the oldest first."""

    items: list[HappeningView]


class Billing(msgspec.Struct, frozen=True):
    """What the app pays, and what the providers charged."""

    billed: Amount
    cost: Amount
    currency: str


class MessageView(msgspec.Struct, frozen=True):
    """One message and its steps, in the order of its route. `final`: no step is under way and none
    can start. `reaction`: the most that the person is known to have done with it."""

    id: str
    app: str
    user: str | None
    to: str | Recipient | None
    campaign: str | None
    category: Category
    importance: ImportanceName
    route: str
    status: Status
    final: bool
    reaction: ReactionName | None
    held: HeldView | None
    reason: str | None
    created_at: Time
    updated_at: Time
    metadata: dict[str, str] | None
    steps: list[StepView]
    billing: Billing | None


def view_of(message: Message, currency: str) -> MessageView:
    """The message as CONTRACT.md section 4 shows it."""
    return _view(message, currency, message.held)


def view_now(
    message: Message, policy: Policy, now_ms: int, away: Container[str] = ()
) -> MessageView:
    """The message as it is shown to whoever asks at that moment, with what keeps it then; `away`:
    the providers that are."""
    return _view(message, policy.currency, waits_for(message, policy, now_ms, away))


def _view(message: Message, currency: str, held: Held | None) -> MessageView:
    return MessageView(
        id=message.id,
        app=message.app,
        user=message.user,
        to=message.addresses.shown(),
        campaign=message.campaign,
        category=message.category,
        importance=IMPORTANCE_NAMES[message.importance],
        route=message.route,
        status=MESSAGE_NAMES[message.status],  # type: ignore[arg-type]  # the same names
        final=message.closed,
        reaction=REACTION_NAMES[message.reaction],
        held=held_view(held),
        reason=message.reason,
        created_at=rfc3339(message.created_ms),
        updated_at=rfc3339(message.updated_ms),
        metadata=message.metadata,
        steps=[_step_view(message, index) for index in range(len(message.steps))],
        billing=_billing(message, currency),
    )


def timeline_of(message: Message) -> TimelineView:
    """What happened to the message."""
    return TimelineView(
        [
            HappeningView(
                rfc3339(each.at_ms), each.event, each.step, each.channel, each.provider, each.detail
            )
            for each in timeline(message)
        ]
    )


def _step_view(message: Message, index: int) -> StepView:
    step = message.steps[index]
    attempt = step.carrier
    fault = step.latest_fault
    has_parts = CHANNELS[step.channel].price_unit == "part"
    billed = message.billed_by(index)
    return StepView(
        channel=step.channel,
        provider=step.provider,
        status=STEP_NAMES[step.status],  # type: ignore[arg-type]  # the same names
        until=step.until,
        provider_id=_provider_id(message, index, step),
        attempts=step.tries,
        sent_at=_time(attempt.sent_ms if attempt is not None else 0),
        delivered_at=_time(step.delivered_ms),
        seen_at=_time(step.seen_ms),
        clicked_at=_time(step.clicked_ms),
        done_at=_time(step.done_ms),
        parts=step.parts if has_parts else None,
        billed=format_amount(billed) if billed is not None else None,
        cost=format_amount(step.charged) if step.charged is not None else None,
        error=StepError(fault.code, fault.name, fault.permanent) if fault is not None else None,
    )


def _provider_id(message: Message, index: int, step: Step) -> str | None:
    """A provider that has the step and gave it no id of its own knows it by ours."""
    attempt = step.carrier
    if attempt is None:
        return None
    if attempt.provider_id is None and attempt.sent_ms:
        return step_ref(message.id, index, attempt.series)
    return attempt.provider_id


def _time(moment_ms: int) -> str | None:
    return rfc3339(moment_ms) if moment_ms else None


def _billing(message: Message, currency: str) -> Billing | None:
    """Null until something was booked."""
    billed, charged = message.billed, message.charged
    if billed is None and charged is None:
        return None
    return Billing(format_amount(billed or 0), format_amount(charged or 0), currency)
