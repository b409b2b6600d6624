"""Gives identities that are seen together one home, as `core.people.identities` says.

Records may lie in any shards: those of a shard are written together, each only if it still is as it
was read. A process may die between two shards: the next request that meets an alias which no home
lists finishes the join. The home's own record is no business of this module: it lists its aliases
in the transaction that decides the request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from gateway.core.people import persons
from gateway.core.people.identities import (
    IDENTITIES_MAX,
    Join,
    Write,
    enlist,
    join,
    kept_apart,
    links,
    reached,
    split,
    together,
    unread,
)
from gateway.core.plan import hold_ms
from gateway.core.records.codec import UnreadableRecordError
from gateway.core.records.message_codec import unpack_message
from gateway.core.records.person import Person, pack_person, unpack_person
from gateway.redis.client import Command, Session
from gateway.store.base import Once, StoreBase, read_messages
from gateway.store.keys import Keys, keys_of, shard_of_identity
from gateway.store.people.people import read_records
from gateway.store.requests.asks import Ask
from gateway.store.transaction import ConflictError, values_in
from gateway.store.writes import Writes

TRIES_MAX = 50  # after each that fails somebody else has joined somebody
LINKED_MS = 365 * 86_400_000  # how long at least the identities of a stored user are one person


def moved(store: StoreBase, ask: Ask, home: str, now_ms: int) -> Ask:
    """The request, to be decided under another home; a message's id names its home's shard."""
    shard = shard_of_identity(home, store.shards)
    request = ask.request
    if shard != store.shard_of_message(request.id):
        request = replace(request, id=store.new_id_in(shard, now_ms))
    return Ask(request, ask.identities, home, full=ask.full)


def _placed(store: StoreBase, ask: Ask, found: Join, now_ms: int) -> Ask:
    ask = moved(store, ask, found.home, now_ms)
    return replace(ask, found=found.found, listed=found.listed, apart=found.apart)


async def find_home(store: StoreBase, identity: str) -> str:
    """Where an identity leads now. Raises ConflictError where that does not end."""
    for _ in range(TRIES_MAX):
        value = (await read_records(store.redis, store.shards, [identity]))[identity]
        home = (_record(store, identity, value) or Person()).home
        if not home:
            return identity
        identity = home
    raise ConflictError


async def place(store: StoreBase, asks: Sequence[Ask], now_ms: int) -> list[Ask]:
    """Joins what each request names, and returns the requests with the homes found.

    Raises ConflictError when others join the same identities without end."""
    groups = [_Group(ask.identities, hold_ms(ask.request, store.policy, now_ms)) for ask in asks]
    return [
        _placed(store, ask, found, now_ms)
        for ask, found in zip(asks, await _joined(store, groups, now_ms), strict=True)
    ]


async def link(store: StoreBase, groups: Sequence[list[str]], now_ms: int) -> None:
    """Joins the identities of each group, and lists them at their homes. Raises ConflictError when
    others join the same identities without end."""
    left = [_Group(identities, LINKED_MS) for identities in groups]
    for _ in range(TRIES_MAX):
        if not left:
            return
        joins = await _joined(store, left, now_ms)
        listed = await _enlist(store, joins, now_ms)
        pairs = zip(left, joins, strict=True)
        left = [group for group, found in pairs if found.home not in listed]
    raise ConflictError


async def separate(store: StoreBase, pairs: Iterable[tuple[str, str]], now_ms: int) -> None:
    """In each pair the first, an address, is not of the person of the second any more. Where that
    was interrupted it is to be asked for again. Raises ConflictError when others change the same
    records without end."""
    left = list(dict.fromkeys(pairs))
    for _ in range(TRIES_MAX * len(left)):
        done = await _separated(store, left, now_ms)
        left = [pair for pair in left if pair not in done]
        if not left:
            return
    if left:
        raise ConflictError


class _Group(NamedTuple):
    """Identities that are one person, and how long they are to be at least."""

    identities: list[str]
    hold_ms: int


async def _joined(store: StoreBase, groups: Sequence[_Group], now_ms: int) -> list[Join]:
    """Each group's identities with one home; all is written but the home's own record."""
    done: dict[int, Join] = {}
    joined: defaultdict[str, set[str]] = defaultdict(set)  # by home, which need not list them yet
    for _ in range(TRIES_MAX):
        left = {i: group for i, group in enumerate(groups) if i not in done}
        if not left:
            return [done[i] for i in range(len(groups))]
        packed = await _read_all(
            store, dict.fromkeys(i for g in left.values() for i in g.identities)
        )
        records = {i: _record(store, i, v) for i, v in packed.items()}
        joins = _bounded(left, records, joined, now_ms)
        if halves := {(i, found.home) for found in joins.values() for i in found.half}:
            await separate(store, halves, now_ms)
            joins = {i: found for i, found in joins.items() if not found.half}
        written = await _write(store, joins.values(), packed, now_ms)
        for i, found in joins.items():
            if not all(written.get(w.identity) is w.after for w in found.writes):
                continue
            if len(found.people) > 1:
                joined[found.home].update(found.people)
            if found.final:
                done[i] = found
                store.counts.unjoined += bool(found.apart)
    raise ConflictError


def _bounded(
    left: Mapping[int, _Group],
    records: Mapping[str, Person | None],
    joined: Mapping[str, set[str]],
    now_ms: int,
) -> dict[int, Join]:
    """What is to be written for groups. One that would be too many with those who were `joined`
    is kept apart, and one that would with others of these waits until it is known who came."""
    coming = defaultdict(set, {home: set(people) for home, people in joined.items()})
    joins: dict[int, Join] = {}
    for i, group in left.items():
        found = join(group.identities, records, now_ms, group.hold_ms)
        if len(found.people) > 1:
            if len(together(found.people, joined)) > IDENTITIES_MAX:
                found = kept_apart(group.identities, records)
            elif len(together(found.people, coming)) > IDENTITIES_MAX:
                continue
            else:
                coming[found.home].update(found.people)
        joins[i] = found
    return joins


async def _separated(
    store: StoreBase, pairs: Sequence[tuple[str, str]], now_ms: int
) -> set[tuple[str, str]]:
    """One try at all pairs; those that meet the same records take turns. Returns of which nothing
    was left to be done: what is written here is read again, since others may have come between."""
    packed = await _read_all(store, dict.fromkeys(i for pair in pairs for i in pair))
    records = {i: _record(store, i, v) for i, v in packed.items()}
    met: set[str] = set()
    going: dict[tuple[str, str], list[Write]] = {}
    for pair in pairs:
        people = reached(list(pair), records)
        if met.isdisjoint(people):
            met.update(people)
            going[pair] = split(*pair, records, now_ms)
    done = {pair for pair, writes in going.items() if not writes}
    while going := {pair: writes for pair, writes in going.items() if writes}:
        written = await _rewrite(store, [first for first, *_ in going.values()], packed, now_ms)
        going = {pair: rest for pair, (first, *rest) in going.items() if first.identity in written}
    return done


async def _enlist(store: StoreBase, joins: Iterable[Join], now_ms: int) -> set[str]:
    """Lists the aliases of homes in their records, and returns those that are homes still."""
    by_home: defaultdict[str, list[Join]] = defaultdict(list)
    for found in joins:
        by_home[found.home].append(found)

    async def change(home: str, value: bytes | None, writes: Writes) -> bool:
        person = _record(store, home, value) or Person(apart_ms=0)
        if person.home:
            return False
        if persons.is_old(person):
            persons.bound_old(person, store.policy, now_ms)
        changed = [enlist(person, home, f.found, f.listed, now_ms) for f in by_home[home]]
        if any(changed):
            writes.person(home, person, value, {})
        return True

    return await _change(store, by_home, change, now_ms)


async def foresee(store: StoreBase, ask: Ask, now_ms: int) -> Ask:
    """What `place` would return if nobody else came in between; nothing is written."""
    records = {
        identity: _record(store, identity, value)
        for identity, value in (await _read_all(store, ask.identities)).items()
    }
    for _ in range(TRIES_MAX):
        found = join(ask.identities, records, now_ms, hold_ms(ask.request, store.policy, now_ms))
        if found.final:
            return _placed(store, ask, found, now_ms)
        records |= {write.identity: write.after for write in found.writes}
    raise ConflictError


async def _read_all(store: StoreBase, identities: Iterable[str]) -> dict[str, bytes | None]:
    """The records of identities and of everybody they lead to, as these led at one moment. Raises
    ConflictError when others change that without end."""
    wanted = list(identities)
    before: object = None
    for _ in range(TRIES_MAX):
        packed: dict[str, bytes | None] = {}
        records: dict[str, Person | None] = {}
        while missing := unread(wanted, records):
            found = await read_records(store.redis, store.shards, sorted(missing))
            packed |= found
            records |= {i: _record(store, i, v) for i, v in found.items()}
        if not (now := links(records)) or now == before:
            return packed
        before, wanted = now, list(packed)
    raise ConflictError


def _record(store: StoreBase, identity: str, value: bytes | None) -> Person | None:
    """Raises NewerRecordError and UnreadableRecordError."""
    try:
        return None if value is None else unpack_person(value)
    except UnreadableRecordError as error:
        shard = shard_of_identity(identity, store.shards)
        raise error.at(keys_of(shard).person(identity)) from None


async def _write(
    store: StoreBase, joins: Iterable[Join], packed: dict[str, bytes | None], now_ms: int
) -> dict[str, Person]:
    """Writes what the joins ask for, an identity once, and returns the records that stand now."""
    writes: dict[str, Write] = {}
    for found in joins:
        for write in found.writes:
            writes.setdefault(write.identity, write)
    fresh = [write for write in writes.values() if packed[write.identity] is None]
    known = [write for write in writes.values() if packed[write.identity] is not None]
    stand = {i: writes[i].after for i in await _rewrite(store, known, packed, now_ms)}
    commands: list[Command] = [
        (
            "SET",
            keys_of(shard_of_identity(write.identity, store.shards)).person(write.identity),
            pack_person(write.after),
            "NX",
            "PX",
            write.after.linked_ms - now_ms,
        )
        for write in fresh
    ]
    replies = await store.redis.call(commands) if commands else []
    stand |= {w.identity: w.after for w, reply in zip(fresh, replies, strict=True) if reply}
    return stand


async def _rewrite(
    store: StoreBase, writes: Iterable[Write], packed: Mapping[str, bytes | None], now_ms: int
) -> set[str]:
    """Writes over records that still are as they were read; returns whose were."""
    wanted = {write.identity: write.after for write in writes}

    async def change(identity: str, value: bytes | None, writes: Writes) -> bool:
        after = wanted[identity]
        if value is None or value != packed[identity]:
            return False
        if persons.is_old(after):
            await _upgrade(store, after, now_ms)
        # Writing takes claims out that are too many for a record: of a copy, for the next try.
        after = replace(after, claims=dict(after.claims))
        writes.person(identity, after, value, {})
        return True

    return await _change(store, wanted, change, now_ms)


# Adds what is to be written of a record as it stands, and returns whether it is as it should be.
_Changing = Callable[[str, bytes | None, Writes], Awaitable[bool]]


async def _change(
    store: StoreBase, identities: Iterable[str], change: _Changing, now_ms: int
) -> set[str]:
    """Changes records in batches, each in its shard; returns those of which `change` was true."""
    by_shard: defaultdict[int, list[str]] = defaultdict(list)
    for identity in identities:
        by_shard[shard_of_identity(identity, store.shards)].append(identity)
    done: set[str] = set()
    for shard, members in by_shard.items():
        keys = keys_of(shard)
        try_of = partial(_Try, store, keys, change, now_ms)
        told = await store.in_pieces(keys, members, now_ms, try_of, _give_up)
        done |= {each for each, changed in zip(members, told, strict=True) if changed}
    return done


class _Try(NamedTuple):
    """One try at changing records of a shard."""

    store: StoreBase
    keys: Keys
    change: _Changing
    now_ms: int
    identities: Sequence[str]
    once: Once

    async def attempt(self, session: Session) -> tuple[list[Command], list[bool]]:
        names = [self.keys.person(identity) for identity in self.identities]
        _, reply = await session.call([("WATCH", self.once.token, *names), ("MGET", *names)])
        writes = self.store.writes(self.keys, self.now_ms)
        done = [
            await self.change(identity, value, writes)
            for identity, value in zip(self.identities, values_in(reply), strict=True)
        ]
        return writes.commands(), done


async def _give_up(_identity: str, error: Exception) -> bool:
    raise error


async def _upgrade(store: StoreBase, person: Person, now_ms: int) -> None:
    """A record of schema 2 gives way: what it holds for a message that holds the same in the
    new home, or that holds nothing any more, is dropped; the rest gets an end."""
    live = {claim.message for claim in person.claims.values() if not claim.until_ms}
    void = set()
    records = await read_messages(store, live) if live else {}
    for id_, (key, value) in records.items():
        try:
            message = None if value is None else unpack_message(id_, value)
        except UnreadableRecordError as error:
            raise error.at(key) from None
        if message is None or not message.holds or message.holder == person.home:
            void.add(id_)
    person.claims = {c: claim for c, claim in person.claims.items() if claim.message not in void}
    person.slots = [slot for slot in person.slots if slot.message not in void]
    persons.bound_old(person, store.policy, now_ms)
