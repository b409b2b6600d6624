"""Whose an address is in each app's numbering of users: noted in the shard of the address.

An address has one user at most in a numbering. Who takes it is told who had it, and it is given up
only by whom it belongs to. Raises RedisUnavailable and ConflictError.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.redis.client import Command, Session
from gateway.redis.replies import pairs
from gateway.store import randomness
from gateway.store.base import StoreBase
from gateway.store.keys import Keys, keys_of, shard_of_identity
from gateway.store.transaction import commit

Owners = Mapping[str, Mapping[str, str]]  # by address (an identity), then by scope: the user


class OwnedAddress(NamedTuple):
    """An address, as an identity, and the user that has it in a numbering: an app's, or the common
    one (an empty `scope`)."""

    identity: str
    scope: str
    user: str


async def read(store: StoreBase, identities: Iterable[str]) -> dict[str, dict[str, str]]:
    """The owners of those addresses that have any; what is no name is nobody's."""
    asked = list(dict.fromkeys(identities))
    if not asked:
        return {}
    commands: list[Command] = [("HGETALL", _key(store, identity)) for identity in asked]
    return {
        identity: {
            scope.decode(errors="replace"): user.decode(errors="replace")
            for scope, user in pairs(reply)
        }
        for identity, reply in zip(asked, await store.redis.call(commands), strict=True)
        if reply
    }


async def take(
    store: StoreBase, taken: Iterable[OwnedAddress], owned: Owners
) -> tuple[set[str], set[OwnedAddress]]:
    """Notes addresses as the users' own, in order; `owned` is what was read of them. Returns the
    users that did not have all of theirs, and who had them before."""
    now = {(i, scope): user for i, users in owned.items() for scope, user in users.items()}
    takes: list[OwnedAddress] = []
    for each in taken:
        if now.get((each.identity, each.scope)) != each.user:
            now[each.identity, each.scope] = each.user
            takes.append(each)
    commands: list[Command] = []
    for identity, scope, user in takes:
        key = _key(store, identity)
        commands += [("MULTI",), ("HGET", key, scope), ("HSET", key, scope, user), ("EXEC",)]
    replies = await store.redis.call(commands) if commands else []
    lost = {
        OwnedAddress(each.identity, each.scope, had.decode())
        for each, (had, _) in zip(takes, replies[3::4], strict=True)
        if had is not None and had.decode() != each.user
    }
    return {each.user for each in takes}, lost


async def owned(store: StoreBase, addresses: Collection[OwnedAddress]) -> set[OwnedAddress]:
    """Those that are their users' now."""
    found = await read(store, sorted(each.identity for each in addresses))
    return {e for e in addresses if found.get(e.identity, {}).get(e.scope) == e.user}


async def taken_by_others(
    store: StoreBase, addresses: Collection[OwnedAddress]
) -> set[OwnedAddress]:
    """Those that are another user's now."""
    found = await read(store, sorted(each.identity for each in addresses))
    return {e for e in addresses if found.get(e.identity, {}).get(e.scope, e.user) != e.user}


async def disown(
    store: StoreBase, identity: str, users: Collection[str], app: str | None = None
) -> None:
    """An address is none of these users' any more, also where nothing was written of one that took
    it; with `app` in that app's numbering alone."""
    found = (await read(store, [identity])).get(identity, {})
    theirs = [OwnedAddress(identity, scope, user) for scope, user in found.items() if user in users]
    await give_up(store, [each for each in theirs if app in (None, each.scope)])


async def give_up(store: StoreBase, addresses: Iterable[OwnedAddress]) -> None:
    """Addresses that were users' are nobody's, unless somebody took them meanwhile."""
    by_shard: defaultdict[int, list[OwnedAddress]] = defaultdict(list)
    for each in sorted(addresses):
        by_shard[shard_of_identity(each.identity, store.shards)].append(each)
    for shard, members in by_shard.items():
        await _give_up_shard(store, keys_of(shard), members)


async def _give_up_shard(store: StoreBase, keys: Keys, addresses: Sequence[OwnedAddress]) -> None:
    token = keys.token(randomness.token())
    names = [keys.owners(each.identity) for each in addresses]

    async def attempt(session: Session) -> tuple[list[Command], None]:
        asks = [("HGET", key, each.scope) for key, each in zip(names, addresses, strict=True)]
        _, *values = await session.call([("WATCH", token, *names), *asks])
        return [
            ("HDEL", key, each.scope)
            for key, each, value in zip(names, addresses, values, strict=True)
            if value == each.user.encode()
        ], None

    await commit(store.redis, token, attempt, store.counts)


def _key(store: StoreBase, identity: str) -> str:
    return keys_of(shard_of_identity(identity, store.shards)).owners(identity)
