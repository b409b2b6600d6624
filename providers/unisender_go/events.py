"""UniSender Go's webhooks: events of mails, several a call, and the signature inside the body."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

import msgspec

from providers import reasons
from providers.contract import ReceiptStatus
from providers.http import json_text
from providers.http.adapter import Receipts
from providers.mail.events import reading
from providers.mail.events.reading import Said, Wish
from providers.reasons import Reason

STATUSES: Mapping[str, ReceiptStatus] = {
    "sent": "sent",
    "delivered": "delivered",
    "opened": "seen",
    "clicked": "seen",
}
WISHES: Mapping[str, Wish] = {"unsubscribed": "block", "spam": "block", "subscribed": "unblock"}
# A mail that is given up; a soft bounce is not yet, and becomes delivered or this. Whom it speaks
# of says the `delivery_status`, where the webhook tells that: what is not here is the person's.
GIVEN_UP = "hard_bounced"
REASONS: Mapping[str, Reason] = {
    **dict.fromkeys(("err_user_unknown", "err_user_inactive"), reasons.NOBODY),
    **dict.fromkeys(("err_mailbox_discarded", "err_domain_inactive"), reasons.NOBODY),
    **dict.fromkeys(("err_unreachable", "skip_dup_unreachable"), reasons.NOBODY),
    **dict.fromkeys(("err_spam_rejected", "err_spam_skipped"), reasons.ACCOUNT),
    **dict.fromkeys(("err_spam_removed", "err_blacklisted"), reasons.ACCOUNT),
    **dict.fromkeys(("err_too_large", "err_lost"), reasons.MESSAGE),
}

_auth = re.compile(rb'"auth"\s*:\s*"([0-9a-fA-F]{32})"').search


class EventData(msgspec.Struct, frozen=True):
    status: str
    email: object = None
    metadata: object = None
    event_time: object = None
    delivery_info: object = None


class Event(msgspec.Struct, frozen=True):
    event_data: EventData
    event_name: str = "transactional_email_status"


class OfUser(msgspec.Struct, frozen=True):
    events: list[msgspec.Raw] = []


class Envelope(msgspec.Struct, frozen=True):
    events_by_user: list[msgspec.Raw] | None = None


_ENVELOPE = msgspec.json.Decoder(Envelope)
_OF_USER = msgspec.json.Decoder(OfUser)
_EVENT = msgspec.json.Decoder(Event)


class UniSenderSignature:
    """`auth` of the body is the MD5 of the body with the API key in its place."""

    def __init__(self, api_key: str) -> None:
        self._key = api_key.encode()

    def certificate_url(self, body: bytes) -> str | None:  # noqa: ARG002 - the port's
        return None

    def holds(self, headers: Mapping[str, str], body: bytes, certificate: bytes) -> bool:  # noqa: ARG002 - the port's
        found = _auth(body)
        if found is None or not self._key:
            return False
        signed = body[: found.start(1)] + self._key + body[found.end(1) :]
        digest = hashlib.md5(signed, usedforsecurity=False).hexdigest()
        return hmac.compare_digest(digest.encode(), found[1].lower())


def read_events(body: bytes) -> Receipts:
    """Raises ValueError when nothing of it can be read."""
    try:
        users = json_text.decode(_ENVELOPE, body).events_by_user
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The body is no JSON of events: {error}") from error
    items = [msgspec.Raw(body)] if users is None else [e for each in users for e in _events(each)]
    return reading.each(items, _said)


def _events(user: msgspec.Raw) -> list[msgspec.Raw]:
    """Those of one user; what is none stands for itself, and is told as an item that cannot be
    read."""
    try:
        return json_text.decode(_OF_USER, user).events
    except (ValueError, RecursionError):
        return [user]


def _said(item: msgspec.Raw) -> Said:
    event = json_text.decode(_EVENT, item)
    if event.event_name != "transactional_email_status":
        return None
    said = event.event_data
    at_ms = reading.moment(said.event_time)
    if (kind := WISHES.get(said.status)) is not None:
        return reading.wish(kind, None, said.email, at_ms)
    ref = reading.ours(json_text.part(said.metadata, "kaskad"))
    if (status := STATUSES.get(said.status)) is not None:
        return reading.plain(status, ref, at_ms)
    if said.status != GIVEN_UP:
        return None
    info = said.delivery_info
    code = json_text.text_of(json_text.part(info, "delivery_status")) or said.status
    why = json_text.text_of(json_text.part(info, "destination_response"))
    return reading.failed(ref, at_ms, why, REASONS.get(code, reasons.PERSON), code=code)
