"""A message as its app sees it. Pure; it cannot fail."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from gateway.core.model import MESSAGE_NAMES, STEP_NAMES, Message, Step, step_ref
from gateway.core.money import format_amount
from gateway.ingress.api.results import Status, Time
from gateway.ingress.http.asgi import rfc3339
from providers.contract import Category, Channel

Amount = Annotated[
    str,
    msgspec.Meta(
        description="A decimal amount, exact.",
        extra_json_schema={"pattern": "^[0-9]+\\.[0-9]{4,6}$", "examples": ["0.0120"]},
    ),
]
StepStatus = Literal[
    "queued",
    "sent",
    "delivered",
    "seen",
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
    """One attempt on one channel. `parts` is null where a channel has none."""

    channel: Channel
    provider: str
    status: StepStatus
    provider_id: str | None
    attempts: int
    sent_at: Time | None
    done_at: Time | None
    parts: int | None
    error: StepError | None


class Billing(msgspec.Struct, frozen=True):
    """What the app pays, and what the providers charged."""

    billed: Amount
    cost: Amount
    currency: str


class MessageView(msgspec.Struct, frozen=True):
    """One message and its steps, in the order of its route."""

    id: str
    app: str
    user: str | None
    to: str
    campaign: str | None
    category: Category
    route: str
    status: Status
    reason: str | None
    created_at: Time
    updated_at: Time
    metadata: dict[str, str] | None
    steps: list[StepView]
    billing: Billing | None


def view_of(message: Message, currency: str) -> MessageView:
    """The message as CONTRACT.md section 4 shows it."""
    return MessageView(
        id=message.id,
        app=message.app,
        user=message.user,
        to="+" + message.to,
        campaign=message.campaign,
        category=message.category,
        route=message.route,
        status=MESSAGE_NAMES[message.status],  # type: ignore[arg-type]  # the same names
        reason=message.reason,
        created_at=rfc3339(message.created_ms),
        updated_at=rfc3339(message.updated_ms),
        metadata=message.metadata,
        steps=[_step_view(message, index) for index in range(len(message.steps))],
        billing=_billing(message, currency),
    )


def _step_view(message: Message, index: int) -> StepView:
    step = message.steps[index]
    fault = step.fault
    return StepView(
        channel=step.channel,
        provider=step.provider,
        status=STEP_NAMES[step.status],  # type: ignore[arg-type]  # the same names
        provider_id=_provider_id(message, index, step),
        attempts=step.attempts,
        sent_at=rfc3339(step.sent_ms) if step.sent_ms else None,
        done_at=rfc3339(step.done_ms) if step.done_ms else None,
        parts=step.parts if step.channel == "sms" else None,
        error=StepError(fault.code, fault.name, fault.permanent) if fault is not None else None,
    )


def _provider_id(message: Message, index: int, step: Step) -> str | None:
    """A provider that has the step and gave it no id of its own knows it by ours."""
    if step.provider_id is None and step.sent_ms:
        return step_ref(message.id, index, step.series)
    return step.provider_id


def _billing(message: Message, currency: str) -> Billing | None:
    """Null until something was booked."""
    charges = [step.charged for step in message.steps if step.charged is not None]
    if message.billed is None and not charges:
        return None
    return Billing(format_amount(message.billed or 0), format_amount(sum(charges)), currency)
