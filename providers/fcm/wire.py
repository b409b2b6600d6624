"""FCM's HTTP v1: one device a request, and its error table by kind. Pure.

`errorCode` among the details decides, where there is one; the status alone otherwise. A device that
is unregistered, not a token of FCM, or another project's is gone. What is wrong with the content is
the message's, keys and senders are the account's.

Traps of this provider: an invalid token and an invalid message are the same code, told apart by
what the sentence names; UNAVAILABLE says that nothing was taken, while INTERNAL does not; and who
stands on the way, such as a proxy, may answer 200 with a page of its own, which delivers nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from providers.contract import (
    AccountFault,
    Category,
    Fault,
    FcmAddress,
    Outcome,
    Refused,
    Submission,
    Submitted,
    Throttled,
    Unknown,
)
from providers.http import json_text
from providers.http.adapter import ProviderRequest, Reply
from providers.http.json_text import part, text_of
from providers.http.replies import ErrorDetail, raise_unless_ok, retry_after_ms
from providers.push.devices import gone

TTL_S_MAX = 28 * 86_400  # what FCM keeps a message at most
QUOTA_MS = 60_000  # where a refusal for the quota names no time: the quota is one of minutes
UNAVAILABLE_MS = 10_000
_ANDROID: dict[Category, str] = {"otp": "HIGH", "transactional": "HIGH", "marketing": "NORMAL"}


class Error(msgspec.Struct, frozen=True):
    status: str = ""
    message: object = None
    details: object = None

    @property
    def code(self) -> str:
        """FCM's own code, or Google's where FCM named none."""
        return next(filter(None, self._codes), self.status)

    @property
    def is_fcms(self) -> bool:
        """Whether FCM itself says so, and not somebody on the way to it."""
        return any(self._codes)

    @property
    def names_token(self) -> bool:
        """Whether it is the token that is invalid, and not what is sent to it."""
        details = _items(self.details)
        violations = [each for one in details for each in _items(part(one, "fieldViolations"))]
        fields = [part(each, "field") for each in violations]
        return "message.token" in fields or "registration token" in text_of(self.message)

    @property
    def _codes(self) -> list[str]:
        return [text_of(part(each, "errorCode")) for each in _items(self.details)]


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


class _Body(msgspec.Struct, frozen=True):
    error: Error = Error()


class _Taken(msgspec.Struct, frozen=True):
    name: str = ""


_BODY = msgspec.json.Decoder(_Body)
_TAKEN = msgspec.json.Decoder(_Taken)


def request(
    project: str, token: str, sent: Submission, device: FcmAddress, now_s: int
) -> ProviderRequest:
    """One message to one device; `token` is the access token."""
    headers = (("Authorization", f"Bearer {token}"), ("Content-Type", "application/json"))
    body = msgspec.json.encode({"message": message(sent, device, now_s)})
    return ProviderRequest("POST", f"/v1/projects/{project}/messages:send", headers, body)


def message(sent: Submission, device: FcmAddress, now_s: int) -> dict[str, Any]:
    """A later message of the same id takes the place of this one on the device."""
    ttl_s = min(max(sent.validity_ms // 1000, 0), TTL_S_MAX)
    urgent = sent.category != "marketing"
    ours = {"kaskad_id": sent.message, "link": sent.url}
    data = {name: value for name, value in ours.items() if value} | (sent.data or {})
    shown = {"title": sent.title, "body": sent.text, "image": sent.image_url}
    aps: dict[str, Any] = {"sound": "default"}
    if sent.image_url:
        aps["mutable-content"] = 1  # the application's extension fetches it
    web: dict[str, Any] = {
        "headers": {"TTL": str(ttl_s), "Urgency": "high" if urgent else "normal"}
    }
    if sent.url and sent.url.startswith("https:"):  # another link is refused
        web["fcm_options"] = {"link": sent.url}
    return {
        "token": device.token,
        "notification": {name: value for name, value in shown.items() if value},
        "data": data,
        "android": {
            "priority": _ANDROID[sent.category],
            "ttl": f"{ttl_s}s",
            "collapse_key": sent.message,
            "notification": {"tag": sent.message},
        },
        "apns": {
            "headers": {
                "apns-priority": "10" if urgent else "5",
                "apns-expiration": str(now_s + ttl_s),
                "apns-collapse-id": sent.message,
            },
            "payload": {"aps": aps},
        },
        "webpush": web,
    }


def error_of(reply: Reply) -> Error:
    """What an answer says of its failure; an empty one of a body that is none of FCM's."""
    try:
        return json_text.decode(_BODY, reply.body).error
    except (ValueError, RecursionError):
        return Error()


def outcome(sent: Submission, device: FcmAddress, reply: Reply) -> Outcome:
    """What an answer means. Raises SendFault."""
    if 200 <= reply.status < 300:
        if not _names_message(reply.body):
            raise Unknown("answer_unreadable", "The answer names no message.")
        return Submitted(sent.ref, delivered=True)
    error = error_of(reply)
    code = error.code
    fault = Fault(code or f"http_{reply.status}", code or f"http_{reply.status}", True)
    match code:
        case "UNREGISTERED":
            return gone(sent.ref, fault, device)
        case "SENDER_ID_MISMATCH":
            return msgspec.structs.replace(gone(sent.ref, fault, device), about="account")
        case "INVALID_ARGUMENT" if error.names_token:
            return gone(sent.ref, fault, device)
        case "QUOTA_EXCEEDED" | "RESOURCE_EXHAUSTED":
            wait_ms = retry_after_ms(reply.headers)
            raise Throttled(
                code,
                "The quota is used up.",
                retry_after_ms=QUOTA_MS if wait_ms is None else wait_ms,
            )
        case "UNAVAILABLE" if error.is_fcms:
            wait_ms = retry_after_ms(reply.headers)
            raise Throttled(
                code,
                "FCM is overloaded.",
                retry_after_ms=UNAVAILABLE_MS if wait_ms is None else wait_ms,
            )
        case "THIRD_PARTY_AUTH_ERROR":
            raise AccountFault(
                code, "The project's APNs or web push key is wrong: upload it to Firebase again."
            )
    if reply.status in (400, 413):
        is_googles = bool(code) or reply.status == 413
        return Refused(sent.ref, fault, about="message" if is_googles else "account")
    raise_unless_ok(reply, lambda _: ErrorDetail(code, text_of(error.message)))
    raise AssertionError("every other status is a fault")


def _names_message(body: bytes) -> bool:
    try:
        return bool(json_text.decode(_TAKEN, body).name)
    except (ValueError, RecursionError):
        return False
