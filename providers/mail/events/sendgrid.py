"""SendGrid's Event Webhook: an array of events."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from providers import reasons
from providers.contract import Channel, ReceiptStatus
from providers.http import json_text
from providers.http.adapter import Receipts
from providers.mail.events import reading
from providers.mail.events.reading import CALLBACK_BYTES_MAX, Said, Wish
from providers.reasons import Reason

STATUSES: Mapping[str, ReceiptStatus] = {
    "processed": "sent",
    "delivered": "delivered",
    "open": "seen",
    "click": "seen",
}
WISHES: Mapping[str, Wish] = {
    "spamreport": "block",
    "unsubscribe": "block",
    "group_unsubscribe": "block",
    "group_resubscribe": "unblock",
}
# Why SendGrid drops a mail before it is sent. What is not here speaks of the account: a quota that
# is used up (`Recipient List over Package Quota`), an `X-SMTPAPI` that it cannot read.
DROPPED: Mapping[str, Reason] = {
    "bounced address": reasons.NOBODY,
    "invalid": reasons.NOBODY,
    "unsubscribed address": reasons.PERSON,
    "spam reporting address": reasons.PERSON,
    "spam content": reasons.MESSAGE,
}
# Of a bounce, what its status (RFC 3463) does not say of the address: for now, a full mailbox, the
# mail's content, a policy.
NOT_THE_ADDRESS = ("4", "5.2.2", "5.6", "5.7")


class Event(msgspec.Struct, frozen=True):
    event: str
    kaskad: object = None  # the unique argument that we gave
    email: object = None
    timestamp: object = None
    sg_event_id: object = None
    sg_machine_open: object = None
    type: str | None = None
    status: object = None
    reason: object = None


_EVENT = msgspec.json.Decoder(Event)


def tags(ref: str) -> tuple[tuple[str, str], ...]:
    """The header whose content comes back in events."""
    return (("X-SMTPAPI", reading.json_header({"unique_args": {"kaskad": ref}})),)


class SendGridEvents:
    channel: Channel = "email"
    callback_bytes_max = CALLBACK_BYTES_MAX

    def receipts(self, body: bytes, content_type: str) -> Receipts:  # noqa: ARG002 - the port's
        return reading.each(reading.items_of(body), _said)


def _said(item: msgspec.Raw) -> Said:
    event = json_text.decode(_EVENT, item)
    at_ms = reading.seconds(event.timestamp)
    if (kind := WISHES.get(event.event)) is not None:
        return reading.wish(kind, event.sg_event_id, event.email, at_ms)
    text = json_text.text_of(event.reason)
    if event.event == "bounce":
        # A block is what a server holds against the sender, or against this mail.
        enhanced = json_text.text_of(event.status)
        gone = event.type != "blocked" and not enhanced.startswith(NOT_THE_ADDRESS)
        return reading.bounced(reading.ours(event.kaskad), at_ms, enhanced, text, gone=gone)
    if event.event == "dropped":
        reason = DROPPED.get(text.strip().lower(), reasons.ACCOUNT)
        ref = reading.ours(event.kaskad)
        return reading.failed(ref, at_ms, text, reason, code="dropped", status="rejected")
    status = STATUSES.get(event.event)
    if status is None or event.sg_machine_open:
        return None
    return reading.plain(status, reading.ours(event.kaskad), at_ms)
