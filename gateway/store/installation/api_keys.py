"""API keys of the apps: made once, shown once, kept as a hash.

They are fields of the hash `shared_keys.API_KEYS`: SHA-256 of the key in hex, with msgpack of
`ApiKey`. A key has 256 random bits, so a plain hash cannot be searched back. What is not in there,
or cannot be read, is no key: the answer is None. A scope that this version does not know is left
out. When a key was last used stands apart, in `shared_keys.KEY_USES`, and is minutes old at most.

Every call may raise RedisUnavailable.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Literal, NamedTuple, get_args

import msgspec

from gateway.redis.client import RedisClient
from gateway.redis.replies import as_list, pairs
from gateway.store import shared_keys
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed

Scope = Literal["send", "read", "report", "report-all", "manage", "operate"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

# The word that a record has for a scope, where it is another one. Records of version 1 say `report`
# for every app's money, and processes of that version still read it so: it stands for that.
_KEPT_AS: dict[Scope, str] = {"report": "report-own", "report-all": "report"}
_READ_AS: dict[str, Scope] = {_KEPT_AS.get(scope, scope): scope for scope in SCOPES}

PREFIX = "kk_"  # so that a leaked key is recognised for what it is
REVOKED_WITHIN_S = 5  # a key that is revoked opens nothing any more, and what it had open ends
_BYTES = 32
_SHOWN_CHARS = 8  # of a key of ours: 5 of its 43 random ones
_CHOSEN_SHOWN_CHARS = 4  # ... of one that somebody chose, if it is long
_CHOSEN_CHARS_MIN = 20
_ID_CHARS = 12  # of the hash: what names a key


class ApiKey(msgspec.Struct, frozen=True):
    """Who a key belongs to and what it may do. `created` and `expires` are epoch milliseconds;
    `prefix` is how the key begins, empty for one that was made before that was kept."""

    app: str
    words: tuple[str, ...] = msgspec.field(name="scopes")  # as `_READ_AS` has them
    created: int
    name: str = ""
    expires: int = 0  # 0: never
    prefix: str = ""

    @property
    def scopes(self) -> tuple[Scope, ...]:
        return tuple(_READ_AS[word] for word in self.words if word in _READ_AS)

    def is_over(self, now_ms: int) -> bool:
        return 0 < self.expires <= now_ms


class ListedKey(NamedTuple):
    """A key as an operator sees it. `used_ms` is None for one that was never used."""

    field: str  # of `shared_keys.API_KEYS`
    key: ApiKey
    used_ms: int | None

    @property
    def id(self) -> str:
        return self.field[:_ID_CHARS]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ApiKey).decode


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


def id_of(digest: bytes) -> str:
    """What names a key where the key itself must not stand."""
    return digest.hex()[:_ID_CHARS]


def shown(key: str) -> str:
    """As much of a key as lists and logs may show, so that its owner knows which one it is."""
    if key.startswith(PREFIX):
        return key[:_SHOWN_CHARS]
    return key[:_CHOSEN_SHOWN_CHARS] if len(key) >= _CHOSEN_CHARS_MIN else ""


async def create(
    redis: RedisClient,
    app: str,
    scopes: Iterable[Scope],
    now_ms: int,
    *,
    name: str = "",
    expires_ms: int = 0,
    by: str = "",
) -> str:
    """Makes a key and keeps its hash; the key itself is only returned."""
    key = new_key()
    words = tuple(_KEPT_AS.get(scope, scope) for scope in scopes)
    kept = ApiKey(app, words, now_ms, name, expires_ms, shown(key))
    digest = digest_of(key.encode())
    await redis.call(
        [
            ("HSET", shared_keys.API_KEYS, digest.hex(), _encode(kept)),
            audit.command(Deed(now_ms, by, "key.new", id_of(digest), _told(kept))),
        ]
    )
    return key


async def find(redis: RedisClient, digest: bytes) -> ApiKey | None:
    """The record of a key's digest."""
    (record,) = await redis.call([("HGET", shared_keys.API_KEYS, digest.hex())])
    return None if record is None else _read(record)


async def revoke(redis: RedisClient, listed: ListedKey, now_ms: int, by: str) -> None:
    """Ends a key; one that is not there any more stays so."""
    await redis.call(
        [
            ("HDEL", shared_keys.API_KEYS, listed.field),
            ("ZREM", shared_keys.KEY_USES, listed.field),
            audit.command(Deed(now_ms, by, "key.revoke", listed.id, _told(listed.key))),
        ]
    )


async def listed(redis: RedisClient) -> list[ListedKey]:
    """Every key that can be read, the newest first."""
    records, uses = await redis.call(
        [("HGETALL", shared_keys.API_KEYS), ("ZRANGE", shared_keys.KEY_USES, 0, -1, "WITHSCORES")]
    )
    used = {field: int(float(ms)) for field, ms in pairs(as_list(uses))}
    found = [
        ListedKey(field.decode(), key, used.get(field))
        for field, record in pairs(as_list(records))
        if (key := _read(record)) is not None
    ]
    return sorted(found, key=lambda each: each.key.created, reverse=True)


async def note_uses(redis: RedisClient, uses: Mapping[bytes, int]) -> None:
    """Keys were used at these moments, by their digests; an earlier moment than is known already,
    and a key that was revoked meanwhile, change nothing."""
    fields = [digest.hex() for digest in uses]
    (records,) = await redis.call([("HMGET", shared_keys.API_KEYS, *fields)])
    assert isinstance(records, list)
    noted: list[str | int] = []
    for field, ms, record in zip(fields, uses.values(), records, strict=True):
        if record is not None:
            noted += [ms, field]
    if noted:
        await redis.call([("ZADD", shared_keys.KEY_USES, "GT", *noted)])


async def unreadable(redis: RedisClient) -> list[str]:
    """The fields whose record cannot be read."""
    (reply,) = await redis.call([("HGETALL", shared_keys.API_KEYS)])
    fields = pairs(as_list(reply))
    return sorted(name.decode(errors="replace") for name, value in fields if _read(value) is None)


def _read(record: bytes) -> ApiKey | None:
    try:
        return _decode(record)
    except msgspec.DecodeError:
        return None


def _told(key: ApiKey) -> str:
    """What the audit says of a key."""
    name = f" ({key.name})" if key.name else ""
    return f"{key.app}{name}: {', '.join(key.scopes)}"
