"""Who does not want to be written to: by address, with who said so, when and why.

A hash a shard holds the scopes of each address, which is what every message is held against: that
of every channel, then each single one's behind its name, as "marketing <channel>=all". Another one
holds the rest, which is for people to read. Of a person who was erased the opt-outs stay under a
keyed hash of the address, in the shard of that hash. A mark in the address's own shard, the key
itself, tells that there are such: it is read with the addresses, and nothing more is asked where it
is not.

A Kaskad from before there were channels takes an address with one of its own for one that opted out
of everything. Every call may raise RedisUnavailable.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from gateway.core.people import opt_outs as rules
from gateway.core.people.opt_outs import (
    EVERY_CHANNEL,
    PERSON,
    KeptOptOut,
    KeptOptOuts,
    OptOut,
    OptOuts,
    Origin,
)
from gateway.redis.client import Command, RedisClient, RedisReply, Session
from gateway.store import randomness
from gateway.store.keys import Keys, keys_of, shard_of
from gateway.store.shared_keys import META
from gateway.store.transaction import TOKEN_MS, CommitCounts, commit

_HASHED = "#"  # no address begins with it
_KEY_BYTES = 16
_META_FIELD = "opt_out_key"

_SCOPES: dict[str, OptOut] = {"marketing": "marketing", "all": "all"}


class _Origins(Origin, frozen=True, omit_defaults=True):
    """That of the opt-out of every channel, where there is one, and those of single channels."""

    channels: Mapping[str, Origin] = msgspec.field(default_factory=dict)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Origins).decode


def scopes_in(value: bytes) -> OptOuts:
    """What stands under an address; a scope that cannot be read counts as the widest."""
    found: dict[str, OptOut] = {}
    for word in value.decode(errors="replace").split(" "):
        channel, _, scope = word.rpartition("=")
        found[channel] = _SCOPES.get(scope, "all")
    return found


class _Place(NamedTuple):
    """Where the opt-outs of an address stand: in which shard, under which field."""

    keys: Keys
    field: str

    @property
    def changed(self) -> str:
        """Set for a moment by each change, so that two of one address cannot both go through."""
        return self.keys.token(f"o{zlib.crc32(self.field.encode()):08x}")

    def read(self) -> list[Command]:
        keys = (self.keys.opt_outs, self.keys.opt_out_origins)
        return [("HGET", key, self.field) for key in keys]

    def write(self, kept: KeptOptOuts) -> list[Command]:
        """Puts these in the place of what stands there."""
        scopes, origins = self.keys.opt_outs, self.keys.opt_out_origins
        known = {channel: one.origin for channel, one in kept.items() if one.origin is not None}
        own = known.pop(EVERY_CHANNEL, None)
        commands: list[Command] = [("SET", self.changed, 1, "PX", TOKEN_MS)]
        if not kept:
            return [*commands, ("HDEL", scopes, self.field), ("HDEL", origins, self.field)]
        commands.append(("HSET", scopes, self.field, _written(kept)))
        if own is None and not known:
            return [*commands, ("HDEL", origins, self.field)]
        own = own or Origin()
        record = _encode(_Origins(own.app, own.at_ms, own.why, known))
        return [*commands, ("HSET", origins, self.field, record)]


class _Change(NamedTuple):
    """What stood, what stands, and the key of those that are hashed, where there are such."""

    there: KeptOptOuts
    kept: KeptOptOuts
    key: RedisReply


def _written(kept: KeptOptOuts) -> str:
    words = [f"{channel}={one.scope}".removeprefix("=") for channel, one in kept.items()]
    return " ".join(sorted(words, key=lambda word: "=" in word))


def _plain(shards: int, address: str) -> _Place:
    return _Place(keys_of(shard_of(address, shards)), address)


def _nameless(shards: int, address: str, key: bytes) -> _Place:
    field = _HASHED + blake2b(address.encode(), key=key, digest_size=16).hexdigest()
    return _Place(keys_of(shard_of(field, shards)), field)


async def of_the_erased(
    redis: RedisClient, shards: int, addresses: Sequence[str], key: bytes
) -> dict[str, OptOuts]:
    """The opt-outs of addresses whose person was erased; `key` is what the mark says."""
    places = [_nameless(shards, address, key) for address in addresses]
    if not places:
        return {}
    replies = await redis.call([("HGET", each.keys.opt_outs, each.field) for each in places])
    found = zip(addresses, replies, strict=True)
    return {address: scopes_in(value) for address, value in found if isinstance(value, bytes)}


async def find(redis: RedisClient, shards: int, address: str) -> KeptOptOuts:
    """The opt-outs of an address by channel, also of one whose person was erased."""
    plain = _plain(shards, address)
    *values, key = await redis.call([*plain.read(), ("GET", plain.keys.opt_outs_mark)])
    return await _kept_or_hashed(redis, shards, address, values, key)


async def put(
    redis: RedisClient,
    shards: int,
    address: str,
    scope: OptOut,
    origin: Origin,
    channel: str = EVERY_CHANNEL,
    *,
    manages: bool = False,
) -> KeptOptOuts:
    """Somebody opts out: the person itself (STOP, an unsubscribe), or an app for it. Returns what
    is kept. Raises NotTheirsError."""
    _, kept = await _change(
        redis,
        shards,
        address,
        lambda there: rules.opted_out(there, channel, scope, origin, manages=manages),
    )
    return kept


async def drop(
    redis: RedisClient,
    shards: int,
    address: str,
    channel: str | None = None,
    *,
    app: str = PERSON,
    manages: bool = False,
    until_ms: int | None = None,
) -> KeptOptOuts:
    """Takes back the opt-out of a channel, or all of the address's; those set after `until_ms`
    stay. That there is none is as well. Returns what was taken back. Raises NotTheirsError."""
    there, kept = await _change(
        redis,
        shards,
        address,
        lambda there: rules.taken_back(there, channel, app, manages=manages, until_ms=until_ms),
    )
    return {name: one for name, one in there.items() if name not in kept}


async def _change(
    redis: RedisClient,
    shards: int,
    address: str,
    decide: Callable[[KeptOptOuts], KeptOptOuts],
) -> tuple[KeptOptOuts, KeptOptOuts]:
    """Decides from what there is, and keeps that; returns both."""
    plain = _plain(shards, address)
    token = plain.keys.token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], _Change]:
        # To Redis 6.2 a watched key has changed when its time is over and it still lies there,
        # however often it is asked: the mark is read first, which takes it away (2026-11-29).
        _, _, *values, key = await session.call(
            [
                ("EXISTS", plain.changed),
                ("WATCH", token, plain.changed),
                *plain.read(),
                ("GET", plain.keys.opt_outs_mark),
            ]
        )
        there = await _kept_or_hashed(redis, shards, address, values, key)
        kept = decide(there)
        return plain.write(kept) if kept != there else [], _Change(there, kept, key)

    there, kept, key = await commit(redis, token, attempt, CommitCounts())
    if kept != there and isinstance(key, bytes):
        await _all_or_none(redis, _nameless(shards, address, key).write({}))
    return there, kept


async def make_nameless(redis: RedisClient, shards: int, addresses: Iterable[str]) -> None:
    """The opt-outs of these addresses stay, under hashes of them, and without a reason."""
    for address in addresses:
        plain = _plain(shards, address)
        kept = _kept(await redis.call(plain.read()))
        if not kept:
            continue
        new = secrets.token_bytes(_KEY_BYTES)
        _, key = await redis.call([("HSETNX", META, _META_FIELD, new), ("HGET", META, _META_FIELD)])
        assert isinstance(key, bytes)
        hashed = _nameless(shards, address, key)
        await _all_or_none(redis, hashed.write({c: _unreasoned(one) for c, one in kept.items()}))
        await _all_or_none(redis, [("SET", plain.keys.opt_outs_mark, key), *plain.write({})])


def _unreasoned(kept: KeptOptOut) -> KeptOptOut:
    origin = kept.origin
    return KeptOptOut(kept.scope, origin and msgspec.structs.replace(origin, why=""))


async def _all_or_none(redis: RedisClient, commands: Sequence[Command]) -> None:
    await redis.call([("MULTI",), *commands, ("EXEC",)])


async def _kept_or_hashed(
    redis: RedisClient, shards: int, address: str, values: Sequence[RedisReply], key: RedisReply
) -> KeptOptOuts:
    """What was read in the address's place, else what stands under its hash where there are
    such."""
    kept = _kept(values)
    if not kept and isinstance(key, bytes):
        kept = _kept(await redis.call(_nameless(shards, address, key).read()))
    return kept


def _kept(values: Sequence[RedisReply]) -> KeptOptOuts:
    """What a place says."""
    scopes, origins = values
    if not isinstance(scopes, bytes):
        return {}
    record = _origins_in(origins)
    return {
        channel: KeptOptOut(scope, _origin_of(record, channel))
        for channel, scope in scopes_in(scopes).items()
    }


def _origins_in(value: RedisReply) -> _Origins | None:
    try:
        return _decode(value) if isinstance(value, bytes) else None
    except msgspec.DecodeError:
        return None


def _origin_of(record: _Origins | None, channel: str) -> Origin | None:
    if record is None:
        return None
    if channel != EVERY_CHANNEL:
        return record.channels.get(channel)
    own = Origin(record.app, record.at_ms, record.why)
    # Beside single channels it may be from before origins were kept.
    return None if record.channels and own == Origin() else own
