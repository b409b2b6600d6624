"""What is declared of campaigns: kept in one hash, read by every process, with what came of each.

A version number says whether anything changed, so that a process asks for one number a second. It
reads all of it before its first decision. How many messages of a campaign are in which state is
counted by the transactions that change them, in each shard; recipients are reserved before they are
decided where their number is bounded, so that no process exceeds it. A process that dies in
between leaves a few places unused; one that could not decide looks later what came of it.

A value that another version wrote and this one cannot read counts as a campaign that is paused, and
is not changed; of one that can be read, what this version does not know is kept.
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from gateway.core.campaigns.campaign_words import hash_of
from gateway.core.campaigns.campaigns import Campaign, Declared
from gateway.redis.client import Command, RedisClient, Session
from gateway.redis.replies import as_list, pairs, whole
from gateway.store import randomness, shared_keys
from gateway.store.events import outbox
from gateway.store.former_shards import shards_ever
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.keys import keys_of
from gateway.store.transaction import CommitCounts, commit, values_in

UNREADABLE = Campaign(state="paused")
VERSION_FIELD, HOLDOUT_FIELD = "version", "holdout_key"
DOUBTS_MAX = 1_000
# How long they count as known: a pause holds within 2 s. Each process looks twice a second.
KNOWN_MS = 1_500
KNOWN_EVERYWHERE_MS = 3_000  # after so long every process at work has looked
MONEY = COST, BILLED = "cost", "billed"  # beside the states, in 1e-6 units

_NOT_READABLE = (msgspec.DecodeError, UnicodeDecodeError)

_decode = msgspec.json.Decoder(Campaign).decode
_decode_any = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode

# A campaign and, as `campaign_words` packs them, its words: as they were, and as they are to be.
DecideCampaign = Callable[[Campaign | None, bytes], tuple[Campaign, bytes]]


class UnreadableDeclarationError(Exception):
    """What stands there was written by a version whose declarations this one cannot read."""


class RecipientsInDoubt(NamedTuple):
    """Places for recipients, by campaign, of requests that could not be decided, and the messages
    that may have come of them, with their campaigns."""

    since_ms: int
    places: dict[str, int]
    tried: dict[str, str | None]


class Declarations:
    """What one process knows of them; of too many doubts the oldest are forgotten, and their places
    stay taken."""

    def __init__(self) -> None:
        self.loaded = False
        self.looked_ms = 0
        self.doubts: deque[RecipientsInDoubt] = deque(maxlen=DOUBTS_MAX)
        self._version: bytes | None = None
        self.declared = Declared()

    def are_known(self, now_ms: int) -> bool:
        """Whether they were looked at lately enough to decide by them."""
        return self.loaded and 0 <= now_ms - self.looked_ms < KNOWN_MS

    async def look(self, redis: RedisClient, now_ms: int) -> bool:
        """Reads them where they changed; whether they did. Raises RedisUnavailable."""
        (version,) = await redis.call([("HGET", shared_keys.CAMPAIGNS_META, VERSION_FIELD)])
        assert version is None or isinstance(version, bytes)
        changed = version != self._version
        if changed:
            meta, found = await redis.call(
                [("HGETALL", shared_keys.CAMPAIGNS_META), ("HGETALL", shared_keys.CAMPAIGNS)]
            )
            told = dict(pairs(as_list(meta)))
            campaigns = {
                name: read(v) for n, v in pairs(as_list(found)) if (name := _name_in(n)) is not None
            }
            self.declared = Declared(campaigns, told.get(HOLDOUT_FIELD.encode(), b""))
            self._version = told.get(VERSION_FIELD.encode())
        self.loaded, self.looked_ms = True, now_ms
        return changed


async def change(
    redis: RedisClient,
    shards: int,
    name: str,
    decide: DecideCampaign,
    deed: Callable[[Campaign], Deed],
) -> Campaign:
    """Puts what `decide` says of a campaign in its place, with its words, and notes the deed; a
    campaign that `decide` gives back as it was is left. Where recipients are bounded, those there
    are have a place. Raises RedisUnavailable, UnreadableDeclarationError, and what `decide`
    raises."""
    token = shared_keys.installation_token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], Campaign]:
        _, value, words = await session.call(
            [
                ("WATCH", token, shared_keys.CAMPAIGNS),
                ("HGET", shared_keys.CAMPAIGNS, name),
                ("HGET", shared_keys.CAMPAIGN_WORDS, name),
            ]
        )
        assert value is None or isinstance(value, bytes)
        before, kept = _to_change(value)
        after, said = decide(before, words if isinstance(words, bytes) else b"")
        if after is before:
            return [], after
        after = replace(after, words=hash_of(said))
        commands: list[Command] = [
            ("HSETNX", shared_keys.CAMPAIGNS_META, HOLDOUT_FIELD, secrets.token_bytes(32)),
            ("HINCRBY", shared_keys.CAMPAIGNS_META, VERSION_FIELD, 1),
            ("HSET", shared_keys.CAMPAIGNS, name, _encode(kept | msgspec.to_builtins(after))),
            audit.command(deed(after)),
        ]
        if said:
            commands.append(("HSET", shared_keys.CAMPAIGN_WORDS, name, said))
        else:
            commands.append(("HDEL", shared_keys.CAMPAIGN_WORDS, name))
        if before is None or before.state != after.state:
            said_of = {"name": name, "state": after.state, "updated_by": after.updated_by}
            event = f"campaign.{after.state}"
            commands += await outbox.about(redis, event, after.updated_ms, said_of)
        if after.recipients_max is not None:
            accepted = (await counts(redis, shards, [name]))[name]["accepted"]
            lacking = accepted - await taken(redis, name)
            if lacking > 0:
                commands.append(("HINCRBY", shared_keys.RECIPIENTS, name, lacking))
        return commands, after

    return await commit(redis, token, attempt, CommitCounts())


async def words(redis: RedisClient, names: Sequence[str]) -> dict[str, bytes]:
    """What each campaign says, packed; those that say nothing are left out. Raises
    RedisUnavailable."""
    if not names:
        return {}
    (found,) = await redis.call([("HMGET", shared_keys.CAMPAIGN_WORDS, *names)])
    packed = zip(names, values_in(found), strict=True)
    return {name: each for name, each in packed if each is not None}


async def counts(redis: RedisClient, shards: int, names: Sequence[str]) -> dict[str, Counter[str]]:
    """How many messages of each campaign there are in each state, and under COST and BILLED what
    they cost and were billed; a count that cannot be read is 0. Raises RedisUnavailable."""
    ever = await shards_ever(redis, shards)
    asked = [(name, keys_of(shard).campaign_counts(name)) for name in names for shard in ever]
    totals = {name: Counter[str]() for name in names}
    if not asked:
        return totals
    replies = await redis.call([("HGETALL", key) for _, key in asked])
    for (name, _), found in zip(asked, replies, strict=True):
        for field, count in pairs(as_list(found)):
            totals[name][field.decode(errors="replace")] += whole(count) or 0
    return totals


async def reserve(redis: RedisClient, name: str, wanted: int, most: int) -> int:
    """Places for recipients, as many of those wanted as there are. Raises RedisUnavailable."""
    (taken,) = await redis.call([("HINCRBY", shared_keys.RECIPIENTS, name, wanted)])
    assert isinstance(taken, int)
    granted = max(min(wanted, most - (taken - wanted)), 0)
    await give_back(redis, name, wanted - granted)
    return granted


async def taken(redis: RedisClient, name: str) -> int:
    """How many places for recipients are taken. Raises RedisUnavailable."""
    (count,) = await redis.call([("HGET", shared_keys.RECIPIENTS, name)])
    return int(count) if isinstance(count, bytes) else 0


async def give_back(redis: RedisClient, name: str, unused: int) -> None:
    """Places that were not needed. Raises RedisUnavailable."""
    if unused:
        await redis.call([("HINCRBY", shared_keys.RECIPIENTS, name, -unused)])


def read(value: bytes) -> Campaign:
    """A campaign as it stands there."""
    try:
        return _decode(value)
    except _NOT_READABLE:
        return UNREADABLE


def _name_in(field: bytes) -> str | None:
    """None of what is no name: no message can be of such a campaign."""
    try:
        return field.decode()
    except UnicodeDecodeError:
        return None


def _to_change(value: bytes | None) -> tuple[Campaign | None, dict[str, msgspec.Raw]]:
    """What is declared, and beside it what a newer version said. Raises
    UnreadableDeclarationError."""
    if value is None:
        return None, {}
    try:
        before, said = _decode(value), _decode_any(value)
    except _NOT_READABLE as error:
        raise UnreadableDeclarationError from error
    known = Campaign.__struct_fields__
    return before, {key: raw for key, raw in said.items() if key not in known}
