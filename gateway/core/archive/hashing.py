"""Addresses as the archive has them: hashes with a key, so that one person's rows can be found by
who has the key, and nobody else can try all phone numbers. Pure.

The key is never kept; a mark of it is, with the archive, so that another key is noticed before it
would split one person into two.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from gateway.core.addresses import Addresses

HASH_CHARS = 32  # 128 bits
SHORT_CHARS = 16  # enough to find somebody by, since nobody but the keeper of the key can choose


def hash_of(key: bytes, identity: str) -> str:
    """An address, as the identity that it is (such as p:79161234567), hashed."""
    return hmac.digest(key, identity.encode(), hashlib.sha256).hex()[:HASH_CHARS]


def hashes_of(key: bytes, addresses: Addresses) -> tuple[str | None, str | None]:
    """Of phone and mail address, None where there is none."""
    found = {identity[:2]: hash_of(key, identity) for identity in addresses.identities(None)}
    return found.get("p:"), found.get("e:")


def short_hashes_of(key: bytes, identities: Iterable[str]) -> dict[str, str]:
    """Of identities, by the kind with which each begins, such as "p:"."""
    return {identity[:2]: hash_of(key, identity)[:SHORT_CHARS] for identity in identities}


def mark_of(key: bytes) -> str:
    """By which the same key is known again."""
    return hash_of(key, "key of an archive")
