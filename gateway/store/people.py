"""The persons of one batch: asked for by identity, read with their claims, changed by the rules,
written with what changed.

Only the records are watched, not the claims: whoever takes a claim that was free or another's
writes the record too. (Redis 6.2 compares each watched key with all before it, so twice the keys
are four times the work: 10 µs a message in a batch of 200, 2026-11-28.)

A person that gave way to another, or has identities which were persons of their own, holds things
in several records, in any shards. `read_others` reads the rest of them; nobody takes anything new
under those, so they need no WATCH.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from gateway.core.persons import bound_old, is_old
from gateway.core.policy import OptOut, Policy
from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.person import DedupeClaim, Person, claim_codec, unpack_person
from gateway.redis.client import Command, RedisClient
from gateway.store.keys import Keys, keys_of, shard_of, shard_of_identity
from gateway.store.transaction import values_in
from gateway.store.writes import Writes

_OPT_OUTS: dict[bytes, OptOut] = {b"marketing": "marketing", b"all": "all"}


def opt_out_of(scope: bytes) -> OptOut:
    """The scope of an opt-out; one that cannot be read counts as the widest."""
    return _OPT_OUTS.get(scope, "all")


class People:
    """The persons of one shard for one try at a batch."""

    def __init__(self, keys: Keys, policy: Policy, now_ms: int) -> None:
        self._keys = keys
        self._policy = policy
        self._now_ms = now_ms
        self._wanted: dict[str, tuple[str, str | None]] = {}  # key: identity, campaign of a claim
        self._known: set[str] = set()  # keys that were read
        self._records: dict[str, Person] = {}
        self._before: dict[str, bytes | None] = {}
        self._kept: defaultdict[str, dict[str, DedupeClaim]] = defaultdict(dict)
        self._changed: set[str] = set()
        # Identities whose records are left alone, and why.
        self.unread: dict[str, NewerRecordError | UnreadableRecordError] = {}

    def ask(self, identity: str, campaigns: Iterable[str | None] = ()) -> None:
        """Notes whom to read, and which claims."""
        for campaign in (None, *campaigns):
            key = self._keys.person(identity)
            if campaign is not None:
                key = self._keys.claim(identity, campaign)
            if key not in self._known:
                self._wanted[key] = (identity, campaign)

    def wanted(self) -> tuple[list[str], list[str]]:
        """The keys that were asked for and are to be read now: records, to be watched, and
        claims."""
        records = [key for key, (_, campaign) in self._wanted.items() if campaign is None]
        return records, [key for key in self._wanted if self._wanted[key][1] is not None]

    def read(self, keys: Sequence[str], values: Sequence[bytes | None]) -> None:
        """Takes in what stands under keys that were `wanted`, the records first."""
        for key, value in zip(keys, values, strict=True):
            identity, campaign = self._wanted.pop(key)
            self._known.add(key)
            try:
                if campaign is None:
                    self._read_record(identity, value)
                elif value is not None:
                    self._read_claim(identity, campaign, value)
            except NewerRecordError as error:
                self.unread[identity] = error
            except UnreadableRecordError as error:
                self.unread[identity] = error.at(key)

    def _read_claim(self, identity: str, campaign: str, value: bytes) -> None:
        if identity not in self.unread:
            claim = self._kept[identity][campaign] = claim_codec.decode(value)
            self._records[identity].claims[campaign] = claim

    def _read_record(self, identity: str, value: bytes | None) -> None:
        self._before[identity] = value
        person = self._records[identity] = unpack_person(value)
        if is_old(person):
            bound_old(person, self._policy, self._now_ms)

    def __getitem__(self, identity: str) -> Person:
        """Raises NewerRecordError and UnreadableRecordError."""
        if identity in self.unread:
            raise self.unread[identity]
        return self._records[identity]

    def change(self, identity: str) -> None:
        """The rules changed this person: it is written, unless it could not be read."""
        if identity not in self.unread:
            self._changed.add(identity)

    def write(self, writes: Writes) -> None:
        for identity in self._changed:
            person, before = self._records[identity], self._before[identity]
            writes.person(identity, person, before, self._kept[identity])


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
    found: dict[str, Person] = {}
    seen = {identity}
    todo = list(dict.fromkeys((*_next_to(person, seen), *more)))
    while todo:
        commands: list[Command] = []
        for other in todo:
            keys = keys_of(shard_of_identity(other, shards))
            claims = [keys.claim(other, campaign) for campaign in campaigns]
            commands.append(("MGET", keys.person(other), *claims))
        for other, reply in zip(todo, await redis.call(commands), strict=True):
            keys = keys_of(shard_of_identity(other, shards))
            found[other] = _held_by(keys, other, campaigns, values_in(reply))
        seen.update(todo)
        todo = [n for other in todo for n in _next_to(found[other], seen)]
        todo = list(dict.fromkeys(todo))
    return found


def _held_by(
    keys: Keys, identity: str, campaigns: Sequence[str], values: Sequence[bytes | None]
) -> Person:
    """A person with claims of `campaigns`, from the record and the claims as they stand."""
    key = keys.person(identity)
    try:
        person = unpack_person(values[0])
        for campaign, value in zip(campaigns, values[1:], strict=True):
            if value is not None:
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
    by_shard: defaultdict[int, list[str]] = defaultdict(list)
    for identity in identities:
        by_shard[shard_of_identity(identity, shards)].append(identity)
    replies = await redis.call(
        [
            ("MGET", *(keys_of(shard).person(i) for i in members))
            for shard, members in by_shard.items()
        ]
    )
    return {
        identity: value
        for members, reply in zip(by_shard.values(), replies, strict=True)
        for identity, value in zip(members, values_in(reply), strict=True)
    }


async def read_opt_outs(
    redis: RedisClient, shards: int, addresses: Iterable[str]
) -> dict[str, OptOut]:
    """The scopes of those among the addresses that opted out, in whatever shards."""
    by_shard: defaultdict[int, list[str]] = defaultdict(list)
    for address in addresses:
        by_shard[shard_of(address, shards)].append(address)
    if not by_shard:
        return {}
    replies = await redis.call(
        [("HMGET", keys_of(shard).opt_outs, *members) for shard, members in by_shard.items()]
    )
    return {
        address: opt_out_of(scope)
        for members, reply in zip(by_shard.values(), replies, strict=True)
        for address, scope in zip(members, values_in(reply), strict=True)
        if scope is not None
    }
