"""A webhook, an event that it is told, and what each try to tell it came to."""

from __future__ import annotations

import msgspec
from msgspec import field

from gateway.core.records.codec import Codec

GONE, FAILING = WHY_DISABLED = ("gone", "failing")  # by us: it answered 410, or took nothing


class Secret(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a webhook's calls are signed with, until that moment; 0: until another is made."""

    text: str
    until_ms: int = 0


class Webhook(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an app is told of events, and of which. `id` is drawn when it is made, so that one made
    anew under its name has nothing of it. `why` says why we disabled it ourselves."""

    id: str
    url: str
    events: tuple[str, ...]
    secrets: tuple[Secret, ...]
    enabled: bool = True
    why: str = ""
    disabled_ms: int = 0
    updated_ms: int = 0

    def signs_with(self, now_ms: int) -> list[str]:
        """The secrets that hold now, the newest first."""
        return [each.text for each in self.secrets if not each.until_ms or each.until_ms > now_ms]


class WebhookEvent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One event, by reference: of the message, of the reply, or with its data in JSON where there
    is nothing to refer to. `app` is whose webhooks are told; empty: everybody's."""

    id: str = field(name="i")
    type: str = field(name="t")
    at_ms: int = field(name="a")
    app: str = field(name="p", default="")
    message: str = field(name="m", default="")
    sequence: int = field(name="s", default=0)
    reply: str = field(name="y", default="")
    data: bytes = field(name="d", default=b"")


class WebhookEvents(msgspec.Struct, gc=False):
    """One entry of an outbox: what one commit has to tell."""

    events: list[WebhookEvent] = field(name="e")


class WebhookTry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One try to tell an event. `status` 0: no answer came, `error` says why. `next_ms` is when it
    is tried again; 0: never."""

    id: str = field(name="i")
    type: str = field(name="t")
    at_ms: int = field(name="a")
    number: int = field(name="n")
    latency_ms: int = field(name="l")
    status: int = field(name="s", default=0)
    answer: str = field(name="b", default="")
    error: str = field(name="e", default="")
    next_ms: int = field(name="x", default=0)

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300


class WebhookTries(msgspec.Struct, gc=False):
    """One entry of the list of tries: those that were noted together."""

    tries: list[WebhookTry] = field(name="t")


outbox_codec = Codec(WebhookEvents, "outbox entry")
event_codec = Codec(WebhookEvent, "webhook event")
tries_codec = Codec(WebhookTries, "list of webhook tries")
