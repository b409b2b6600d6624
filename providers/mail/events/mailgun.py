"""Mailgun's webhooks: one event a call, signed in its body: an HMAC over timestamp and token."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from functools import partial

import msgspec

from providers import reasons
from providers.contract import Channel, ReceiptStatus
from providers.http import json_text
from providers.http.adapter import Receipts
from providers.mail.events import reading
from providers.mail.events.reading import CALLBACK_BYTES_MAX, Said

STATUSES: Mapping[str, ReceiptStatus] = {
    "accepted": "sent",
    "delivered": "delivered",
    "opened": "seen",
    "clicked": "seen",
}
WISHES = frozenset({"unsubscribed", "complained"})
_KNOWN_DEAD = ("bounce", "suppress-bounce")
_DEAD_CODES = (550, 551, 553, 605)  # 605: it bounced before


class Event(msgspec.Struct, frozen=True, rename="kebab"):
    event: str
    id: object = None
    timestamp: object = None
    severity: str | None = None
    reason: object = None
    recipient: object = None
    user_variables: object = None
    delivery_status: object = None
    client_info: object = None


class SignedPart(msgspec.Struct, frozen=True):
    timestamp: str
    token: str
    signature: str


class Envelope(msgspec.Struct, frozen=True, rename="kebab"):
    event_data: msgspec.Raw
    signature: SignedPart | None = None


_EVENT = msgspec.json.Decoder(Event)
_ENVELOPE = msgspec.json.Decoder(Envelope)


def tags(ref: str) -> tuple[tuple[str, str], ...]:
    """The header whose content comes back in events."""
    return (("X-Mailgun-Variables", reading.json_header({"kaskad": ref})),)


class MailgunEvents:
    channel: Channel = "email"
    callback_bytes_max = CALLBACK_BYTES_MAX

    def receipts(self, body: bytes, content_type: str) -> Receipts:  # noqa: ARG002 - the port's
        try:
            envelope = _ENVELOPE.decode(body)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"The body is no event: {error}") from error
        return reading.each([envelope.event_data], _said)


class MailgunSignature:
    """`keys` are webhook signing keys; any one suffices, and an empty one is none. It says nothing
    of the event: who sees one callback can send another."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = [key.encode() for key in keys if key]

    def certificate_url(self, body: bytes) -> str | None:  # noqa: ARG002 - the port's
        return None

    def holds(self, headers: Mapping[str, str], body: bytes, certificate: bytes) -> bool:  # noqa: ARG002 - the port's
        try:
            signed = _ENVELOPE.decode(body).signature
        except (ValueError, RecursionError):
            return False
        if signed is None:
            return False
        text = (signed.timestamp + signed.token).encode()
        given = signed.signature.encode()
        return any(
            hmac.compare_digest(hmac.digest(key, text, "sha256").hex().encode(), given)
            for key in self._keys
        )


def _said(item: msgspec.Raw) -> Said:
    event = json_text.decode(_EVENT, item)
    at_ms = reading.seconds(event.timestamp)
    if event.event in WISHES:
        return reading.wish("block", event.id, event.recipient, at_ms)
    if event.event in ("failed", "rejected"):
        if event.severity == "temporary":
            return None
        return _failure(event, at_ms)
    status = STATUSES.get(event.event)
    if status is None or (json_text.part(event.client_info, "bot") and status == "seen"):
        return None
    return reading.plain(status, _ref(event), at_ms)


def _failure(event: Event, at_ms: int | None) -> Said:
    told = partial(json_text.part, event.delivery_status)
    texts = told("message"), told("description"), event.reason
    text = next(filter(None, map(json_text.text_of, texts)), "")
    if event.event == "rejected":
        return reading.failed(
            _ref(event), at_ms, text, reasons.ACCOUNT, code="rejected", status="rejected"
        )
    enhanced = json_text.text_of(told("enhanced-code"))
    gone = event.reason in _KNOWN_DEAD and not enhanced and told("code") in _DEAD_CODES
    return reading.bounced(_ref(event), at_ms, enhanced, text, gone=gone)


def _ref(event: Event) -> str:
    return reading.ours(json_text.part(event.user_variables, "kaskad"))
