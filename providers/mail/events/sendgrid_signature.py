"""SendGrid's signature of its webhook: ECDSA over timestamp and body."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

SIGNATURE_HEADER = "x-twilio-email-event-webhook-signature"
TIMESTAMP_HEADER = "x-twilio-email-event-webhook-timestamp"


class SendGridSignature:
    """`keys` are verification keys as SendGrid shows them; any one suffices. Raises ValueError for
    one that is none."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = [_public_key(key) for key in keys]

    def certificate_url(self, body: bytes) -> str | None:  # noqa: ARG002 - the port's
        return None

    def holds(self, headers: Mapping[str, str], body: bytes, certificate: bytes) -> bool:  # noqa: ARG002 - the port's
        try:
            signature = base64.b64decode(headers.get(SIGNATURE_HEADER, ""), validate=True)
        except (binascii.Error, ValueError):
            return False
        signed = headers.get(TIMESTAMP_HEADER, "").encode("utf-8", "surrogatepass") + body
        return any(_verifies(key, signature, signed) for key in self._keys)


def _public_key(text: str) -> EllipticCurvePublicKey:
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError("The verification key is no public key in base64.") from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise ValueError("The verification key is no ECDSA key.")
    return key


def _verifies(key: EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True
