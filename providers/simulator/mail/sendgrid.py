"""What SendGrid says of mails, and how it signs that: ECDSA over a moment and the body.

The key it signs with follows from that of the API, so that it is the same after every start and
nothing is kept. Pure, but for the moment and the chance that each signature takes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from email.message import Message
from functools import lru_cache
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from providers.simulator.book import Entry
from providers.simulator.mail.catalogue import bounce

_ASKS: Final = "X-SMTPAPI"
_SIGNATURE: Final = "X-Twilio-Email-Event-Webhook-Signature"
_TIMESTAMP: Final = "X-Twilio-Email-Event-Webhook-Timestamp"


def reference_of(headers: Message) -> str | None:
    """By which a mail wants to hear of itself; None where it is not for SendGrid."""
    told = headers.get(_ASKS)
    if told is None:
        return None
    try:
        return str(json.loads(str(told))["unique_args"]["kaskad"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return ""


def event(entry: Entry, reference: str, name: str, at_ms: int, **more: Any) -> bytes:
    return msgspec.json.encode(
        {
            "email": entry.to,
            "timestamp": at_ms // 1000,
            "event": name,
            "sg_event_id": f"{entry.message_id}-{name}",
            "sg_message_id": f"{entry.bulk_id}.simulator",
            "kaskad": reference,
            **more,
        }
    )


def bounced(entry: Entry, reference: str, at_ms: int, hard: bool) -> bytes:
    """A full mailbox is a block: SendGrid goes on to send to it."""
    why, type_ = bounce(hard), "bounce" if hard else "blocked"
    status, reason = why.enhanced, str(why)
    return event(entry, reference, "bounce", at_ms, type=type_, status=status, reason=reason)


def headers(_: str, body: bytes, api_key: str) -> dict[str, str]:
    """Those that sign a POST; none where it is another service's, whose body is no array."""
    if not body.startswith(b"["):
        return {}
    timestamp = str(int(time.time()))
    made = _private(api_key).sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
    return {_SIGNATURE: base64.b64encode(made).decode(), _TIMESTAMP: timestamp}


def verification_key(api_key: str) -> str:
    """As SendGrid shows it: what its signatures are verified with."""
    public = _private(api_key).public_key()
    octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(octets).decode()


@lru_cache(maxsize=16)
def _private(api_key: str) -> ec.EllipticCurvePrivateKey:
    digest = hashlib.sha256(b"kaskad simulator sendgrid " + api_key.encode()).digest()
    return ec.derive_private_key(int.from_bytes(digest) >> 1 | 1, ec.SECP256R1())
