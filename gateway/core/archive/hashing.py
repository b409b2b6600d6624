"""Addresses as the archive has them: hashes with a key, so that one person's rows can be found by
who has the key, and nobody else can try all phone numbers. Pure.

The key is never kept; a mark of it is, with the archive, so that another key is noticed before it
would split one person into two.
"""

from __future__ import annotations

import hashlib
import hmac

from gateway.core.addresses import Addresses

KEY_CHARS_MIN = 20  # as of an app's key: more than 100 bits
HASH_CHARS = 32  # 128 bits


def hash_of(key: bytes, kind: str, address: str) -> str:
    """An address in its one spelling (a phone is E.164 digits without the plus), hashed."""
    return hmac.digest(key, f"{kind}:{address}".encode(), hashlib.sha256).hex()[:HASH_CHARS]


def hashes_of(key: bytes, addresses: Addresses) -> tuple[str | None, str | None]:
    """Of phone and e-mail address, None where there is none."""
    phone, email = addresses.phone, addresses.email
    return (
        None if phone is None else hash_of(key, "phone", phone),
        None if email is None else hash_of(key, "email", email),
    )


def mark_of(key: bytes) -> str:
    """By which the same key is known again."""
    return hash_of(key, "key", "kaskad archive")
