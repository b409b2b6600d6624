"""The persons of one batch: asked for by identity, changed by the rules, written with what changed.

A claim stands in the record, or in a record of its own where the person has too many: those are
read when the record says that there may be some. Only persons' records are watched: whoever takes a
claim that was free or another's writes it there. (Redis 6.2 compares each watched key with all
before it, so twice the keys are four times the work: 10 µs a message in a batch of 200,
2026-11-28.)

A person that gave way to another, or has identities which were persons of their own, holds things
in several records, in any shards. `read_others` reads the rest of them; nobody takes anything new
under those, so they need no WATCH.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.core.people.opt_outs import OptOuts, widest
from gateway.core.people.persons import (
    bound_old,
    is_old,
    note_sent,
    overdue,
    still_waits,
    surely_holds_claim,
)
from gateway.core.policy import Policy
from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.message import Message
from gateway.core.records.message_codec import unpack_message
from gateway.core.records.person import DedupeClaim, Person, claim_codec, unpack_person
from gateway.redis.client import Command, RedisClient, RedisReply, Session
from gateway.store.base import StoreBase, read_messages
from gateway.store.keys import Keys, keys_of, shard_of, shard_of_identity
from gateway.store.people import opt_outs
from gateway.store.transaction import values_in
from gateway.store.writes import Writes

NotReadable = NewerRecordError | UnreadableRecordError

WAITED_MS = 10_000  # since it was accepted: from then on a message's person is asked again


class People:
    """The persons of one shard for one try at a batch."""

    def __init__(self, keys: Keys, policy: Policy, now_ms: int) -> None:
        self._keys = keys
        self._policy = policy
        self._now_ms = now_ms
        self._wanted: dict[str, str] = {}  # keys of records: identity
        self._wanted_claims: dict[str, tuple[str, str]] = {}  # keys: identity, campaign
        self._records: dict[str, Person] = {}
        self._before: dict[str, bytes | None] = {}
        # By identity, the claims that stand in records of their own.
        self._apart: defaultdict[str, dict[str, DedupeClaim]] = defaultdict(dict)
        self._changed: set[str] = set()
        self.remembering: set[str] = set()  # of those read, who is known to be reached or not
        self.any_apart = False  # whether one of those read may have claims in records of their own
        # Identities whose records are left alone, and why.
        self.unread: dict[str, NotReadable] = {}

    def ask(self, identity: str) -> None:
        """Notes whom to read."""
        if identity not in self._before:
            self._wanted[self._keys.person(identity)] = identity

    def wanted(self) -> list[str]:
        """The keys of the records that were asked for and are to be read now, to be watched."""
        return list(self._wanted)

    def read(self, keys: Sequence[str], values: Sequence[bytes | None]) -> None:
        """Takes in what stands under keys that were `wanted`."""
        for key, value in zip(keys, values, strict=True):
            identity = self._wanted.pop(key)
            self._before[identity] = value
            if value is None:
                self._records[identity] = Person(apart_ms=0)
                continue
            try:
                person = self._records[identity] = unpack_person(value)
            except NewerRecordError as error:
                self.unread[identity] = error
            except UnreadableRecordError as error:
                self.unread[identity] = error.at(key)
            else:
                if person.channels:
                    self.remembering.add(identity)
                if person.apart_ms is None:
                    person.apart_ms = person.keep_ms
                self.any_apart |= person.apart_ms > self._now_ms
                if is_old(person):
                    bound_old(person, self._policy, self._now_ms)

    def ask_claim(self, identity: str, campaign: str | None) -> None:
        """Notes a claim of a person who was read, if it may be in a record of its own."""
        person = self._records.get(identity)
        if person is None or campaign is None or campaign in person.claims:
            return
        if (person.apart_ms or 0) > self._now_ms:
            self._wanted_claims[self._keys.claim(identity, campaign)] = (identity, campaign)

    def ask_claim_of(self, holder: str, message: Message) -> None:
        """Notes the claim of a message of a person who was read, unless it is known without."""
        person, campaign = self._records.get(holder), message.campaign
        if person is None or campaign is None or campaign in person.claims:
            return
        self.ask_claim(holder, campaign)
        key = self._keys.claim(holder, campaign)
        if key in self._wanted_claims and surely_holds_claim(person, message, self._now_ms):
            del self._wanted_claims[key]
            self._apart[holder][campaign] = person.claims[campaign] = DedupeClaim(message.id)

    async def read_claims(self, session: Session) -> None:
        """Reads the claims that were asked for."""
        if not self._wanted_claims:
            return
        wanted, self._wanted_claims = self._wanted_claims, {}
        (reply,) = await session.call([("MGET", *wanted)])
        for (key, (identity, campaign)), value in zip(
            wanted.items(), values_in(reply), strict=True
        ):
            if value is None or identity in self.unread:
                continue
            try:
                claim = claim_codec.decode(value)
            except NewerRecordError as error:
                self.unread[identity] = error
            except UnreadableRecordError as error:
                self.unread[identity] = error.at(key)
            else:
                self._apart[identity][campaign] = self._records[identity].claims[campaign] = claim

    def __getitem__(self, identity: str) -> Person:
        """Raises NewerRecordError and UnreadableRecordError."""
        if identity in self.unread:
            raise self.unread[identity]
        return self._records[identity]

    def known(self, identity: str) -> Person | None:
        """One of the batch as it stands now, whatever was decided before; None: none of these."""
        return self._records.get(identity)

    def with_slots(self) -> list[Person]:
        """Those who may have reached a cap."""
        return [person for person in self._records.values() if person.slots]

    def change(self, identity: str) -> None:
        """The rules changed this person: it is written, unless it could not be read."""
        if identity not in self.unread:
            self._changed.add(identity)

    def write(self, writes: Writes) -> None:
        nothing: dict[str, DedupeClaim] = {}
        for identity in self._changed:
            person, before = self._records[identity], self._before[identity]
            writes.person(identity, person, before, self._apart.get(identity, nothing))


async def look_after_waiting(store: StoreBase, people: Collection[Person], now_ms: int) -> None:
    """Slots older than a cap's window count there while their messages wait: asks those messages,
    where there are such slots, and notes which were sent meanwhile. One that cannot be read counts
    as waiting."""
    asked = set(overdue(people, store.policy, now_ms)) if people else None
    if not asked:
        return
    records = await read_messages(store, asked)
    sent = {id_ for id_, found in records.items() if not _waits(id_, found.value)}
    for person in people:
        note_sent(person, sent)


def _waits(message_id: str, record: bytes | None) -> bool:
    try:
        return record is not None and still_waits(unpack_message(message_id, record))
    except (NewerRecordError, UnreadableRecordError):
        return True


class Elsewhere(NamedTuple):
    """Who is to be read beside a person's record: what it leads to, and `more`, with claims of
    `campaigns`."""

    person: Person
    campaigns: Sequence[str] = ()
    more: Sequence[str] = ()


async def read_others(
    redis: RedisClient,
    shards: int,
    identity: str,
    person: Person,
    campaigns: Sequence[str] = (),
    more: Sequence[str] = (),
) -> dict[str, Person]:
    """What else the same person may hold something under, its claims of `campaigns`, and `more`.
    Raises NewerRecordError and UnreadableRecordError."""
    asked = {identity: Elsewhere(person, campaigns, more)}
    found = (await read_others_of(redis, shards, asked))[identity]
    if isinstance(found, NotReadable):
        raise found
    return found


async def read_others_of(
    redis: RedisClient, shards: int, asked: Mapping[str, Elsewhere]
) -> dict[str, dict[str, Person] | NotReadable]:
    """What `read_others` says of each, all together; an error stands for who cannot be read."""
    found: dict[str, dict[str, Person]] = {identity: {} for identity in asked}
    faults: dict[str, NotReadable] = {}
    seen = {identity: {identity} for identity in asked}
    todo = {i: [*_next_to(each.person, seen[i]), *each.more] for i, each in asked.items()}
    while todo := {i: list(dict.fromkeys(them)) for i, them in todo.items() if them}:
        pairs = [(identity, other) for identity, them in todo.items() for other in them]
        commands: list[Command] = []
        for identity, other in pairs:
            keys = keys_of(shard_of_identity(other, shards))
            claims = [keys.claim(other, campaign) for campaign in asked[identity].campaigns]
            commands.append(("MGET", keys.person(other), *claims))
        for (identity, other), reply in zip(pairs, await redis.call(commands), strict=True):
            keys, campaigns = keys_of(shard_of_identity(other, shards)), asked[identity].campaigns
            try:
                found[identity][other] = _held_by(keys, other, campaigns, values_in(reply))
            except (NewerRecordError, UnreadableRecordError) as error:
                faults.setdefault(identity, error)
        for identity in faults.keys() & todo.keys():
            del todo[identity]
        for identity, them in todo.items():
            seen[identity].update(them)
            after = [n for each in them for n in _next_to(found[identity][each], seen[identity])]
            todo[identity] = after
    return found | faults


def _held_by(
    keys: Keys, identity: str, campaigns: Sequence[str], values: Sequence[bytes | None]
) -> Person:
    """A person with claims of `campaigns`, from the record and the claims as they stand."""
    key = keys.person(identity)
    try:
        person = unpack_person(values[0])
        for campaign, value in zip(campaigns, values[1:], strict=True):
            if value is not None and campaign not in person.claims:
                key = keys.claim(identity, campaign)
                person.claims[campaign] = claim_codec.decode(value)
    except UnreadableRecordError as error:
        raise error.at(key) from None
    return person


def _next_to(person: Person, seen: set[str]) -> list[str]:
    return [i for i in (*person.former, *([person.home] if person.home else [])) if i not in seen]


async def read_records(
    redis: RedisClient, shards: int, identities: Iterable[str]
) -> dict[str, bytes | None]:
    """The records of identities in any shards, packed, as they stand."""
    return (await _read(redis, shards, identities, ()))[0]


async def read_opt_outs(
    redis: RedisClient, shards: int, addresses: Iterable[str]
) -> dict[str, OptOuts]:
    """The scopes of those among the addresses that opted out, in whatever shards."""
    return (await _read(redis, shards, (), addresses))[1]


async def read_scopes(
    redis: RedisClient, shards: int, messages: Collection[Message], now_ms: int
) -> dict[str, OptOuts]:
    """By message, all that its person opted out of under any identity.

    Where the person was known by more than the message names when it was accepted, or may have
    become so since, the record is read for it; else one round trip does. A record of a newer
    Kaskad, or one that cannot be read, is passed over: what the message itself names is asked all
    the same."""
    people: dict[str, Person] = {}
    opted_out: dict[str, OptOuts] = {}
    asked: set[str] = set()
    may_have = [m for m in messages if m.person or _has_waited(m, now_ms)]
    unread = dict.fromkeys([m.holder for m in may_have if m.holder])
    named = [*addresses_in(unread), *[a for m in messages for a in m.addresses.contacts]]
    while unread or named:
        addresses = dict.fromkeys([a for a in named if a not in asked])
        records, scopes = await _read(redis, shards, unread, addresses)
        opted_out |= scopes
        asked.update(addresses)
        found = [_readable(record) for record in records.values()]
        people.update(zip(records, found, strict=True))
        linked = [p for p in found if p.home or p.aliases]
        unread = dict.fromkeys(p.home for p in linked if p.home and p.home not in people)
        others = addresses_in([i for p in linked for i in (*p.aliases, p.home) if i])
        named = [address for address in others if address not in asked]
    if not opted_out:
        return {}
    told = {m.id: scopes_of(_everybody(m, people), opted_out) for m in messages}
    return {id_: scopes for id_, scopes in told.items() if scopes}


def _has_waited(message: Message, now_ms: int) -> bool:
    """Whether its person may have been joined to somebody since it was accepted. What goes out at
    once is not asked again: it saves the read of a record a message."""
    waited_ms = now_ms - message.created_ms
    return bool(message.current or message.not_before_ms) or waited_ms >= WAITED_MS


def _readable(record: bytes | None) -> Person:
    try:
        return unpack_person(record)
    except (NewerRecordError, UnreadableRecordError):
        return Person()


def _everybody(message: Message, people: Mapping[str, Person]) -> list[str]:
    """The addresses of a message's person."""
    identities: list[str] = []
    identity = message.holder if message.holder in people else ""
    seen: set[str] = set()
    while identity and identity not in seen:
        seen.add(identity)
        identities += [identity, *people[identity].aliases]
        identity = people[identity].home
    return [*message.addresses.contacts, *addresses_in(identities)]


def take_opt_outs(
    addresses: Iterable[str], values: Sequence[bytes | None], found: dict[str, OptOuts]
) -> list[str]:
    """Takes in what stands under addresses; returns those under which nothing does."""
    if not any(values):  # as almost always
        return list(addresses)
    unknown = []
    for address, value in zip(addresses, values, strict=True):
        if value is None:
            unknown.append(address)
        else:
            found[address] = opt_outs.scopes_in(value)
    return unknown


def addresses_in(identities: Iterable[str]) -> list[str]:
    """Those of the identities that a person can opt out by, as they stand in the opt-outs."""
    return [identity[2:] for identity in identities if not identity.startswith("u:")]


def scopes_of(addresses: Iterable[str], opted_out: Mapping[str, OptOuts]) -> OptOuts:
    """All that the person of these addresses opted out of."""
    return widest(opted_out[address] for address in addresses if address in opted_out)


async def _read(
    redis: RedisClient, shards: int, identities: Iterable[str], addresses: Iterable[str]
) -> tuple[dict[str, bytes | None], dict[str, OptOuts]]:
    """Records, packed, and the opt-outs there are, of whatever shards in one round trip."""
    records: defaultdict[int, list[str]] = defaultdict(list)
    for identity in identities:
        records[shard_of_identity(identity, shards)].append(identity)
    scopes: defaultdict[int, list[str]] = defaultdict(list)
    for address in addresses:
        scopes[shard_of(address, shards)].append(address)
    commands: list[Command] = [
        ("MGET", *(keys_of(shard).person(i) for i in members)) for shard, members in records.items()
    ]
    for shard, members in scopes.items():
        commands.append(("HMGET", keys_of(shard).opt_outs, *members))
        commands.append(("GET", keys_of(shard).opt_outs_mark))
    if not commands:
        return {}, {}
    replies = await redis.call(commands)
    found = {
        identity: value
        for members, reply in zip(records.values(), replies, strict=False)
        for identity, value in zip(members, values_in(reply), strict=True)
    }
    opted_out: dict[str, OptOuts] = {}
    unknown: list[str] = []
    key: RedisReply = None  # the same under every shard's mark
    rest = iter(replies[len(records) :])
    for members, reply, mark in zip(scopes.values(), rest, rest, strict=True):
        nothing = take_opt_outs(members, values_in(reply), opted_out)
        if mark is not None:
            unknown, key = [*unknown, *nothing], mark
    if key is not None:
        opted_out |= await opt_outs.of_the_erased(redis, shards, unknown, key)
    return found, opted_out
