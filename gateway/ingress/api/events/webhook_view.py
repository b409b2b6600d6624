"""A webhook as its app sees it, and what tries to tell it came to. Pure."""

from __future__ import annotations

import msgspec

from gateway.core.records.webhook import Webhook, WebhookTry
from gateway.core.views.words import Time, rfc3339
from gateway.store.events.webhook_queues import WebhookBacklog


class WebhookSet(msgspec.Struct, frozen=True):
    """A webhook as it is set. `secret` is shown when it was made, and never again."""

    name: str
    url: str
    events: list[str]
    enabled: bool
    secret: str | msgspec.UnsetType = msgspec.UNSET


class DisabledView(msgspec.Struct, frozen=True):
    """Why we disabled it: `gone` (it answered 410) or `failing` (5 days without a success)."""

    at: Time
    reason: str


class WebhookView(msgspec.Struct, frozen=True):
    """A webhook, and how it is. `disabled` is null unless we disabled it; `old_secret_until` is
    until when calls are signed with the secret before, too."""

    name: str
    url: str
    events: list[str]
    enabled: bool
    disabled: DisabledView | None
    waiting: int
    failing_since: Time | None
    recovering_since: Time | None
    old_secret_until: Time | None
    updated_at: Time


class WebhookList(msgspec.Struct, frozen=True):
    """The app's webhooks, by name."""

    items: list[WebhookView]


class TestSent(msgspec.Struct, frozen=True):
    """A call is on its way; it stands among the attempts under this id."""

    id: str


class RecoveryBegun(msgspec.Struct, frozen=True):
    """Everything between the two moments is told once more."""

    since: Time
    until: Time


class AttemptView(msgspec.Struct, frozen=True):
    """One try to tell an event. `status` is null where no answer came: `error` says why. `answer`
    is how the answer began, `next_at` when it is tried again, null: never."""

    id: str
    type: str
    at: Time
    attempt: int
    status: int | None
    success: bool
    latency_ms: int
    answer: str
    error: str | None
    next_at: Time | None


class AttemptsPage(msgspec.Struct, frozen=True):
    """The newest first; `next` is the cursor of the page after it."""

    items: list[AttemptView]
    next: str | None


def view_of(name: str, webhook: Webhook, state: WebhookBacklog, now_ms: int) -> WebhookView:
    old = [s.until_ms for s in webhook.secrets if s.until_ms > now_ms]
    disabled = DisabledView(rfc3339(webhook.disabled_ms), webhook.why) if webhook.why else None
    return WebhookView(
        name=name,
        url=webhook.url,
        events=list(webhook.events),
        enabled=webhook.enabled,
        disabled=disabled,
        waiting=state.waiting,
        failing_since=_time(state.failing_ms),
        recovering_since=None if state.recovery is None else rfc3339(state.recovery.since_ms),
        old_secret_until=_time(max(old, default=0)),
        updated_at=rfc3339(webhook.updated_ms),
    )


def attempt_view(tried: WebhookTry) -> AttemptView:
    return AttemptView(
        id=tried.id,
        type=tried.type,
        at=rfc3339(tried.at_ms),
        attempt=tried.number,
        status=tried.status or None,
        success=tried.succeeded,
        latency_ms=tried.latency_ms,
        answer=tried.answer,
        error=tried.error or None,
        next_at=_time(tried.next_ms),
    )


def _time(moment_ms: int | None) -> str | None:
    return rfc3339(moment_ms) if moment_ms else None
