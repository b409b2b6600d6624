"""A push service as a twin: it checks who sends, and reads what only the browser could.

Its browsers are those of `subscriptions`. A message for one of other keys is refused, as no browser
could show it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from providers.contract import Channel
from providers.simulator.browsers import HOST, PATH, decrypted
from providers.simulator.replies import Reply, json_reply
from providers.simulator.silent import GONE, Silent, catalogue, sending_of
from providers.simulator.twin import ErrorShape, Sending, Taken, Unreadable, Violations

CATALOGUE: Final = catalogue("webpush")
TTL_MS: Final = 28 * 86_400_000
BODY_BYTES_MAX: Final = 4_096
_vapid: Final = re.compile(rb"vapid t=([\w.-]+), ?k=([\w-]+)").fullmatch


class _Payload(msgspec.Struct, frozen=True):
    id: str = ""


_PAYLOAD: Final = msgspec.json.Decoder(_Payload)


class WebPush(Silent):
    channels: tuple[Channel, ...] = ("push",)
    catalogue = CATALOGUE
    media_type = "application/octet-stream"

    def is_authorised(self, headers: Mapping[bytes, bytes], api_key: str) -> bool:  # noqa: ARG002
        """By a signature of whoever sends, and not by a key of ours."""
        found = _vapid(headers.get(b"authorization", b""))
        if found is None or not headers.get(b"ttl", b"").isdigit():
            return False
        try:
            point = base64.urlsafe_b64decode(found[2] + b"=" * (-len(found[2]) % 4))
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
            jwt.decode(found[1], key, algorithms=["ES256"], audience=f"https://{HOST}")
        except (binascii.Error, ValueError, jwt.PyJWTError):
            return False
        return True

    def sends_at(self, path: str) -> Channel | None:
        return "push" if path.startswith(PATH) and len(path) > len(PATH) else None

    def read_send(self, channel: Channel, body: bytes, path: str = "") -> Sending:
        name = path.removeprefix(PATH)
        if len(body) > BODY_BYTES_MAX:
            raise Unreadable("The body is longer than one record.")
        try:
            message = _PAYLOAD.decode(decrypted(name, body))
        except (ValueError, RecursionError) as fault:
            raise Unreadable(f"The message cannot be read: {fault}") from None
        return sending_of(message.id, name, channel, "", TTL_MS)

    def answer(self, bulk_id: str, counted: bool, taken: Sequence[Taken]) -> Reply:  # noqa: ARG002
        (one,) = taken
        if one.in_hand:
            return Reply(201, b"", ((b"location", f"https://{HOST}/m/{bulk_id}".encode()),))
        if one.status is GONE:
            return json_reply(410, {"errno": 106, "message": "Subscription is gone"})
        return json_reply(403, {"errno": 109, "message": "The request was refused"})

    def error(
        self,
        shape: ErrorShape,  # noqa: ARG002 - there is one
        status: int,
        sentence: str,
        violations: Violations = (),  # noqa: ARG002 - the sentence says it
    ) -> bytes:
        return msgspec.json.encode({"code": status, "errno": 999, "message": sentence})
