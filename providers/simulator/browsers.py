"""Browsers that can be subscribed: each has its keys by its name, so that what was encrypted for it
can be read without keeping anything."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from providers.contract import Subscription, SubscriptionKeys, WebPushAddress

HEAD: Final = struct.Struct(">16sIB65s")
PATH: Final = "/push/"
HOST: Final = "push.kaskad.example"  # nobody's: the provider's `base_url` leads to the simulator


def subscribed(name: str) -> WebPushAddress:
    """The subscription of a browser of that name."""
    keys = SubscriptionKeys(_text(_point(_private(name))), _text(_secret(name)))
    return WebPushAddress(Subscription(f"https://{HOST}{PATH}{name}", keys))


def decrypted(name: str, body: bytes) -> bytes:
    """What a message to a browser says (RFC 8291). Raises ValueError where it is not for it."""
    if len(body) < HEAD.size:
        raise ValueError("The body has no head.")
    salt, _, length, theirs = HEAD.unpack_from(body)
    if length != len(theirs):
        raise ValueError("The head names no key.")
    private = _private(name)
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), theirs)
    shared = private.exchange(ec.ECDH(), public)
    info = b"WebPush: info\0" + _point(private) + theirs
    material = HKDF(SHA256(), 32, _secret(name), info).derive(shared)
    key = HKDF(SHA256(), 16, salt, b"Content-Encoding: aes128gcm\0").derive(material)
    nonce = HKDF(SHA256(), 12, salt, b"Content-Encoding: nonce\0").derive(material)
    try:
        record = AESGCM(key).decrypt(nonce, body[HEAD.size :], None)
    except InvalidTag:
        raise ValueError("It was encrypted for another browser.") from None
    return record.rstrip(b"\0")[:-1]


def _private(name: str) -> ec.EllipticCurvePrivateKey:
    digest = hashlib.sha256(b"kaskad simulator browser " + name.encode()).digest()
    return ec.derive_private_key(int.from_bytes(digest) >> 1 | 1, ec.SECP256R1())


def _secret(name: str) -> bytes:
    return hashlib.sha256(b"kaskad simulator secret " + name.encode()).digest()[:16]


def _point(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
