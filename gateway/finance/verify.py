"""Does the bill add up: the ledger, added up again, against the running totals.

Owns the comparison, both ways: what is booked and not in the totals, and what is in the totals
and was never booked. Sound under live traffic, because each day's totals are read in one
transaction with the ledger's end at that moment, and later entries do not count for that day.
Shards are compared one by one, so that two faults cannot cancel out. It repairs nothing. It holds
the sums of one shard at a time and, for the time Redis needs to list one day of one shard, keeps
that node busy. Raises StoreUnavailable, LedgerFault.
"""

from __future__ import annotations

import datetime

import msgspec

from gateway.core.effects import MEASURES, Group
from gateway.finance.ledger import (
    EntryId,
    as_list,
    entry_id,
    pairs,
    read_ledger,
    total_rows,
)
from gateway.redis.client import Command, Link
from gateway.store.keys import Keys, keys_of
from gateway.store.writes import day_of

Sums = dict[tuple[datetime.date, Group, str], int]

_NOTHING_BOOKED: EntryId = (0, 0)


class Difference(msgspec.Struct, frozen=True):
    """A total that is not the sum of its bookings; amounts and counts as the ledger books them."""

    day: datetime.date
    group: Group
    measure: str
    ledger: int
    totals: int
    shard: int


class Verdict(msgspec.Struct, frozen=True):
    """`entries` and `posts` were added up; `differences` are sorted by day, group, measure."""

    entries: int
    posts: int
    differences: tuple[Difference, ...]

    @property
    def agrees(self) -> bool:
        return not self.differences


async def verify(link: Link, shards: int) -> Verdict:
    """Compares every shard's ledger with its totals, from the first booking to this moment."""
    entries = posts = 0
    differences: list[Difference] = []
    for shard in range(shards):
        verdict = await _verify_shard(link, shard)
        entries += verdict.entries
        posts += verdict.posts
        differences += verdict.differences
    differences.sort(key=_order)
    return Verdict(entries, posts, tuple(differences))


async def _verify_shard(link: Link, shard: int) -> Verdict:
    keys = keys_of(shard)
    entries = posts = 0
    ledger: Sums = {}
    totals: Sums = {}
    days, end = await _days(link, keys)
    ends = {day: await _add_totals(link, keys, day, totals) for day in days}
    async for id_, entry in read_ledger(link, keys, max([end, *ends.values()])):
        day = day_of(entry.at_ms)
        # A day without totals counts as far as it was booked before the days were listed.
        if id_ > ends.get(day, end):
            continue
        entries += 1
        posts += len(entry.posts)
        for post in entry.posts:
            for measure, amount in post.measures.items():
                _add(ledger, (day, post.group, measure), amount)
    differences = tuple(
        Difference(*key, ledger=booked, totals=kept, shard=shard)
        for key in ledger.keys() | totals.keys()
        if (booked := ledger.get(key, 0)) != (kept := totals.get(key, 0))
    )
    return Verdict(entries, posts, differences)


async def _days(link: Link, keys: Keys) -> tuple[list[datetime.date], EntryId]:
    """The days with totals, and the ledger's end at that moment."""
    days, end = await _with_end(link, keys, ("SMEMBERS", keys.days))
    return sorted(datetime.date.fromisoformat(day.decode()) for day in days), end


async def _add_totals(link: Link, keys: Keys, day: datetime.date, totals: Sums) -> EntryId:
    fields, end = await _with_end(link, keys, ("HGETALL", keys.totals(day.isoformat())))
    for row in total_rows(keys, day, pairs(fields)):
        _add(totals, (row.day, row.group, row.measure), row.amount)
    return end


async def _with_end(link: Link, keys: Keys, command: Command) -> tuple[list[bytes], EntryId]:
    """What one command answers, and the id of the newest ledger entry at that same moment."""
    newest = ("XREVRANGE", keys.ledger, "+", "-", "COUNT", 1)
    replies = await link.call([("MULTI",), newest, command, ("EXEC",)])
    found, answer = as_list(replies[-1])
    return as_list(answer), entry_id(found[0][0]) if found else _NOTHING_BOOKED


def _add(sums: Sums, key: tuple[datetime.date, Group, str], amount: int) -> None:
    sums[key] = sums.get(key, 0) + amount


def _order(difference: Difference) -> tuple[datetime.date, Group, int, int]:
    place = MEASURES.index(difference.measure)
    return difference.day, difference.group, place, difference.shard
