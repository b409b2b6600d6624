"""Stored users: whose an address is, what is kept of a user, and how an address changes hands.

A user's record lies in the shard of the user's id, who an address belongs to in the shard of the
address. Each changes alone, so an address is taken in steps: it is noted as the new user's, the
record is written, the former user loses the address, and who lost one meanwhile loses it again;
whose it is in the end keeps it. The identities of a user are joined to one person
(`gateway.store.identities`), and an address that is not the user's any more is separated from it. A
call that was interrupted is repeated by its caller; a batch is decided in order.

Whether any user was ever stored is noted with the installation, before the first: while none was,
nobody looks for one. Raises RedisUnavailable and ConflictError, and for a record that cannot be
read NewerRecordError and UnreadableRecordError.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from gateway.core.addresses import Addresses
from gateway.core.records.codec import UnreadableRecordError
from gateway.core.records.user import StoredUser, user_codec
from gateway.redis.client import Command, RedisClient, Session
from gateway.store import randomness
from gateway.store.base import StoreBase
from gateway.store.identities import link, separate
from gateway.store.keys import META, Keys, keys_of, shard_of, shard_of_identity
from gateway.store.totals import pairs
from gateway.store.transaction import commit, values_in
from providers.contract import Device

_ANY_FIELD = "users"  # of META

Users = Mapping[str, StoredUser]


class Change(msgspec.Struct, frozen=True):
    """What is to be kept of a user (as `person_id` gives it) from now on: `after` makes it of what
    is kept. `addresses` are those that it takes. `scope` is the app whose numbering it is, or
    empty."""

    user: str
    scope: str
    addresses: Addresses
    after: Callable[[StoredUser | None], StoredUser]


class _Held(NamedTuple):
    """An address, as an identity, and the user that has it in an app's numbering."""

    identity: str
    scope: str
    user: str


async def any_stored(redis: RedisClient) -> bool:
    """Whether there was ever a stored user."""
    (noted,) = await redis.call([("HEXISTS", META, _ANY_FIELD)])
    return bool(noted)


async def read(store: StoreBase, users: Iterable[str]) -> dict[str, StoredUser]:
    """Those of the users that are stored."""
    by_shard: defaultdict[int, list[str]] = defaultdict(list)
    for user in dict.fromkeys(users):
        by_shard[shard_of(user, store.shards)].append(user)
    if not by_shard:
        return {}
    commands: list[Command] = [
        ("MGET", *(keys_of(shard).user(user) for user in members))
        for shard, members in by_shard.items()
    ]
    found = {}
    for members, reply in zip(by_shard.values(), await store.redis.call(commands), strict=True):
        for user, value in zip(members, values_in(reply), strict=True):
            if value is not None:
                found[user] = _unpacked(store, user, value)
    return found


async def owners(store: StoreBase, identities: Sequence[str]) -> dict[str, dict[str, str]]:
    """By address (as an identity) whose it is in each app's numbering, "" for a common one."""
    if not identities:
        return {}
    commands: list[Command] = [("HGETALL", _owners_key(store, i)) for i in identities]
    replies = await store.redis.call(commands)
    return {
        identity: {app.decode(): user.decode() for app, user in pairs(reply)}
        for identity, reply in zip(identities, replies, strict=True)
        if reply
    }


async def change(store: StoreBase, changes: Sequence[Change], now_ms: int) -> list[StoredUser]:
    """Stores users, in order; what each change left is returned, durable."""
    await store.redis.call([("HSET", META, _ANY_FIELD, 1)])
    lost = await _take(store, changes)
    written, before = await _write(store, changes)
    after = {each.user: left for each, left in zip(changes, written, strict=True)}
    scopes = {each.user: each.scope for each in changes}
    given_up = (set(_taken(changes)) | _held(before, scopes)) - _held(after, scopes)
    for each in sorted(given_up):
        await _disown(store, each)
    lost |= await _lost_meanwhile(store, _held(after, scopes))
    for each in sorted(lost):
        await _lose(store, each)
    lost -= await _owned(store, lost)
    for each in sorted(given_up | lost):
        await separate(store, each.identity, f"u:{each.user}", now_ms)
    groups = [
        [i for i in left.addresses.identities(user) if _Held(i, scopes[user], user) not in lost]
        for user, left in after.items()
    ]
    await link(store, [group for group in groups if len(group) > 1], now_ms)
    return written


async def drop_device(store: StoreBase, user: str, device: Device) -> None:
    """A device or browser that its provider calls gone is not the user's any more."""

    async def without(kept: StoredUser) -> StoredUser:
        return replace(kept, addresses=kept.addresses.without_device(device))

    await _rewrite(store, user, without)


async def forget(store: StoreBase, user: str, app: str | None = None) -> bool:
    """Drops what is kept of a user; with `app` only where that app stored it last. Returns whether
    there was anything to drop."""
    keys = keys_of(shard_of(user, store.shards))
    key, token = keys.user(user), keys.token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], StoredUser | None]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        kept = None if value is None else _unpacked(store, user, value)
        if kept is None or app not in (None, kept.app):
            return [], None
        return [("DEL", key)], kept

    dropped = await commit(store.redis, token, attempt, store.counts)
    if dropped is not None:
        for identity in dropped.addresses.identities(None):
            await disown(store, identity, {user})
    return dropped is not None


async def disown(
    store: StoreBase, identity: str, users: Collection[str], app: str | None = None
) -> None:
    """An address is none of these users' any more, also where nothing was written of one that took
    it; with `app` in that app's numbering alone."""
    for scope, owner in (await owners(store, [identity])).get(identity, {}).items():
        if owner in users and app in (None, scope):
            await _disown(store, _Held(identity, scope, owner))


def _taken(changes: Iterable[Change]) -> list[_Held]:
    return [_Held(i, c.scope, c.user) for c in changes for i in c.addresses.identities(None)]


def _held(users: Users, scopes: Mapping[str, str]) -> set[_Held]:
    return {
        _Held(i, scopes[user], user)
        for user, kept in users.items()
        for i in kept.addresses.identities(None)
    }


async def _take(store: StoreBase, changes: Sequence[Change]) -> set[_Held]:
    """Notes addresses as the users' own; returns who had them before."""
    taken = _taken(changes)
    commands: list[Command] = []
    for identity, scope, user in taken:
        key = _owners_key(store, identity)
        commands += [("MULTI",), ("HGET", key, scope), ("HSET", key, scope, user), ("EXEC",)]
    replies = await store.redis.call(commands) if commands else []
    return {
        _Held(each.identity, each.scope, had.decode())
        for each, (had, _) in zip(taken, replies[3::4], strict=True)
        if had is not None and had.decode() != each.user
    }


async def _write(
    store: StoreBase, changes: Sequence[Change]
) -> tuple[list[StoredUser], dict[str, StoredUser]]:
    """What each change left, and what was kept of the users before."""
    by_shard: defaultdict[int, list[int]] = defaultdict(list)
    for index, each in enumerate(changes):
        by_shard[shard_of(each.user, store.shards)].append(index)
    written: dict[int, StoredUser] = {}
    before: dict[str, StoredUser] = {}
    for shard, indexes in by_shard.items():
        left, was = await _write_shard(store, keys_of(shard), [changes[i] for i in indexes])
        written |= zip(indexes, left, strict=True)
        before |= was
    return [written[index] for index in range(len(changes))], before


async def _write_shard(
    store: StoreBase, keys: Keys, changes: Sequence[Change]
) -> tuple[list[StoredUser], dict[str, StoredUser]]:
    token = keys.token(randomness.token())
    users = list(dict.fromkeys(each.user for each in changes))
    names = [keys.user(user) for user in users]

    async def attempt(
        session: Session,
    ) -> tuple[list[Command], tuple[list[StoredUser], dict[str, StoredUser]]]:
        _, reply = await session.call([("WATCH", token, *names), ("MGET", *names)])
        before = {
            user: _unpacked(store, user, value)
            for user, value in zip(users, values_in(reply), strict=True)
            if value is not None
        }
        now = dict(before)
        left = []
        for each in changes:
            now[each.user] = each.after(now.get(each.user))
            left.append(now[each.user])
        writes = (part for u in users for part in (keys.user(u), user_codec.encode(now[u])))
        return [("MSET", *writes)], (left, before)

    return await commit(store.redis, token, attempt, store.counts)


async def _lost_meanwhile(store: StoreBase, held: set[_Held]) -> set[_Held]:
    """What somebody else took while it was written down here."""
    found = await owners(store, sorted({each.identity for each in held}))
    return {e for e in held if found.get(e.identity, {}).get(e.scope, e.user) != e.user}


async def _owned(store: StoreBase, held: set[_Held]) -> set[_Held]:
    """Those of which the user is the owner now."""
    found = await owners(store, sorted({each.identity for each in held}))
    return {e for e in held if found.get(e.identity, {}).get(e.scope) == e.user}


async def _lose(store: StoreBase, lost: _Held) -> None:
    """Takes an address from what is kept of a user, unless the user took it again. The record is
    watched by then: who takes it later writes the record later."""

    async def without(kept: StoredUser) -> StoredUser:
        if await _owned(store, {lost}):
            return kept
        return replace(kept, addresses=kept.addresses.without(lost.identity))

    await _rewrite(store, lost.user, without)


async def _rewrite(
    store: StoreBase, user: str, changed: Callable[[StoredUser], Awaitable[StoredUser]]
) -> None:
    """Changes what is kept of a user, where anything is."""
    keys = keys_of(shard_of(user, store.shards))
    key, token = keys.user(user), keys.token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], None]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        if value is None:
            return [], None
        kept = _unpacked(store, user, value)
        after = await changed(kept)
        return ([("SET", key, user_codec.encode(after))] if after != kept else []), None

    await commit(store.redis, token, attempt, store.counts)


async def _disown(store: StoreBase, held: _Held) -> None:
    """An address that was a user's is nobody's, unless somebody took it meanwhile."""
    keys = keys_of(shard_of_identity(held.identity, store.shards))
    key, token = keys.owners(held.identity), keys.token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], None]:
        _, value = await session.call([("WATCH", token, key), ("HGET", key, held.scope)])
        return ([("HDEL", key, held.scope)] if value == held.user.encode() else []), None

    await commit(store.redis, token, attempt, store.counts)


def _owners_key(store: StoreBase, identity: str) -> str:
    return keys_of(shard_of_identity(identity, store.shards)).owners(identity)


def _unpacked(store: StoreBase, user: str, value: bytes) -> StoredUser:
    try:
        return user_codec.decode(value)
    except UnreadableRecordError as error:
        raise error.at(keys_of(shard_of(user, store.shards)).user(user)) from None
