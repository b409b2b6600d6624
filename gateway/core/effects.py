"""What a decision asks the store to do, beside writing the records it changed.

The rules return these; `gateway.store` carries them out in the same transaction as the records. A
ledger post that carries money names its message and step, so every cent can be traced; one that
only counts is added up a batch.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from gateway.core.model import MESSAGE_NAMES, Message, Step

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
    "sms_only_cost",
)
# A post of these alone needs no message: it is added up with others of its batch.
COUNTS = frozenset(("accepted", "duplicates", "suppressed", "sent", "undelivered"))


class Group(NamedTuple):
    """The finest grouping a report can ask for (beside the day). Empty where it does not apply."""

    app: str
    campaign: str
    category: str
    channel: str
    provider: str
    country: str


class Post(msgspec.Struct, array_like=True):
    """One booking: `measures` are added to the group's totals. `note` keeps both prices where a
    receipt had one."""

    group: Group
    measures: dict[str, int]
    message: str | None = None  # None: it only counts
    step: int = -1
    note: dict[str, int] | None = None
    metadata: dict[str, str] | None = None


class Event(msgspec.Struct, array_like=True):
    """A status change, for the app's event stream."""

    app: str
    id: str
    campaign: str | None
    status: str
    channel: str | None
    reason: str | None
    at_ms: int
    metadata: dict[str, str] | None = None


class Effects(msgspec.Struct):
    """Beside the message record: `lane` is the (provider, category) to enqueue it on."""

    changed: bool = False
    people_changed: bool = False
    lane: tuple[str, str] | None = None
    look_up: bool = False  # ask the provider what became of the current step
    submit: bool = False  # the claim holds: send the current step now
    refused: str | None = None  # why the event was not allowed (a cancel that came too late)
    posts: list[Post] = []
    events: list[Event] = []


def group_of(message: Message, step: Step | None = None) -> Group:
    return Group(
        message.app,
        message.campaign or "",
        message.category,
        step.channel if step else "",
        step.provider if step else "",
        message.country,
    )


def status_event(message: Message, step: Step | None, now_ms: int) -> Event:
    return Event(
        app=message.app,
        id=message.id,
        campaign=message.campaign,
        status=MESSAGE_NAMES[message.status],
        channel=step.channel if step else None,
        reason=message.reason,
        at_ms=now_ms,
        metadata=message.metadata,
    )
