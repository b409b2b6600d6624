"""Who does not want to be written to: by address, with who said so, when and why.

A hash a shard holds the scope of each address, which is what every message is held against, and
another one the rest, which is for people to read. Of a person who was erased the opt-out stays
under a keyed hash of the address, in the shard of that hash. A mark in the address's own shard, the
key itself, tells that there are such: it is read with the addresses, and nothing more is asked
where it is not.

Every call may raise RedisUnavailable.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from gateway.core.policy import OptOut
from gateway.redis.client import Command, RedisClient
from gateway.store.keys import META, Keys, keys_of, shard_of

_HASHED = "#"  # no address begins with it
_KEY_BYTES = 16
_META_FIELD = "opt_out_key"

_SCOPES: dict[bytes, OptOut] = {b"marketing": "marketing", b"all": "all"}


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whence an opt-out is: the app that set it, or the person itself where there is none."""

    app: str = ""
    at_ms: int = 0
    why: str = ""


class KeptOptOut(msgspec.Struct, frozen=True):
    """`origin` None: it was set before that was kept, or it cannot be read."""

    scope: OptOut
    origin: Origin | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Origin).decode


def scope_of(value: bytes) -> OptOut:
    """The scope of an opt-out; one that cannot be read counts as the widest."""
    return _SCOPES.get(value, "all")


class _Place(NamedTuple):
    """Where an opt-out stands: in which shard, under which field."""

    keys: Keys
    field: str

    def drop(self) -> list[Command]:
        return [
            ("HDEL", key, self.field) for key in (self.keys.opt_outs, self.keys.opt_out_origins)
        ]

    def put(self, scope: OptOut | bytes, origin: Origin | None) -> list[Command]:
        commands: list[Command] = [("HSET", self.keys.opt_outs, self.field, scope)]
        if origin is not None:
            commands.append(("HSET", self.keys.opt_out_origins, self.field, _encode(origin)))
        return commands


def _plain(shards: int, address: str) -> _Place:
    return _Place(keys_of(shard_of(address, shards)), address)


def _nameless(shards: int, address: str, key: bytes) -> _Place:
    field = _HASHED + blake2b(address.encode(), key=key, digest_size=16).hexdigest()
    return _Place(keys_of(shard_of(field, shards)), field)


async def of_the_erased(
    redis: RedisClient, shards: int, addresses: Sequence[str], key: bytes
) -> dict[str, OptOut]:
    """The opt-outs of addresses whose person was erased; `key` is what the mark says."""
    places = [_nameless(shards, address, key) for address in addresses]
    if not places:
        return {}
    replies = await redis.call([("HGET", each.keys.opt_outs, each.field) for each in places])
    found = zip(addresses, replies, strict=True)
    return {address: scope_of(value) for address, value in found if value is not None}


async def find(redis: RedisClient, shards: int, address: str) -> KeptOptOut | None:
    """The opt-out of an address, also of one whose person was erased."""
    for place in await _places(redis, shards, address):
        scope, origin = await redis.call(
            [
                ("HGET", place.keys.opt_outs, place.field),
                ("HGET", place.keys.opt_out_origins, place.field),
            ]
        )
        if scope is not None:
            return KeptOptOut(scope_of(scope), _origin(origin))
    return None


async def put(redis: RedisClient, shards: int, address: str, scope: OptOut, origin: Origin) -> None:
    """Sets an opt-out in the place of the one there is."""
    plain, *others = await _places(redis, shards, address)
    await _all_or_none(redis, plain.put(scope, origin))
    for other in others:
        await _all_or_none(redis, other.drop())


async def drop(redis: RedisClient, shards: int, address: str) -> None:
    """Forgets the opt-out; that there is none is as well."""
    for place in await _places(redis, shards, address):
        await _all_or_none(redis, place.drop())


async def make_nameless(redis: RedisClient, shards: int, addresses: Iterable[str]) -> None:
    """The opt-outs of these addresses stay, under hashes of them, and without a reason."""
    for address in addresses:
        plain = _plain(shards, address)
        scope, origin = await redis.call(
            [
                ("HGET", plain.keys.opt_outs, address),
                ("HGET", plain.keys.opt_out_origins, address),
            ]
        )
        if scope is None:
            continue
        new = secrets.token_bytes(_KEY_BYTES)
        _, key = await redis.call([("HSETNX", META, _META_FIELD, new), ("HGET", META, _META_FIELD)])
        kept = _origin(origin)
        without = None if kept is None else msgspec.structs.replace(kept, why="")
        await _all_or_none(redis, _nameless(shards, address, key).put(scope, without))
        await _all_or_none(redis, [("SET", plain.keys.opt_outs_mark, key), *plain.drop()])


async def _places(redis: RedisClient, shards: int, address: str) -> list[_Place]:
    """Where an opt-out of the address may stand: in plain, and hashed where there are such."""
    plain = _plain(shards, address)
    (key,) = await redis.call([("GET", plain.keys.opt_outs_mark)])
    return [plain] if key is None else [plain, _nameless(shards, address, key)]


async def _all_or_none(redis: RedisClient, commands: Sequence[Command]) -> None:
    await redis.call([("MULTI",), *commands, ("EXEC",)])


def _origin(value: bytes | None) -> Origin | None:
    try:
        return None if value is None else _decode(value)
    except msgspec.DecodeError:
        return None
