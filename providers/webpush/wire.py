"""The wire format of push services (RFC 8030): requests and what their answers mean. Pure.

A push service says only that it took a message. It names no reason that could be relied upon, so
the status decides: a subscription that is gone is the person's, what is too large the message's,
and every other refusal counts as the account's, because a wrong key is refused for everybody. One
alone says nothing of the account: whoever subscribed chose the address.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from providers.contract import (
    Fault,
    Outcome,
    Refused,
    Submission,
    Submitted,
    WebPushAddress,
)
from providers.http.adapter import ProviderRequest, Reply
from providers.http.replies import DETAIL_CHARS_MAX, ErrorDetail, raise_unless_ok
from providers.push.devices import gone
from providers.webpush.encryption import PLAINTEXT_BYTES_MAX, encrypt
from providers.webpush.vapid import Vapid

TTL_S_MAX = 28 * 86_400  # what the services keep a message at most
TOO_LARGE = Fault("too_large", "too_large", True)
BAD_SUBSCRIPTION = Fault("bad_subscription", "bad_subscription", True)
HOST_REFUSED = Fault("host_refused", "host_refused", True)


class Endpoint(msgspec.Struct, frozen=True):
    """Where a subscription's messages go: `origin` is its service's address, `path` all after."""

    origin: str
    host: str
    path: str


class _Error(msgspec.Struct, frozen=True):
    reason: str | None = None
    message: str | None = None
    errno: int | str | None = None


_ERROR = msgspec.json.Decoder(_Error)


def endpoint_of(device: WebPushAddress) -> Endpoint | None:
    """None: it is no address that anything can be sent to."""
    url = device.subscription.endpoint
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not (url.isascii() and url.isprintable()) or " " in url:
        return None
    if parts.scheme != "https" or not host or parts.username or port == 0:
        return None
    origin = f"https://{host}" if port in (None, 443) else f"https://{host}:{port}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(origin, host, path)


def is_allowed(host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a host is one of those: a name, or `*.name` for all below it."""
    return any(
        host.endswith(each[1:]) if each.startswith("*.") else host == each for each in allowed
    )


def payload(sent: Submission) -> bytes:
    """What the application's service worker is given."""
    told: dict[str, Any] = {
        "id": sent.message,
        "title": sent.title,
        "body": sent.text,
        "image": sent.image_url,
        "url": sent.url,
        "data": sent.data,
    }
    return msgspec.json.encode({name: value for name, value in told.items() if value})


def request(
    sent: Submission,
    device: WebPushAddress,
    endpoint: Endpoint,
    vapid: Vapid,
    now_s: int,
    drawn: tuple[ec.EllipticCurvePrivateKey, bytes],
) -> ProviderRequest | Refused:
    """The request of one message to one browser; `drawn` is its private key and its salt. Raises
    BadKeys."""
    plaintext = payload(sent)
    if len(plaintext) > PLAINTEXT_BYTES_MAX:
        return Refused(sent.ref, TOO_LARGE, about="message")
    headers = [
        ("Authorization", vapid.authorization(endpoint.origin, now_s)),
        ("Content-Encoding", "aes128gcm"),
        ("Content-Type", "application/octet-stream"),
        ("TTL", str(min(max(sent.validity_ms // 1000, 0), TTL_S_MAX))),
        ("Urgency", "normal" if sent.category == "marketing" else "high"),
    ]
    if sent.message:
        headers.append(("Topic", sent.message))  # a second one takes the place of the first
    body = encrypt(plaintext, device.subscription.keys, *drawn)
    return ProviderRequest("POST", endpoint.path, tuple(headers), body)


def outcome(sent: Submission, device: WebPushAddress, reply: Reply) -> Outcome:
    """What an answer means. Raises SendFault."""
    status = reply.status
    if 200 <= status < 300:
        return Submitted(sent.ref, delivered=True)
    said = explain(reply.body)
    if status in (404, 410):
        return gone(sent.ref, Fault(f"http_{status}", said.code or "gone", True), device)
    if status == 413:
        return Refused(sent.ref, TOO_LARGE, about="message")
    if 300 <= status < 500 and status not in (408, 429):
        fault = Fault(f"http_{status}", said.code or said.detail or f"http_{status}", True)
        return Refused(sent.ref, fault, about="account")
    raise_unless_ok(reply, explain)
    raise AssertionError("every other status is a fault")


def explain(body: bytes) -> ErrorDetail:
    """Reads the services' error bodies, of which there are several; others say nothing."""
    try:
        error = _ERROR.decode(body)
    except (ValueError, RecursionError):
        return ErrorDetail()
    code = error.reason or ("" if error.errno is None else str(error.errno))
    return ErrorDetail(code[:64], (error.message or "")[:DETAIL_CHARS_MAX])
