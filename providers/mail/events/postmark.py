"""Postmark's webhooks: one event a call, unsigned: proven by HTTP basic or a token."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from providers import reasons
from providers.contract import Channel, ReceiptStatus
from providers.http import json_text
from providers.http.adapter import Receipts
from providers.mail.events import reading
from providers.mail.events.reading import CALLBACK_BYTES_MAX, Said, Wish

STATUSES: Mapping[str, ReceiptStatus] = {"Delivery": "delivered", "Open": "seen", "Click": "seen"}
# Kinds of bounce that end nothing: Postmark goes on, or the mail had arrived.
NOT_FINAL = frozenset(
    {
        *("Transient", "DnsError"),
        *("AutoResponder", "AddressChange", "OpenRelayTest", "ChallengeVerification"),
    }
)
DEAD = frozenset({"HardBounce", "BadEmailAddress", "InactiveMailbox"})
REFUSED = frozenset({"SpamNotification", "Blocked", "DMARCPolicy", "SMTPApiError"})
# Not these: Postmark stops sending to an address that bounced, of its own accord.
WISHES = frozenset({"ManualSuppression", "SpamComplaint"})
NOT_THE_PERSONS = frozenset({"Customer", "Admin"})  # who let Postmark send to an address again


class Event(msgspec.Struct, frozen=True, rename="pascal"):
    record_type: str
    message_id: str | None = msgspec.field(name="MessageID", default=None)
    id: int | str | None = msgspec.field(name="ID", default=None)
    metadata: object = None
    type: str | None = None
    email: object = None
    recipient: object = None
    details: object = None
    description: object = None
    delivered_at: object = None
    bounced_at: object = None
    received_at: object = None
    changed_at: object = None
    suppress_sending: bool | None = None
    suppression_reason: str | None = None
    origin: object = None


_EVENT = msgspec.json.Decoder(Event)


def tags(ref: str) -> tuple[tuple[str, str], ...]:
    """The header whose content comes back in events."""
    return (("X-PM-Metadata-kaskad", ref),)


class PostmarkEvents:
    channel: Channel = "email"
    callback_bytes_max = CALLBACK_BYTES_MAX

    def receipts(self, body: bytes, content_type: str) -> Receipts:  # noqa: ARG002 - the port's
        return reading.each(reading.items_of(body), _said)


def _said(item: msgspec.Raw) -> Said:
    event = json_text.decode(_EVENT, item)
    told = event.delivered_at or event.bounced_at or event.received_at or event.changed_at
    at_ms = reading.moment(told)
    id_ = f"{event.record_type}-{event.id or event.message_id}"
    address = event.email or event.recipient
    if event.record_type == "SpamComplaint":
        return reading.wish("block", id_, address, at_ms)
    if event.record_type == "SubscriptionChange":
        if event.suppress_sending and event.suppression_reason not in WISHES:
            return None
        if not event.suppress_sending and json_text.text_of(event.origin) in NOT_THE_PERSONS:
            return None
        kind: Wish = "block" if event.suppress_sending else "unblock"
        known_by = f"{id_}-{told}" if event.message_id else None  # such a one may have none
        return reading.wish(kind, known_by, address, at_ms)
    if event.record_type == "Bounce":
        return _bounce(event, id_, address, at_ms)
    status = STATUSES.get(event.record_type)
    if status is None:
        return None
    return reading.plain(status, _ref(event), at_ms)


def _bounce(event: Event, id_: str, address: object, at_ms: int | None) -> Said:
    kind = event.type or ""
    if kind in NOT_FINAL:
        return None
    if kind in ("SpamComplaint", "Unsubscribe"):
        return reading.wish("block", id_, address, at_ms)
    if kind == "Subscribe":
        return reading.wish("unblock", id_, address, at_ms)
    reason = reasons.PERSON
    if kind in DEAD:
        reason = reasons.NOBODY
    elif kind in REFUSED:
        reason = reasons.ACCOUNT
    why = json_text.text_of(event.details) or json_text.text_of(event.description)
    return reading.failed(_ref(event), at_ms, why, reason, code=kind or "bounce")


def _ref(event: Event) -> str:
    return reading.ours(json_text.part(event.metadata, "kaskad"))
