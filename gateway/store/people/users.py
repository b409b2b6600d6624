"""Stored users: whose an address is, what is kept of a user, and how an address changes hands.

A user's record lies in the shard of the user's id, who an address belongs to in the shard of the
address (`gateway.store.people.address_owners`). Each changes alone, so an address is taken in
steps: the former user loses it, it is noted as the new user's, the record is written, and who lost
one meanwhile loses it again; whose it is in the end keeps it. The identities of a user are joined
to one person (`gateway.store.people.identities`), and an address that is not the user's any more is
separated from it. A call that was interrupted is repeated by its caller; a batch is decided in
order, and what it does in a shard is one transaction a step. Of a user who is stored anew as before
nothing is written.

Whether any user was ever stored is noted with the installation, before the first: while none was,
nobody looks for one. Raises RedisUnavailable and ConflictError, and for a record that cannot be
read NewerRecordError and UnreadableRecordError.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from gateway.core.addresses import Addresses
from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.user import StoredUser, user_codec
from gateway.redis.client import Command, RedisClient, Session
from gateway.store import randomness
from gateway.store.base import StoreBase
from gateway.store.keys import keys_of, shard_of
from gateway.store.people import address_owners
from gateway.store.people.address_owners import OwnedAddress
from gateway.store.people.identities import link, separate
from gateway.store.shared_keys import META
from gateway.store.transaction import commit, values_in
from providers.contract import Device

_ANY_FIELD = "users"  # of META

Users = Mapping[str, StoredUser]
T = TypeVar("T")


class UserChange(msgspec.Struct, frozen=True):
    """What is to be kept of a user (as `person_id` gives it) from now on: `after` makes it of what
    is kept. `addresses` are those that it takes. `scope` is the app whose numbering it is, or
    empty."""

    user: str
    scope: str
    addresses: Addresses
    after: Callable[[StoredUser | None], StoredUser]


async def any_stored(redis: RedisClient) -> bool:
    """Whether there was ever a stored user."""
    (noted,) = await redis.call([("HEXISTS", META, _ANY_FIELD)])
    return bool(noted)


async def read(store: StoreBase, users: Iterable[str]) -> dict[str, StoredUser]:
    """Those of the users that are stored. Raises NewerRecordError and UnreadableRecordError."""
    return {user: _unpacked(store, user, value) for user, value in await _values(store, users)}


async def readable(store: StoreBase, users: Iterable[str]) -> dict[str, StoredUser]:
    """Those of the users that are stored and can be read."""
    found = {}
    for user, value in await _values(store, users):
        with suppress(NewerRecordError, UnreadableRecordError):
            found[user] = _unpacked(store, user, value)
    return found


async def _values(store: StoreBase, users: Iterable[str]) -> list[tuple[str, bytes]]:
    """The records of those that are stored."""
    by_shard = _by_shard(store, users)
    if not by_shard:
        return []
    commands: list[Command] = [
        ("MGET", *(keys_of(shard).user(user) for user in members))
        for shard, members in by_shard.items()
    ]
    return [
        (user, value)
        for members, reply in zip(by_shard.values(), await store.redis.call(commands), strict=True)
        for user, value in zip(members, values_in(reply), strict=True)
        if value is not None
    ]


async def change(store: StoreBase, changes: Sequence[UserChange], now_ms: int) -> list[StoredUser]:
    """Stores users, in order; what each change left is returned, durable."""
    await store.redis.call([("HSETNX", META, _ANY_FIELD, 1)])
    store.any_users = True
    taken = _taken(changes)
    owned = await address_owners.read(store, [each.identity for each in taken])
    await _release(store, changes, owned, now_ms)
    takers, lost = await address_owners.take(store, taken, owned)
    written, before = await _write(store, changes, takers)
    after = {each.user: left for each, left in zip(changes, written, strict=True)}
    scopes = {each.user: each.scope for each in changes}
    given_up = (set(taken) | _held(before, scopes)) - _held(after, scopes)
    lost |= await address_owners.taken_by_others(store, _held(after, scopes))
    await _lose(store, lost)
    lost -= await address_owners.owned(store, lost)
    parted = sorted(given_up | lost)
    await separate(store, [(each.identity, f"u:{each.user}") for each in parted], now_ms)
    await address_owners.give_up(store, given_up)
    groups = [
        [
            i
            for i in left.addresses.identities(user)
            if OwnedAddress(i, scopes[user], user) not in lost
        ]
        for user, left in after.items()
    ]
    await link(store, [group for group in groups if len(group) > 1], now_ms)
    return written


async def drop_device(store: StoreBase, user: str, device: Device) -> None:
    """A device or browser that its provider calls gone is not the user's any more."""

    async def without(kept: Users) -> Users:
        return {
            user: replace(each, addresses=each.addresses.without_device(device))
            for user, each in kept.items()
        }

    await _rewrite(store, [user], without)


async def forget(store: StoreBase, user: str, app: str | None = None) -> bool:
    """Drops what is kept of a user; with `app` only where that app stored it last. What cannot be
    read goes with its person, though it leads to no addresses. Returns whether there was anything
    to drop."""
    keys = keys_of(shard_of(user, store.shards))
    key, token = keys.user(user), keys.token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], Sequence[str] | None]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        if value is None:
            return [], None
        try:
            kept = _unpacked(store, user, value)
        except UnreadableRecordError:
            if app is not None:
                raise
            return [("DEL", key)], ()
        if app not in (None, kept.app):
            return [], None
        return [("DEL", key)], kept.addresses.identities(None)

    dropped = await commit(store.redis, token, attempt, store.counts)
    for identity in dropped or ():
        await address_owners.disown(store, identity, {user})
    return dropped is not None


def _taken(changes: Iterable[UserChange]) -> list[OwnedAddress]:
    return [OwnedAddress(i, c.scope, c.user) for c in changes for i in c.addresses.identities(None)]


def _held(users: Users, scopes: Mapping[str, str]) -> set[OwnedAddress]:
    return {
        OwnedAddress(i, scopes[user], user)
        for user, kept in users.items()
        for i in kept.addresses.identities(None)
    }


async def _release(
    store: StoreBase,
    changes: Sequence[UserChange],
    owned: Mapping[str, dict[str, str]],
    now_ms: int,
) -> None:
    """Addresses leave the persons of their users before that is written down: where this is
    interrupted, whoever repeats the call finds them again. Who is to lose one loses it first."""
    lost = {
        OwnedAddress(each.identity, each.scope, owner)
        for each in _taken(changes)
        if (owner := owned.get(each.identity, {}).get(each.scope, each.user)) != each.user
    }

    async def without(kept: Users) -> Users:
        return _without(kept, lost)

    await _rewrite(store, [each.user for each in sorted(lost)], without)
    scopes = {each.user: each.scope for each in changes}
    before = await read(store, scopes)
    after, _ = _changed(before, changes)
    leaving = sorted(lost | (_held(before, scopes) - _held(after, scopes)))
    await separate(store, [(each.identity, f"u:{each.user}") for each in leaving], now_ms)


async def _write(
    store: StoreBase, changes: Sequence[UserChange], takers: Collection[str]
) -> tuple[list[StoredUser], dict[str, StoredUser]]:
    """What each change left, and what was kept of the users before. What stays as it was is not
    written, unless its user took an address: who loses that meanwhile watches for it."""
    written: dict[int, StoredUser] = {}
    before: dict[str, StoredUser] = {}
    for shard, users in _by_shard(store, (each.user for each in changes)).items():
        indexes = [i for i, each in enumerate(changes) if each.user in users]
        left, was = await _write_shard(store, shard, [changes[i] for i in indexes], takers)
        written |= zip(indexes, left, strict=True)
        before |= was
    return [written[index] for index in range(len(changes))], before


async def _write_shard(
    store: StoreBase, shard: int, changes: Sequence[UserChange], takers: Collection[str]
) -> tuple[list[StoredUser], Users]:
    async def revise(kept: Users) -> tuple[Users, tuple[list[StoredUser], Users]]:
        now, left = _changed(kept, changes)
        writes = {u: n for u, n in now.items() if u in takers or not _same(kept.get(u), n)}
        return writes, (left, kept)

    return await _revise(store, shard, {each.user: None for each in changes}, revise)


def _changed(kept: Users, changes: Sequence[UserChange]) -> tuple[Users, list[StoredUser]]:
    """What is kept after changes, in order, and what each of them left."""
    now = dict(kept)
    left = []
    for each in changes:
        now[each.user] = each.after(now.get(each.user))
        left.append(now[each.user])
    return now, left


def _without(kept: Users, lost: Iterable[OwnedAddress]) -> Users:
    """What is kept of users who lost addresses."""
    after = dict(kept)
    for each in lost:
        if (left := after.get(each.user)) is not None:
            after[each.user] = replace(left, addresses=left.addresses.without(each.identity))
    return after


def _same(before: StoredUser | None, after: StoredUser) -> bool:
    return before is not None and before == replace(after, stored_ms=before.stored_ms)


async def _lose(store: StoreBase, lost: Collection[OwnedAddress]) -> None:
    """Takes addresses from what is kept of users, unless they took them again. The records are
    watched by then: who takes one later writes the record later."""

    async def without(kept: Users) -> Users:
        theirs = {each for each in lost if each.user in kept}
        return _without(kept, theirs - await address_owners.owned(store, theirs))

    await _rewrite(store, [each.user for each in sorted(lost)], without)


async def _rewrite(
    store: StoreBase, users: Iterable[str], changed: Callable[[Users], Awaitable[Users]]
) -> None:
    """Changes what is kept of users, where anything is."""

    async def revise(kept: Users) -> tuple[Users, None]:
        after = await changed(kept)
        return {user: each for user, each in after.items() if each != kept[user]}, None

    for shard, members in _by_shard(store, users).items():
        await _revise(store, shard, members, revise)


async def _revise(
    store: StoreBase,
    shard: int,
    users: Iterable[str],
    revise: Callable[[Users], Awaitable[tuple[Users, T]]],
) -> T:
    """Has `revise` decide, from what is kept of users of one shard, what is to be written and what
    is returned."""
    keys = keys_of(shard)
    token, names = keys.token(randomness.token()), {user: keys.user(user) for user in users}

    async def attempt(session: Session) -> tuple[list[Command], T]:
        _, reply = await session.call(
            [("WATCH", token, *names.values()), ("MGET", *names.values())]
        )
        kept = {
            user: _unpacked(store, user, value)
            for user, value in zip(names, values_in(reply), strict=True)
            if value is not None
        }
        writes, result = await revise(kept)
        parts = [part for u, each in writes.items() for part in (names[u], user_codec.encode(each))]
        return [("MSET", *parts)] if parts else [], result

    return await commit(store.redis, token, attempt, store.counts)


def _by_shard(store: StoreBase, users: Iterable[str]) -> dict[int, dict[str, None]]:
    """Users by the shard of their records, each once, in order."""
    found: defaultdict[int, dict[str, None]] = defaultdict(dict)
    for user in users:
        found[shard_of(user, store.shards)][user] = None
    return found


def _unpacked(store: StoreBase, user: str, value: bytes) -> StoredUser:
    try:
        return user_codec.decode(value)
    except UnreadableRecordError as error:
        raise error.at(keys_of(shard_of(user, store.shards)).user(user)) from None
