"""Who sends a web push message: the key of the application and its signed claims (RFC 8292). Pure.

A push service takes one token for a while, so that it is signed once per origin and half a day.
"""

from __future__ import annotations

import base64
import binascii

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

LIFE_S = 12 * 3600  # push services take a day at most
RENEW_S = LIFE_S // 2
SIGNED_MAX = 256  # origins; services with many hosts are signed for again now and then
_SCALAR_BYTES = 32


class Vapid:
    """The key of the configuration and what it signed lately."""

    def __init__(self, key: str, subject: str) -> None:
        """Raises ValueError with a sentence for what is no private key."""
        self._private = private_key(key)
        self._subject = subject
        public = self._private.public_key()
        point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.public_key = base64.urlsafe_b64encode(point).rstrip(b"=").decode()
        self._signed: dict[str, tuple[int, str]] = {}

    def authorization(self, origin: str, now_s: int) -> str:
        """The value of the header for one push service, such as https://push.example."""
        signed_s, value = self._signed.get(origin, (0, ""))
        if not value or not signed_s <= now_s < signed_s + RENEW_S:
            claims = {"aud": origin, "exp": now_s + LIFE_S, "sub": self._subject}
            token = jwt.encode(claims, self._private, algorithm="ES256")
            value = f"vapid t={token},k={self.public_key}"
            if len(self._signed) >= SIGNED_MAX:
                self._signed.clear()
            self._signed[origin] = now_s, value
        return value


def private_key(text: str) -> ec.EllipticCurvePrivateKey:
    """Reads a P-256 key: its 32 bytes in base64url, as most tools write it, or PEM. Raises
    ValueError with a sentence."""
    problem = ValueError(
        "The VAPID key must be a private key of P-256: 32 bytes in base64url, or PEM."
    )
    if "-----BEGIN" in text:
        try:
            key = load_pem_private_key(text.encode(), None)
        except (ValueError, TypeError):
            raise problem from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise problem
        return key
    try:
        octets = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise problem from None
    if len(octets) != _SCALAR_BYTES:
        raise problem
    try:
        return ec.derive_private_key(int.from_bytes(octets), ec.SECP256R1())
    except ValueError:
        raise problem from None
