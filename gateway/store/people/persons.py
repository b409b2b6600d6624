"""One person as a whole: who it is, what it was sent, and how it is forgotten.

A person is found by any identity: its records and stored users say who else it is, the index of
messages and its cap slots what it was sent, and a message whom it named. A message that names a
stored user is that user's alone: an address in it may be another's by now, and is nobody's way to
that one; asked for by the address itself it is found as well. Messages are looked at in bounded
batches.

Erasing begins with the messages, each in its own transaction, and ends with the record that leads
to the others: one that was interrupted finds the rest again when it is repeated, and one that is
repeated finds nothing. What is sent to the person meanwhile is a new message, and stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from functools import partial

import msgspec
from msgspec.structs import replace

from gateway.core.events import Cancelled
from gateway.core.people.identities import IDENTITIES_MAX
from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.entries import unmatched_codec
from gateway.core.records.message import Message
from gateway.core.records.person import (
    DedupeClaim,
    Person,
    claim_codec,
    pack_person,
    unpack_person,
)
from gateway.core.records.user import StoredUser
from gateway.redis.client import Command, Session
from gateway.store import quarantine, randomness, scans
from gateway.store.base import read_messages
from gateway.store.former_shards import shards_ever
from gateway.store.keys import Keys, keys_of, shard_of_identity
from gateway.store.messages import person_index, raw_receipts, reads, unindexed
from gateway.store.messages.apply import Item
from gateway.store.people import address_owners, forgotten, opt_outs, replies, unsubscribing, users
from gateway.store.people.people import addresses_in, look_after_waiting, read_records
from gateway.store.quarantine import SetAside
from gateway.store.reactions import links
from gateway.store.store import Store
from gateway.store.transaction import commit, values_in

MESSAGES_A_BATCH = 100


class FoundPersons(msgspec.Struct):
    """`identities` begin with the one that was asked for; `records` are those that have one;
    `users` the stored ones by `person_id`; `messages` by id, `places` their keys; `campaigns` all
    that the person may hold a claim of; `others` are messages, by id with their apps, that name an
    address of the person and another stored user, and count for both; `archived` likewise those of
    which Redis has no more than what they hold, which whoever reads the archive adds."""

    identities: list[str]
    records: dict[str, Person] = {}
    users: dict[str, StoredUser] = {}
    messages: dict[str, Message] = {}
    places: dict[str, str] = {}
    campaigns: set[str] = set()
    others: dict[str, str] = {}
    archived: dict[str, str] = {}

    @property
    def anything(self) -> bool:
        return bool(self.records or self.users or self.messages)


class Erasure(msgspec.Struct):
    """How much there was: for whoever asked for it."""

    messages: int = 0
    cancelled: int = 0
    identities: int = 0


async def find(store: Store, identity: str, now_ms: int) -> FoundPersons:
    """Everything of the person with this identity. A record or message that cannot be read by this
    process is passed over. Raises RedisUnavailable."""
    found = FoundPersons([identity])
    shards = await shards_ever(store.redis, store.shards)
    seen: set[str] = set()
    while len(seen) < len(found.identities):
        await _find_indexed(store, found, shards, seen)
        if store.retention.archives:
            await _find_claims(store, found, now_ms)
        async for page in unindexed.pages(store.redis, shards, store.retention, now_ms):
            await _take(store, found, page)
    return found


async def _find_indexed(store: Store, found: FoundPersons, shards: range, seen: set[str]) -> None:
    """What records and the index say of the identities that were not seen yet."""
    known: set[str] = set()
    while fresh := [i for i in found.identities if i not in seen]:
        # Who it is comes first: whose a message is depends on that.
        while new := [i for i in found.identities if i not in seen | known]:
            known.update(new)
            await _find_records(store, found, new)
            await _find_users(store, found, new)
        fresh = [i for i in found.identities if i not in seen]
        seen.update(fresh)
        slots = [slot.message for i in fresh if (p := found.records.get(i)) for slot in p.slots]
        await _take(store, found, slots)
        async for page in person_index.find(store.redis, shards, fresh):
            found.campaigns.update(item.campaign for item in page if item.campaign is not None)
            await _take(store, found, [item.message for item in page])


async def _find_claims(store: Store, found: FoundPersons, now_ms: int) -> None:
    """Campaigns of claims in records of their own: the index may not name them any more."""
    for identity, person in found.records.items():
        apart_ms = person.keep_ms if person.apart_ms is None else person.apart_ms
        if apart_ms > now_ms:
            keys = keys_of(shard_of_identity(identity, store.shards))
            prefix = keys.claim(identity, "")
            async for page in scans.keys(store.redis, keys, _literal(prefix) + "*"):
                found.campaigns.update(key[len(prefix) :] for key in page)


def _literal(text: str) -> str:
    """A pattern that only this fits."""
    return "".join(f"\\{c}" if c in "\\*?[]^" else c for c in text)


async def _find_records(store: Store, found: FoundPersons, identities: Sequence[str]) -> None:
    for identity, record in (await read_records(store.redis, store.shards, identities)).items():
        try:
            if record is None:
                continue
            person = found.records[identity] = unpack_person(record)
        except (NewerRecordError, UnreadableRecordError):
            continue
        _know(found, (person.home, *person.aliases))
        _know(found, await _former(store, person))


async def _former(store: Store, person: Person) -> list[str]:
    """The former homes that are the person's still; one that left stands for itself."""
    records = await read_records(store.redis, store.shards, person.former)
    joined = []
    for identity, record in records.items():
        with suppress(NewerRecordError, UnreadableRecordError):
            if unpack_person(record).home:
                joined.append(identity)
    return joined


async def _find_users(store: Store, found: FoundPersons, identities: Sequence[str]) -> None:
    """Stored users among the identities, and those whose address is."""
    addresses = [i for i in identities if not i.startswith("u:")]
    for owners in (await address_owners.read(store, addresses)).values():
        _know(found, (f"u:{user}" for user in owners.values()))
    for identity in identities:
        if identity.startswith("u:"):
            with suppress(NewerRecordError, UnreadableRecordError):
                for user, kept in (await users.read(store, [identity[2:]])).items():
                    found.users[user] = kept
                    _know(found, kept.addresses.identities(None))


async def _take(store: Store, found: FoundPersons, ids: Iterable[str]) -> None:
    """Those of the messages that name the person."""
    asked = dict.fromkeys(id_ for id_ in ids if id_ not in found.messages)
    for batch in _batches(asked):
        records = await read_messages(store, batch)
        read = {id_: reads.readable(store, id_, record.value) for id_, record in records.items()}
        messages = {id_: message for id_, message in read.items() if message is not None}
        stored = await _stored(store, found, {m.named_user for m in messages.values()})
        for id_, message in messages.items():
            named, user = _named(message), f"u:{message.named_user}"
            alone = message.named_user in stored
            if set(found.identities).isdisjoint(named):
                continue
            if alone and user not in found.identities and found.identities[0] not in named:
                found.others[id_] = message.app
                continue
            found.messages[id_], found.places[id_] = message, records[id_].key
            if message.campaign is not None:
                found.campaigns.add(message.campaign)
            _know(found, () if alone else named)


async def _stored(store: Store, found: FoundPersons, named: Iterable[str | None]) -> set[str]:
    """Those of the users who are stored; one that cannot be read is none."""
    asked = {user for user in named if user is not None}
    known = asked & found.users.keys()
    return known | (await users.readable(store, asked - known)).keys()


def _named(message: Message) -> list[str]:
    return [*message.identities, *([message.person] if message.person else [])]


def _know(found: FoundPersons, identities: Iterable[str]) -> None:
    for identity in identities:
        room = len(found.identities) < IDENTITIES_MAX
        if identity and identity not in found.identities and room:
            found.identities.append(identity)


async def holders(store: Store, found: FoundPersons, now_ms: int) -> list[Person]:
    """The records, as the caps count them now."""
    people = list(found.records.values())
    await look_after_waiting(store, people, now_ms)
    return people


async def claims(store: Store, found: FoundPersons) -> dict[str, DedupeClaim]:
    """The claims there are, by campaign; one that cannot be read is passed over."""
    held = {c: claim for person in found.records.values() for c, claim in person.claims.items()}
    for identity in found.identities:
        keys = keys_of(shard_of_identity(identity, store.shards))
        for batch in _batches(sorted(found.campaigns)):
            (reply,) = await store.redis.call([("MGET", *(keys.claim(identity, c) for c in batch))])
            for campaign, value in zip(batch, values_in(reply), strict=True):
                with suppress(NewerRecordError, UnreadableRecordError):
                    if value is not None:
                        held[campaign] = claim_codec.decode(value)
    return held


async def erase(store: Store, found: FoundPersons, now_ms: int, app: str | None = None) -> Erasure:
    """Forgets a person; with `app` what that app has of it, and the records only where no other app
    sent it anything. What messages hold that were accepted meanwhile, or are another app's, stays.
    Durable on return. Raises RedisUnavailable."""
    ids = [id_ for id_, m in found.messages.items() if app in (None, m.app)]
    whoever = {*(kept.app for kept in found.users.values()), *found.archived.values()}
    alone = app is None or (len(ids) == len(found.messages) and whoever <= {app})
    told = Erasure(len(ids), 0, len(found.identities))
    own = {id_ for id_, its in found.archived.items() if its == app}
    whose = (own if app is not None else await holding(store, found)) | set(ids)
    if store.retention.archives:
        await forgotten.note(store.redis, found.identities, app)
    for batch in _batches(ids):
        # First: a message that names nobody any more is not found again where this is interrupted.
        await links.forget(store.redis, [found.messages[id_] for id_ in batch])
        told.cancelled += sum(not found.messages[id_].finished for id_ in batch)
        await store.apply([Item(id_, Cancelled(erase=True)) for id_ in batch], now_ms)
        await raw_receipts.forget(store, batch)
    if app is None:
        addresses = addresses_in(found.identities)
        await opt_outs.make_nameless(store.redis, store.shards, addresses)
        await unsubscribing.forget(store, addresses)
    if alone:
        await _drop_receipts(store, found.identities)
        await quarantine.drop(store.redis, store.shards, partial(_speaks_of, found.identities))
    await replies.forget(store, found.identities, app)
    await _drop_claims(store, found, whose)
    theirs = {identity[2:] for identity in found.identities if identity.startswith("u:")}
    # The record that was asked for comes last: it leads to the others.
    for identity in reversed(found.identities):
        await _drop_record(store, identity, whose, alone=alone, everybodys=app is None)
        if identity.startswith("u:"):
            await users.forget(store, identity[2:], app)
        else:
            await address_owners.disown(store, identity, theirs, app)
    return told


async def holding(store: Store, found: FoundPersons) -> set[str]:
    """The messages that hold a claim or a slot of the person."""
    held = {claim.message for claim in (await claims(store, found)).values()}
    for person in found.records.values():
        held.update(claim.message for claim in person.claims.values())
        held.update(slot.message for slot in person.slots)
    return held


def _speaks_of(identities: Collection[str], set_aside: SetAside) -> bool:
    """Whether what was set aside names the person: the key of a record or claim, an address in its
    bytes."""
    key = set_aside.what.partition("}")[2]
    claims = tuple(f"c:{len(identity)}:{identity}:" for identity in identities)
    if key in identities or key.startswith(claims):
        return True
    return any(a in set_aside.what or a.encode() in set_aside.raw for a in addresses_in(identities))


def _batches(items: Iterable[str]) -> Iterator[list[str]]:
    whole = list(items)
    for start in range(0, len(whole), MESSAGES_A_BATCH):
        yield whole[start : start + MESSAGES_A_BATCH]


async def _drop_receipts(store: Store, identities: Collection[str]) -> None:
    """Receipts of messages that nobody knows name the phone."""
    phones = {identity[2:] for identity in identities if identity.startswith("p:")}
    for shard in range(store.shards):
        key = keys_of(shard).unmatched_receipts
        async with aclosing(scans.pages(store.redis, "ZSCAN", key)) as pages:
            async for page in pages:
                theirs = [member for member, _ in page if _receipt_to(member) in phones]
                if theirs:
                    await store.redis.call([("ZREM", key, *theirs)])


def _receipt_to(member: bytes) -> str | None:
    try:
        return unmatched_codec.decode(member).receipt.to
    except (NewerRecordError, UnreadableRecordError):
        return None


async def _drop_claims(store: Store, found: FoundPersons, whose: Collection[str]) -> None:
    """The claims in records of their own that these messages hold."""
    for identity in found.identities:
        keys = keys_of(shard_of_identity(identity, store.shards))
        for batch in _batches(sorted(found.campaigns)):
            await _drop_claims_of(store, keys, [keys.claim(identity, c) for c in batch], whose)


async def _drop_claims_of(
    store: Store, keys: Keys, names: Sequence[str], whose: Collection[str]
) -> None:
    token = keys.token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], None]:
        _, reply = await session.call([("WATCH", token, *names), ("MGET", *names)])
        values = zip(names, values_in(reply), strict=True)
        gone = [name for name, value in values if value and _holder(value) in whose]
        return [("UNLINK", *gone)] if gone else [], None

    await commit(store.redis, token, attempt, store.counts)


def _holder(claim: bytes) -> str | None:
    try:
        return claim_codec.decode(claim).message
    except (NewerRecordError, UnreadableRecordError):
        return None


async def _drop_record(
    store: Store, identity: str, whose: Collection[str], *, alone: bool, everybodys: bool
) -> None:
    """Takes from a record what these messages hold; one that holds nothing else goes where the
    person is `alone` theirs. One that cannot be read goes where it is erased for everybody."""
    keys = keys_of(shard_of_identity(identity, store.shards))
    key, token = keys.person(identity), keys.token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], None]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        if not isinstance(value, bytes):
            return [], None
        try:
            person = unpack_person(value)
        except (NewerRecordError, UnreadableRecordError):
            return [("UNLINK", key)] if everybodys else [], None
        held = {c: claim for c, claim in person.claims.items() if claim.message not in whose}
        slots = [slot for slot in person.slots if slot.message not in whose]
        if alone and not held and not slots:
            return [("UNLINK", key)], None
        rest = replace(person, claims=held, slots=slots)
        if alone:
            rest.channels, rest.reached, rest.reacted_s = {}, {}, 0
        return [("SET", key, pack_person(rest), "KEEPTTL")], None

    await commit(store.redis, token, attempt, store.counts)
