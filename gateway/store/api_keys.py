"""API keys of the apps: made once, shown once, kept as a hash.

They are fields of the hash `keys.API_KEYS`: SHA-256 of the key in hex, with msgpack of `ApiKey`. A
key has 256 random bits, so a plain hash cannot be searched back. What is not in there, or cannot be
read, is no key: the answer is None. A scope that this version does not know is left out.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import Literal, get_args

import msgspec

from gateway.redis.client import RedisClient
from gateway.store import keys

Scope = Literal["send", "read", "report", "report-all", "manage", "operate"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

# The word that a record has for a scope, where it is another one. Records of version 1 say `report`
# for every app's money, and processes of that version still read it so: it stands for that.
_KEPT_AS: dict[Scope, str] = {"report": "report-own", "report-all": "report"}
_READ_AS: dict[str, Scope] = {_KEPT_AS.get(scope, scope): scope for scope in SCOPES}

PREFIX = "kk_"  # so that a leaked key is recognised for what it is
_BYTES = 32


class ApiKey(msgspec.Struct, frozen=True):
    """Who a key belongs to and what it may do; `created` is in epoch milliseconds."""

    app: str
    scopes: tuple[Scope, ...]
    created: int


class _Kept(msgspec.Struct, frozen=True):
    """An `ApiKey` as Redis has it."""

    app: str
    scopes: tuple[str, ...]
    created: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode


def granted(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """All that a key with these scopes may do: who sees every app's money sees its own too."""
    held = frozenset(scopes)
    return held | {"report"} if "report-all" in held else held


def new_key() -> str:
    """A key nobody has, in characters that survive shells, headers and URLs."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def digest_of(key: bytes) -> bytes:
    """The 32 bytes under which a key is known."""
    return sha256(key).digest()


async def create(redis: RedisClient, app: str, scopes: Iterable[Scope], now_ms: int) -> str:
    """Makes a key and keeps its hash; the key itself is only returned. Raises RedisUnavailable."""
    key = new_key()
    record = _encode(_Kept(app, tuple(_KEPT_AS.get(scope, scope) for scope in scopes), now_ms))
    await redis.call([("HSET", keys.API_KEYS, digest_of(key.encode()).hex(), record)])
    return key


async def find(redis: RedisClient, digest: bytes) -> ApiKey | None:
    """The record of a key's digest. Raises RedisUnavailable."""
    (record,) = await redis.call([("HGET", keys.API_KEYS, digest.hex())])
    return None if record is None else _read(record)


async def unreadable(redis: RedisClient) -> list[str]:
    """The fields whose record cannot be read. Raises RedisUnavailable."""
    (reply,) = await redis.call([("HGETALL", keys.API_KEYS)])
    assert isinstance(reply, list)
    fields = zip(reply[::2], reply[1::2], strict=True)
    return sorted(name.decode(errors="replace") for name, value in fields if _read(value) is None)


def _read(record: bytes) -> ApiKey | None:
    try:
        kept = _decode(record)
    except msgspec.DecodeError:
        return None
    scopes = tuple(_READ_AS[word] for word in kept.scopes if word in _READ_AS)
    return ApiKey(kept.app, scopes, kept.created)
