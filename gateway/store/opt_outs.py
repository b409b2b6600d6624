"""Who does not want to be written to: by address, with who said so, when and why.

A hash a shard holds the scope of each address, which is what every message is held against, and
another one the rest, which is for people to read. Of a person who was erased the opt-out stays
under a keyed hash of the address. The key stands in the same hash as a field of its own, so that
one read tells whether there are such, and nothing more is asked where there are none.

Every call may raise RedisUnavailable.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

import msgspec

from gateway.core.policy import OptOut
from gateway.redis.client import Command, RedisClient
from gateway.store.keys import Keys, keys_of, shard_of
from gateway.store.transaction import values_in

MARK = "#"  # no address begins with it: the key's field, and the first character of a hash
_KEY_BYTES = 16

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


def hashed(address: str, key: bytes) -> str:
    return MARK + blake2b(address.encode(), key=key, digest_size=16).hexdigest()


async def of_the_erased(
    redis: RedisClient, marked: Mapping[int, tuple[bytes, Sequence[str]]]
) -> dict[str, OptOut]:
    """The opt-outs of addresses whose person was erased; by shard its key and the addresses."""
    commands: list[Command] = [
        ("HMGET", keys_of(shard).opt_outs, *(hashed(a, key) for a in addresses))
        for shard, (key, addresses) in marked.items()
        if addresses
    ]
    if not commands:
        return {}
    asked = [addresses for _, addresses in marked.values() if addresses]
    return {
        address: scope_of(value)
        for addresses, reply in zip(asked, await redis.call(commands), strict=True)
        for address, value in zip(addresses, values_in(reply), strict=True)
        if value is not None
    }


async def find(redis: RedisClient, shards: int, address: str) -> KeptOptOut | None:
    """The opt-out of an address, also of one whose person was erased."""
    keys = keys_of(shard_of(address, shards))
    fields = await _fields(redis, keys, address)
    replies = await redis.call(
        [("HMGET", keys.opt_outs, *fields), ("HMGET", keys.opt_out_origins, *fields)]
    )
    scopes, origins = map(values_in, replies)
    for scope, origin in zip(scopes, origins, strict=True):
        if scope is not None:
            return KeptOptOut(scope_of(scope), _origin(origin))
    return None


async def put(redis: RedisClient, shards: int, address: str, scope: OptOut, origin: Origin) -> None:
    """Sets an opt-out in the place of the one there is."""
    keys = keys_of(shard_of(address, shards))
    _, *erased = await _fields(redis, keys, address)
    commands: list[Command] = [
        ("HSET", keys.opt_outs, address, scope),
        ("HSET", keys.opt_out_origins, address, _encode(origin)),
    ]
    if erased:
        commands += _dropped(keys, erased)
    await _all_or_none(redis, commands)


async def drop(redis: RedisClient, shards: int, address: str) -> None:
    """Forgets the opt-out; that there is none is as well."""
    keys = keys_of(shard_of(address, shards))
    await _all_or_none(redis, _dropped(keys, await _fields(redis, keys, address)))


async def make_nameless(redis: RedisClient, shards: int, addresses: Iterable[str]) -> None:
    """The opt-outs of these addresses stay, under hashes of them, and without a reason."""
    for address in addresses:
        keys = keys_of(shard_of(address, shards))
        (value,) = await redis.call([("HGET", keys.opt_outs, address)])
        if value is None:
            continue
        kept = await find(redis, shards, address)
        origin = kept.origin if kept is not None else None
        await redis.call([("HSETNX", keys.opt_outs, MARK, secrets.token_bytes(_KEY_BYTES))])
        _, field = await _fields(redis, keys, address)
        commands: list[Command] = [("HSET", keys.opt_outs, field, value)]
        if origin is not None:
            without = msgspec.structs.replace(origin, why="")
            commands.append(("HSET", keys.opt_out_origins, field, _encode(without)))
        await _all_or_none(redis, [*commands, *_dropped(keys, [address])])


async def _fields(redis: RedisClient, keys: Keys, address: str) -> list[str]:
    """Where an opt-out of the address may stand: in plain, and hashed where there are such."""
    (key,) = await redis.call([("HGET", keys.opt_outs, MARK)])
    return [address] if key is None else [address, hashed(address, key)]


def _dropped(keys: Keys, fields: Sequence[str]) -> list[Command]:
    return [("HDEL", key, *fields) for key in (keys.opt_outs, keys.opt_out_origins)]


async def _all_or_none(redis: RedisClient, commands: Sequence[Command]) -> None:
    await redis.call([("MULTI",), *commands, ("EXEC",)])


def _origin(value: bytes | None) -> Origin | None:
    try:
        return None if value is None else _decode(value)
    except msgspec.DecodeError:
        return None
