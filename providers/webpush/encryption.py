"""The body of a web push message: RFC 8291 over RFC 8188, one record. Pure.

Only the browser can read it. The private key and the salt are the message's own and are drawn by
the caller.
"""

from __future__ import annotations

import base64
import binascii
import struct

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from providers.contract import SubscriptionKeys

RECORD_BYTES = 4096
# What every push service takes: a record without the head, the tag and the delimiter.
PLAINTEXT_BYTES_MAX = 3993
SALT_BYTES = 16
_POINT_BYTES = 65
_LAST_RECORD = b"\x02"


class BadKeys(ValueError):
    """A subscription's keys cannot be used."""


def encrypt(
    plaintext: bytes, keys: SubscriptionKeys, private: ec.EllipticCurvePrivateKey, salt: bytes
) -> bytes:
    """Raises BadKeys, and ValueError for more than PLAINTEXT_BYTES_MAX."""
    if len(plaintext) > PLAINTEXT_BYTES_MAX:
        raise ValueError(f"A message has at most {PLAINTEXT_BYTES_MAX} bytes.")
    theirs, secret = _decoded(keys.p256dh, _POINT_BYTES), _decoded(keys.auth, 16)
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), theirs)
    except ValueError as error:
        raise BadKeys("p256dh is no point of the curve P-256.") from error
    shared = private.exchange(ec.ECDH(), public)
    ours = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    material = _derived(secret, shared, b"WebPush: info\0" + theirs + ours, 32)
    key = _derived(salt, material, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _derived(salt, material, b"Content-Encoding: nonce\0", 12)
    head = salt + struct.pack(">IB", RECORD_BYTES, len(ours)) + ours
    return head + AESGCM(key).encrypt(nonce, plaintext + _LAST_RECORD, None)


def _derived(salt: bytes, material: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt, info).derive(material)


def _decoded(text: str, length: int) -> bytes:
    """Base64url, with or without padding. Raises BadKeys."""
    try:
        octets = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    if len(octets) != length:
        raise BadKeys(f"A key of a subscription is {length} bytes in base64url.")
    return octets
