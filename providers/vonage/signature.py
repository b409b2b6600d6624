"""Vonage's signature of its webhooks: a JWT whose claims hold the hash of the body.

When it was signed is not looked at: a callback that comes again changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

import jwt
import msgspec
from jwt.types import Options

_UNTIMED: Options = {
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
}


class VonageSignature(msgspec.Struct, frozen=True):
    secret: str

    def certificate_url(self, body: bytes) -> str | None:  # noqa: ARG002 - the port's
        return None

    def holds(self, headers: Mapping[str, str], body: bytes, certificate: bytes) -> bool:  # noqa: ARG002
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.isascii():
            return False
        try:
            claims = jwt.decode(token, self.secret, algorithms=["HS256"], options=_UNTIMED)
        except jwt.PyJWTError:
            return False
        told = str(claims.get("payload_hash", "")).encode()
        return hmac.compare_digest(told, hashlib.sha256(body).hexdigest().encode())
