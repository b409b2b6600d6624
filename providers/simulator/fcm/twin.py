"""FCM as a twin: one message a request, access tokens, and its errors by code.

Any service account is given the simulator's key as its access token, if it asks for one as Google
wants to be asked; whose signature it is nobody checks here.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs

import jwt
import msgspec

from providers.contract import Channel
from providers.simulator.replies import Reply, json_reply
from providers.simulator.silent import GONE, Silent, catalogue, sending_of
from providers.simulator.twin import ErrorShape, Sending, Taken, Unreadable, Violations, decoded

CATALOGUE: Final = catalogue("fcm")
TOKEN_PATH: Final = "/token"  # noqa: S105 - a path
BYTES_MAX: Final = 4_096
TTL_MS_MAX: Final = 28 * 86_400_000
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
_CLAIMS: Final = ("iss", "aud", "iat", "exp")
_path: Final = re.compile(r"/v1/projects/([a-z0-9-]{1,64})/messages:send").fullmatch
_RESERVED: Final = re.compile(r"from|message_type|google.*|gcm.*").fullmatch
_ttl: Final = re.compile(r"([0-9]{1,7})(?:\.[0-9]+)?s").fullmatch
_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class _Android(msgspec.Struct, frozen=True):
    ttl: str = ""


class _Message(msgspec.Struct, frozen=True):
    token: str
    notification: dict[str, str] = {}
    data: dict[str, str] = {}
    android: _Android = _Android()


class _Request(msgspec.Struct, frozen=True):
    message: _Message


_REQUEST: Final = msgspec.json.Decoder(_Request)


class Fcm(Silent):
    channels: tuple[Channel, ...] = ("push",)
    catalogue = CATALOGUE
    media_type = "application/json"

    def is_authorised(self, headers: Mapping[bytes, bytes], api_key: str) -> bool:
        given = headers.get(b"authorization", b"")
        return hmac.compare_digest(given, f"Bearer {api_key}".encode())

    def sends_at(self, path: str) -> Channel | None:
        return "push" if _path(path) else None

    def aside(self, path: str, body: bytes, api_key: str) -> Reply | None:
        if path != TOKEN_PATH:
            return None
        form = parse_qs(body.decode("latin-1"))
        try:
            if form.get("grant_type") != [_GRANT]:
                raise jwt.InvalidTokenError("The grant type is not a JWT's.")
            claims = jwt.decode(form.get("assertion", [""])[0], options={"verify_signature": False})
            if claims.get("scope") != _SCOPE or any(name not in claims for name in _CLAIMS):
                raise jwt.InvalidTokenError("A claim is missing or not FCM's.")
        except jwt.PyJWTError as fault:
            error = {"error": "invalid_grant", "error_description": str(fault)}
            return json_reply(400, error)
        return json_reply(
            200, {"access_token": api_key, "expires_in": 3599, "token_type": "Bearer"}
        )

    def read_send(self, channel: Channel, body: bytes, path: str = "") -> Sending:
        message = decoded(_REQUEST, body, "Invalid JSON payload received.").message
        shown = msgspec.json.encode([message.notification, message.data])
        if len(shown) > BYTES_MAX:
            raise Unreadable("Message is too big.")
        if any(_RESERVED(name) for name in message.data):
            raise Unreadable("Invalid data payload key.")
        project, ttl = _path(path), _ttl(message.android.ttl)
        validity_ms = min(int(ttl[1]) * 1_000, TTL_MS_MAX) if ttl else TTL_MS_MAX
        sender = project[1] if project else ""
        id_ = message.data.get("kaskad_id", "")
        return sending_of(id_, message.token, channel, sender, validity_ms)

    def answer(self, bulk_id: str, counted: bool, taken: Sequence[Taken]) -> Reply:  # noqa: ARG002
        (one,) = taken
        if one.in_hand:
            return json_reply(200, {"name": f"projects/{one.order.sender}/messages/{bulk_id}"})
        if one.status is GONE:
            return _failed(404, "NOT_FOUND", "Requested entity was not found.", "UNREGISTERED")
        return _failed(403, "PERMISSION_DENIED", "SenderId mismatch", "SENDER_ID_MISMATCH")

    def error(
        self,
        shape: ErrorShape,  # noqa: ARG002 - there is one
        status: int,
        sentence: str,
        violations: Violations = (),  # noqa: ARG002 - the sentence says it
    ) -> bytes:
        code = {400: "INVALID_ARGUMENT", 429: "QUOTA_EXCEEDED", 500: "INTERNAL"}.get(status, "")
        return _failed(status, _STATUSES.get(status, "UNKNOWN"), sentence, code).body


def _failed(status: int, word: str, sentence: str, code: str) -> Reply:
    """FCM's own code stands among the details; what never reached FCM has none."""
    error: dict[str, Any] = {"code": status, "message": sentence, "status": word}
    if code:
        kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
        error["details"] = [{"@type": kind, "errorCode": code}]
    return json_reply(status, {"error": error})
