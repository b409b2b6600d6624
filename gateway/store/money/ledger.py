"""The ledger as it was booked, beside the totals that should be its sums.

One stream a shard, append-only. `gateway.store.writes` books; here it is read, in pages. Raises
RedisUnavailable, and `LedgerFault` for a record this version cannot read.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol

import msgspec

from gateway.core.archive.manifest import EntryId, entry_id, entry_text
from gateway.core.records.codec import NewerRecordError
from gateway.core.records.entries import Group, LedgerEntry, ledger_codec
from gateway.redis.client import Command, RedisClient
from gateway.redis.replies import as_list, pairs
from gateway.store.compression import unpack
from gateway.store.former_shards import shards_ever
from gateway.store.keys import Keys, keys_of
from gateway.store.money.checkpoints import NOTHING_BOOKED, Checkpoint
from gateway.store.money.totals import Aside, LedgerFault, at_once, total_rows
from gateway.store.writes import BLOB_FIELD

ENTRIES_A_PAGE = 100  # each is one commit's bookings
CLOCKS_DIFFER_MS = 3_600_000  # of processes that book, at most
_LAST_OF_MS = 2**64 - 1

Sums = dict[tuple[datetime.date, Group, str], int]


class Reached(Protocol):
    """How far an archive reaches."""

    async def through(self, shard: int) -> EntryId:
        """Up to which entry everything is archived."""


class Archived(Reached, Protocol):
    """What an archive says of the ledger."""

    def entries(
        self, shard: int, since: EntryId, until: EntryId
    ) -> AsyncGenerator[tuple[EntryId, LedgerEntry], None]:
        """Its entries after `since` up to and with `until`, in the order of booking."""


class ShardBooks(msgspec.Struct, frozen=True):
    """One shard's totals, and the ledger entries they should be the sums of.

    Each day's totals were read together with the ledger's end at that moment, `ends[day]`: later
    entries of that day are not in them. `end` is the ledger's end when the days were listed, which
    holds for every other day. `entries` begin after the checkpoint `since`.
    """

    shard: int
    totals: Sums
    ends: dict[datetime.date, EntryId]
    end: EntryId
    entries: AsyncIterator[tuple[EntryId, LedgerEntry]]
    since: Checkpoint


async def read_books(
    redis: RedisClient,
    shards: int,
    since: Mapping[int, Checkpoint] | None = None,
    archived: Archived | None = None,
) -> AsyncGenerator[ShardBooks, None]:
    """The books of one shard after the other, of all there ever were; `entries` is to be read
    before the next is asked for. They begin after the shard's checkpoint in `since`, or with the
    first, in the archive where there is one.

    Listing one day of one shard keeps its node busy for that time.
    """
    for shard in await shards_ever(redis, shards):
        keys = keys_of(shard)
        totals: Sums = {}
        days, end = await _with_end(redis, keys, ("SMEMBERS", keys.days))
        ends = {}
        for day in sorted(datetime.date.fromisoformat(day.decode()) for day in days):
            hash_ = keys.totals(day.isoformat())
            fields, ends[day] = await _with_end(redis, keys, ("HGETALL", hash_))
            for row in total_rows(keys, day, pairs(fields)):
                # A total whose name was written in two schemas counts in both.
                total = row.day, row.group, row.measure
                totals[total] = totals.get(total, 0) + row.amount
        until = max([end, *ends.values()])
        start = (since or {}).get(shard, Checkpoint())
        entries = entries_after(redis, shard, start.until, until, archived)
        yield ShardBooks(shard, totals, ends, end, entries, start)


async def _with_end(
    redis: RedisClient, keys: Keys, command: Command
) -> tuple[list[bytes], EntryId]:
    """What one command answers, and the id of the newest ledger entry at that same moment: a
    transaction, where something was booked meanwhile, which a full Redis refuses."""
    newest = ("XREVRANGE", keys.ledger, "+", "-", "COUNT", 1)
    (before,) = await redis.call([newest])
    (answer,) = await redis.call([command])
    (found,) = await redis.call([newest])
    if found != before:
        replies = await redis.call([("MULTI",), newest, command, ("EXEC",)])
        found, answer = as_list(replies[-1])
    first = as_list(found)
    return as_list(answer), entry_id(first[0][0].decode()) if first else NOTHING_BOOKED


class TrimmedError(Exception):
    """What comes next is not in Redis any more, but in the archive, up to and with `through`."""

    def __init__(self, through: EntryId) -> None:
        super().__init__()
        self.through = through


async def entries_after(
    redis: RedisClient,
    shard: int,
    since: EntryId,
    until: EntryId,
    archived: Archived | None = None,
) -> AsyncGenerator[tuple[EntryId, LedgerEntry], None]:
    """One shard's entries after `since` up to and with `until`, in the order of booking: from the
    archive what it has, and from Redis what comes behind."""
    while True:
        try:
            pages = pages_of_entries(redis, shard, since, until, archived=archived)
            async with aclosing(pages):
                async for page in pages:
                    for booked in page:
                        yield booked
                        since = booked[0]
            return
        except TrimmedError as trimmed:
            assert archived is not None
            end = min(trimmed.through, until)
            async with aclosing(archived.entries(shard, since, end)) as found:
                async for booked in found:
                    yield booked
            since = end


async def pages_of_entries(
    redis: RedisClient,
    shard: int,
    since: EntryId,
    until: EntryId | None = None,
    aside: Aside = at_once,
    archived: Reached | None = None,
) -> AsyncGenerator[list[tuple[EntryId, LedgerEntry]], None]:
    """One shard's entries in Redis after `since` up to and with `until` (None: the last), in the
    order of booking; they are decoded `aside`. Raises TrimmedError where the next ones are
    `archived`; it may do so after any page, since the archive takes more meanwhile."""
    keys, last = keys_of(shard), "+" if until is None else entry_text(until)
    while until is None or since < until:
        span = (f"({entry_text(since)}", last, "COUNT", ENTRIES_A_PAGE)
        (reply,) = await redis.call([("XRANGE", keys.ledger, *span)])
        page = as_list(reply)
        # Asked afterwards: what is taken out in between was read, and is read again.
        if archived is not None and await _oldest(redis, keys) > since:
            through = await archived.through(shard)
            if through > since:
                raise TrimmedError(through)
        yield await aside(partial(_decoded, keys, page))
        if len(page) < ENTRIES_A_PAGE:
            return
        since = entry_id(page[-1][0].decode())


async def _oldest(redis: RedisClient, keys: Keys) -> EntryId:
    (found,) = await redis.call([("XRANGE", keys.ledger, "-", "+", "COUNT", 1)])
    first = as_list(found)
    return entry_id(first[0][0].decode()) if first else NOTHING_BOOKED


async def before_first_since(redis: RedisClient, keys: Keys, at_ms: int) -> EntryId | None:
    """A place in one shard's ledger: what was booked at `at_ms` or later stands behind it. None:
    nothing was.

    Entries stand in the order of Redis' clock and name the moment by the clock of who booked, so
    the place is found by halving, with room for clocks that differ by CLOCKS_DIFFER_MS.
    """
    sought_ms = at_ms - 2 * CLOCKS_DIFFER_MS
    first_one = ("XRANGE", keys.ledger, "-", "+", "COUNT", 1)
    last_one = ("XREVRANGE", keys.ledger, "+", "-", "COUNT", 1)
    ends = await redis.call([first_one, last_one])
    first, newest = (_decoded(keys, as_list(end)) for end in ends)
    if not newest or newest[0][1].at_ms < sought_ms:
        return None
    low, high, place = first[0][0][0], newest[0][0][0], NOTHING_BOOKED
    while low < high:
        middle = (low + high) // 2
        span = (f"{middle}-0", "+", "COUNT", 1)
        (reply,) = await redis.call([("XRANGE", keys.ledger, *span)])
        ((found, entry),) = _decoded(keys, as_list(reply))
        if entry.at_ms < sought_ms:
            low, place = found[0] + 1, found
        else:
            high = middle
    return place


def before(entry_ms: int, entry: int) -> EntryId:
    """The place right before an entry."""
    return (entry_ms, entry - 1) if entry else (entry_ms - 1, _LAST_OF_MS)


def _decoded(keys: Keys, page: Sequence[Any]) -> list[tuple[EntryId, LedgerEntry]]:
    return [(entry_id(id_.decode()), _entry(keys, id_, fields)) for id_, fields in page]


def _entry(keys: Keys, id_: bytes, fields: list[bytes]) -> LedgerEntry:
    place = f"Entry {id_.decode()} of {keys.ledger}"
    try:
        return ledger_codec.decode(unpack(dict(pairs(fields))[BLOB_FIELD]))
    except (msgspec.DecodeError, KeyError) as error:
        raise LedgerFault(f"{place} cannot be read: {error!r}.") from None
    except NewerRecordError as error:
        raise LedgerFault(f"{place} cannot be read. {error}") from None
