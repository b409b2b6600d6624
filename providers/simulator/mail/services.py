"""What services say of the mails that they took by SMTP, each in its own words; SendGrid's are
beside. Pure, but for the moments that are signed and the token that Mailgun signs.

A service is known by the header with which a mail asks for its events; a mail without any is one of
a relay, of which nothing is heard again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Any, Final, NamedTuple

import msgspec

from providers.simulator.book import Entry
from providers.simulator.callbacks_only import moment
from providers.simulator.mail import sendgrid
from providers.simulator.mail.catalogue import bounce

_TOKEN_BYTES: Final = 25
_POSTMARK: Final = "X-PM-Metadata-kaskad"
_MAILGUN: Final = "X-Mailgun-Variables"


class Asked(NamedTuple):
    """By what reference a mail wants to hear of itself, and of which service."""

    reference: str
    service: str = "postmark"  # also of a book of before there were others


class Service(NamedTuple):
    """The bodies of its events, of an entry at a moment; `signed` makes the body of a POST
    of one."""

    delivered: Callable[[Entry, str, int], bytes]
    bounced: Callable[[Entry, str, int, bool], bytes]  # for good: nobody is there
    opened: Callable[[Entry, str, int], bytes]
    unsubscribed: Callable[[Entry, str, int], bytes]
    complained: Callable[[Entry, str, int], bytes]
    signed: Callable[[bytes, str], bytes]


def asked_of(headers: Message) -> Asked:
    """By the mail's headers; without a reference where it is a relay's."""
    if told := str(headers.get(_MAILGUN, "")):
        try:
            variables = json.loads(told)
        except (ValueError, RecursionError):
            variables = None
        reference = variables.get("kaskad") if isinstance(variables, dict) else None
        return Asked(str(reference or ""), "mailgun")
    if (reference := sendgrid.reference_of(headers)) is not None:
        return Asked(reference, "sendgrid")
    return Asked(str(headers.get(_POSTMARK, "")))


# Postmark


def _postmark(entry: Entry, reference: str, kind: str, **more: Any) -> bytes:
    return msgspec.json.encode(
        {
            "RecordType": kind,
            "MessageID": entry.bulk_id,
            "Recipient": entry.to,
            "Metadata": {"kaskad": reference},
            "MessageStream": "outbound",
            **more,
        }
    )


def _postmark_bounced(entry: Entry, reference: str, at_ms: int, hard: bool) -> bytes:
    return _postmark(
        entry,
        reference,
        "Bounce",
        ID=_number(entry),
        Type="HardBounce" if hard else "SoftBounce",
        Email=entry.to,
        BouncedAt=moment(at_ms),
        Details=f"smtp;{bounce(hard)}",
    )


def _postmark_complained(entry: Entry, reference: str, at_ms: int) -> bytes:
    return _postmark(
        entry,
        reference,
        "SpamComplaint",
        ID=_number(entry),
        Type="SpamComplaint",
        Email=entry.to,
        BouncedAt=moment(at_ms),
    )


def _number(entry: Entry) -> int:
    """By which Postmark knows a bounce or complaint: its own for each mail."""
    return int.from_bytes(hashlib.blake2b(entry.message_id.encode(), digest_size=6).digest())


# Mailgun


def _mailgun(entry: Entry, reference: str, event: str, at_ms: int, **more: Any) -> bytes:
    return msgspec.json.encode(
        {
            "event": event,
            "id": f"{entry.message_id}-{event}",
            "timestamp": at_ms / 1000,
            "recipient": entry.to,
            "user-variables": {"kaskad": reference},
            **more,
        }
    )


def _mailgun_bounced(entry: Entry, reference: str, at_ms: int, hard: bool) -> bytes:
    code, enhanced, message = bounce(hard)
    status = {"code": code, "enhanced-code": enhanced, "message": message}
    more = {"severity": "permanent", "reason": "bounce", "delivery-status": status}
    return _mailgun(entry, reference, "failed", at_ms, **more)


def _mailgun_signed(event: bytes, key: str) -> bytes:
    """With its signature, which is of a moment and a token and says nothing of the event."""
    timestamp, token = str(int(time.time())), secrets.token_hex(_TOKEN_BYTES)
    made = hmac.digest(key.encode(), (timestamp + token).encode(), "sha256").hex()
    signature = {"timestamp": timestamp, "token": token, "signature": made}
    return msgspec.json.encode({"signature": signature, "event-data": msgspec.Raw(event)})


SERVICES: Final[Mapping[str, Service]] = {
    "postmark": Service(
        lambda entry, ref, at: _postmark(entry, ref, "Delivery", DeliveredAt=moment(at)),
        _postmark_bounced,
        lambda entry, ref, at: _postmark(entry, ref, "Open", ReceivedAt=moment(at), FirstOpen=True),
        lambda entry, ref, at: _postmark(
            entry,
            ref,
            "SubscriptionChange",
            ChangedAt=moment(at),
            SuppressSending=True,
            SuppressionReason="ManualSuppression",
        ),
        _postmark_complained,
        lambda event, _: event,
    ),
    "mailgun": Service(
        lambda entry, ref, at: _mailgun(entry, ref, "delivered", at),
        _mailgun_bounced,
        lambda entry, ref, at: _mailgun(entry, ref, "opened", at),
        lambda entry, ref, at: _mailgun(entry, ref, "unsubscribed", at),
        lambda entry, ref, at: _mailgun(entry, ref, "complained", at),
        _mailgun_signed,
    ),
    "sendgrid": Service(
        lambda entry, ref, at: sendgrid.event(entry, ref, "delivered", at),
        sendgrid.bounced,
        lambda entry, ref, at: sendgrid.event(entry, ref, "open", at),
        lambda entry, ref, at: sendgrid.event(entry, ref, "unsubscribe", at),
        lambda entry, ref, at: sendgrid.event(entry, ref, "spamreport", at),
        lambda event, _: b"[" + event + b"]",  # the signature is in the headers
    ),
}
