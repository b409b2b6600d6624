"""Does the bill add up: the ledger, added up again, against the running totals.

Compared both ways: what is booked and not in the totals, and what is in the totals and was never
booked. Sound under live traffic, because `store.money.ledger` tells with each day's totals where
the ledger ended at that moment, and later entries do not count for that day. Shards are compared
one by one, so that two faults cannot cancel out. Where totals have campaigns that they do not keep
apart ("(other)"), those of one group and measure are compared together. It repairs nothing, and
holds the sums of one shard at a time. What the reading raises passes unchanged.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress

import msgspec

from gateway.core.archive.manifest import EntryId
from gateway.core.effects import MEASURES
from gateway.core.money.days import UTC_DAYS, Days
from gateway.core.records.entries import OTHER_CAMPAIGNS, Group
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisUnavailable
from gateway.store.money.checkpoints import (
    Checkpoint,
    keep_checkpoints,
    read_checkpoints,
)
from gateway.store.money.ledger import Archived, ShardBooks, Sums, read_books

OPEN_DAYS = 2  # the newest day and the one before: clocks differ around midnight


class Difference(msgspec.Struct, frozen=True):
    """A total that is not the sum of its bookings; amounts and counts as the ledger books them."""

    day: datetime.date
    group: Group
    measure: str
    ledger: int
    totals: int
    shard: int


class Verdict(msgspec.Struct, frozen=True):
    """`entries` and `posts` were added up; `differences` are sorted by day, group, measure.
    `checkpoints` say by shard where the next comparison may begin, if this one agrees; `changed`:
    the totals of a day behind the last one are not what they were."""

    entries: int
    posts: int
    differences: tuple[Difference, ...]
    checkpoints: dict[int, Checkpoint] = {}
    changed: bool = False

    @property
    def agrees(self) -> bool:
        return not self.differences


async def verify_ledger(
    redis: RedisClient,
    shards: int,
    *,
    full: bool,
    days: Days = UTC_DAYS,
    archived: Archived | None = None,
) -> Verdict:
    """Compares from the last checkpoints on, or all with `full`, and leaves new ones when all is
    well. Where something is not, or has changed behind a checkpoint, all is compared."""
    since = {} if full else await read_checkpoints(redis, shards)
    verdict = await compare_books(read_books(redis, shards, since, archived), days)
    if since and (verdict.changed or not verdict.agrees):
        verdict = await compare_books(read_books(redis, shards, archived=archived), days)
    if verdict.agrees:
        with suppress(RedisUnavailable):  # a full one keeps none: next time begins where this did
            await keep_checkpoints(redis, verdict.checkpoints)
    return verdict


async def compare_books(books: AsyncGenerator[ShardBooks, None], days: Days = UTC_DAYS) -> Verdict:
    """Compares every shard's ledger with its totals, from the checkpoint to the reading."""
    entries = posts = 0
    differences: list[Difference] = []
    checkpoints: dict[int, Checkpoint] = {}
    changed = False
    async with aclosing(books):
        async for shard in books:
            verdict = await _compare_shard(shard, days)
            entries += verdict.entries
            posts += verdict.posts
            differences += verdict.differences
            checkpoints |= verdict.checkpoints
            changed = changed or verdict.changed
    differences.sort(key=_order)
    return Verdict(entries, posts, tuple(differences), checkpoints, changed)


class _Seen(msgspec.Struct, frozen=True):
    """Where a day's bookings lie: after `before`, and up to `last`."""

    before: EntryId
    last: EntryId


async def _compare_shard(books: ShardBooks, days: Days) -> Verdict:
    entries = posts = 0
    ledger: Sums = {}
    seen: dict[datetime.date, _Seen] = {}
    latest = books.since.until
    async for id_, entry in books.entries:
        day = days.of(entry.at_ms)
        seen[day] = _Seen(seen[day].before if day in seen else latest, id_)
        latest = id_
        # A day without totals counts as far as it was booked before the days were listed.
        if id_ > books.ends.get(day, books.end):
            continue
        entries += 1
        posts += len(entry.posts)
        for post in entry.posts:
            for measure, amount in post.measures.items():
                key = day, post.group, measure
                ledger[key] = ledger.get(key, 0) + amount
    digests = _digests(books.totals)
    behind = books.since.days
    changed = any(digests.get(day) != digest for day, digest in behind.items())
    totals = {key: amount for key, amount in books.totals.items() if key[0] not in behind}
    found = _differences(books.shard, ledger, totals)
    checkpoint = _checkpoint(books.since, seen, digests)
    return Verdict(entries, posts, found, {books.shard: checkpoint}, changed)


def _checkpoint(
    since: Checkpoint, seen: Mapping[datetime.date, _Seen], digests: Mapping[datetime.date, bytes]
) -> Checkpoint:
    """Behind it are the days that are over, as far as no booking of another lies among theirs."""
    if not seen:
        return since
    newest = max(seen)
    still_open = {day for day in seen if (newest - day).days < OPEN_DAYS}
    while True:
        until = min(seen[day].before for day in still_open)
        late = {day for day in seen if day not in still_open and seen[day].last > until}
        if not late:
            break
        still_open |= late
    over = (seen.keys() - still_open) | since.days.keys()
    return Checkpoint(until, {day: digests[day] for day in over if day in digests})


def _digests(totals: Sums) -> dict[datetime.date, bytes]:
    """Of each day's totals."""
    days: dict[datetime.date, list[tuple[Group, str, int]]] = {}
    for (day, group, measure), amount in totals.items():
        days.setdefault(day, []).append((group, measure, amount))
    return {
        day: hashlib.sha256(msgspec.msgpack.encode(sorted(rows))).digest()
        for day, rows in days.items()
    }


def _differences(shard: int, ledger: Sums, totals: Sums) -> tuple[Difference, ...]:
    folded = {key for key in totals if key[1].campaign == OTHER_CAMPAIGNS}
    booked_sums: Sums = {}
    kept_sums: Sums = {}
    for key in ledger.keys() | totals.keys():
        booked, kept = ledger.get(key, 0), totals.get(key, 0)
        if booked == kept:
            continue
        day, group, measure = key
        others = day, group.among_others, measure
        under = others if others in folded else key
        booked_sums[under] = booked_sums.get(under, 0) + booked
        kept_sums[under] = kept_sums.get(under, 0) + kept
    return tuple(
        Difference(*key, ledger=booked, totals=kept_sums[key], shard=shard)
        for key, booked in booked_sums.items()
        if booked != kept_sums[key]
    )


def _order(difference: Difference) -> tuple[datetime.date, Group, int, int]:
    place = MEASURES.index(difference.measure)
    return difference.day, difference.group, place, difference.shard
