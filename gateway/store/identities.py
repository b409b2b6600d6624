"""Gives identities that are seen together one home, as `core.identities` says.

Each record may lie in another shard, so each is written alone, and only if it still is as it was
read. A process may die between two of them: the next request that meets an alias which no home
lists finishes the join. The home's own record is no business of this module: it lists its aliases
in the transaction that decides the request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from gateway.core import persons
from gateway.core.identities import Join, Write, enlist, join, split, unread
from gateway.core.plan import hold_ms
from gateway.core.records.codec import UnreadableRecordError
from gateway.core.records.message_codec import unpack_message
from gateway.core.records.person import Person, pack_person, unpack_person
from gateway.redis.client import Command, Session
from gateway.store import randomness
from gateway.store.admit import Ask
from gateway.store.base import StoreBase, read_messages
from gateway.store.keys import keys_of, shard_of_identity
from gateway.store.people import read_records
from gateway.store.transaction import ConflictError, commit

TRIES_MAX = 50  # after each that fails somebody else has joined somebody
LINKED_MS = 365 * 86_400_000  # how long at least the identities of a stored user are one person


def moved(store: StoreBase, ask: Ask, home: str, now_ms: int) -> Ask:
    """The request, to be decided under another home; a message's id names its home's shard."""
    shard = shard_of_identity(home, store.shards)
    request = ask.request
    if shard != store.shard_of_message(request.id):
        request = replace(request, id=store.new_id_in(shard, now_ms))
    return Ask(request, ask.identities, home)


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
        replace(moved(store, ask, found.home, now_ms), found=found.found, apart=found.apart)
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
        pairs = zip(left, joins, strict=True)
        left = [group for group, found in pairs if not await _enlist(store, found, now_ms)]
    raise ConflictError


async def separate(store: StoreBase, address: str, other: str, now_ms: int) -> None:
    """An address is not of the person of `other` any more. Raises ConflictError when others change
    the same records without end."""
    for _ in range(TRIES_MAX):
        packed = await _read_all(store, [address, other])
        records = {i: _record(store, i, v) for i, v in packed.items()}
        for write in split(address, other, records, now_ms):
            before = packed[write.identity]
            assert before is not None
            if not await _rewrite(store, write, before, now_ms):
                break
        else:
            return
    raise ConflictError


class _Group(NamedTuple):
    """Identities that are one person, and how long they are to be at least."""

    identities: list[str]
    hold_ms: int


async def _joined(store: StoreBase, groups: Sequence[_Group], now_ms: int) -> list[Join]:
    """Each group's identities with one home; all is written but the home's own record."""
    done: dict[int, Join] = {}
    for _ in range(TRIES_MAX):
        left = {i: group for i, group in enumerate(groups) if i not in done}
        if not left:
            return [done[i] for i in range(len(groups))]
        packed = await _read_all(
            store, dict.fromkeys(i for g in left.values() for i in g.identities)
        )
        records = {i: _record(store, i, v) for i, v in packed.items()}
        joins = {
            i: join(group.identities, records, now_ms, group.hold_ms) for i, group in left.items()
        }
        written = await _write(store, joins.values(), packed, now_ms)
        for i, found in joins.items():
            if found.final and all(written.get(w.identity) is w.after for w in found.writes):
                done[i] = found
                store.counts.unjoined += bool(found.apart)
    raise ConflictError


async def _enlist(store: StoreBase, found: Join, now_ms: int) -> bool:
    """Lists the aliases of a home in its record; False where it is no home any more."""
    keys = keys_of(shard_of_identity(found.home, store.shards))
    key, token = keys.person(found.home), keys.token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], bool]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        person = _record(store, found.home, value) or Person()
        if person.home:
            return [], False
        if persons.is_old(person):
            persons.bound_old(person, store.policy, now_ms)
        writes = store.writes(keys, now_ms)
        if enlist(person, found.home, found.found, now_ms):
            writes.person(found.home, person, value, {})
        return writes.commands(), True

    return await commit(store.redis, token, attempt, store.counts)


async def foresee(store: StoreBase, ask: Ask, now_ms: int) -> Ask:
    """What `place` would return if nobody else came in between; nothing is written."""
    records = {
        identity: _record(store, identity, value)
        for identity, value in (await _read_all(store, ask.identities)).items()
    }
    for _ in range(TRIES_MAX):
        found = join(ask.identities, records, now_ms, hold_ms(ask.request, store.policy, now_ms))
        if found.final:
            moved_to = moved(store, ask, found.home, now_ms)
            return replace(moved_to, found=found.found, apart=found.apart)
        records |= {write.identity: write.after for write in found.writes}
    raise ConflictError


async def _read_all(store: StoreBase, identities: Iterable[str]) -> dict[str, bytes | None]:
    """The records of identities and of everybody they lead to."""
    packed: dict[str, bytes | None] = {}
    records: dict[str, Person | None] = {}
    while missing := unread(identities, records):
        found = await read_records(store.redis, store.shards, sorted(missing))
        packed |= found
        records |= {i: _record(store, i, v) for i, v in found.items()}
    return packed


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
    stand: dict[str, Person] = {}
    fresh = [write for write in writes.values() if packed[write.identity] is None]
    for write in writes.values():
        before = packed[write.identity]
        if before is not None and await _rewrite(store, write, before, now_ms):
            stand[write.identity] = write.after
    commands: list[Command] = [
        (
            "SET",
            keys_of(shard_of_identity(write.identity, store.shards)).person(write.identity),
            pack_person(write.after),
            "NX",
            "PXAT",
            write.after.linked_ms,
        )
        for write in fresh
    ]
    replies = await store.redis.call(commands) if commands else []
    stand |= {w.identity: w.after for w, reply in zip(fresh, replies, strict=True) if reply}
    return stand


async def _rewrite(store: StoreBase, write: Write, before: bytes, now_ms: int) -> bool:
    """Writes over a record if it is still as it was read; returns whether it was."""
    keys = keys_of(shard_of_identity(write.identity, store.shards))
    key, token = keys.person(write.identity), keys.token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], bool]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        if value != before:
            return [], False
        if persons.is_old(write.after):
            await _upgrade(store, write.after, now_ms)
        # Writing takes claims out that are too many for a record: of a copy, for the next try.
        after = replace(write.after, claims=dict(write.after.claims))
        writes = store.writes(keys, now_ms)
        writes.person(write.identity, after, before, {})
        return writes.commands(), True

    return await commit(store.redis, token, attempt, store.counts)


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
