"""Does the bill add up: the ledger, added up again, against the running totals.

Compared both ways: what is booked and not in the totals, and what is in the totals and was never
booked. Sound under live traffic, because `store.ledger` tells with each day's totals where the
ledger ended at that moment, and later entries do not count for that day. Shards are compared one by
one, so that two faults cannot cancel out. It repairs nothing, and holds the sums of one shard at a
time. What the reading raises passes unchanged.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from gateway.core.effects import MEASURES
from gateway.core.records.entries import Group
from gateway.core.timing import day_of
from gateway.store.ledger import ShardBooks, Sums


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


async def compare_books(books: AsyncGenerator[ShardBooks, None]) -> Verdict:
    """Compares every shard's ledger with its totals, from the first booking to the reading."""
    entries = posts = 0
    differences: list[Difference] = []
    async with aclosing(books):
        async for shard in books:
            verdict = await _compare_shard(shard)
            entries += verdict.entries
            posts += verdict.posts
            differences += verdict.differences
    differences.sort(key=_order)
    return Verdict(entries, posts, tuple(differences))


async def _compare_shard(books: ShardBooks) -> Verdict:
    entries = posts = 0
    ledger: Sums = {}
    async for id_, entry in books.entries:
        day = day_of(entry.at_ms)
        # A day without totals counts as far as it was booked before the days were listed.
        if id_ > books.ends.get(day, books.end):
            continue
        entries += 1
        posts += len(entry.posts)
        for post in entry.posts:
            for measure, amount in post.measures.items():
                key = day, post.group, measure
                ledger[key] = ledger.get(key, 0) + amount
    differences = tuple(
        Difference(*key, ledger=booked, totals=kept, shard=books.shard)
        for key in ledger.keys() | books.totals.keys()
        if (booked := ledger.get(key, 0)) != (kept := books.totals.get(key, 0))
    )
    return Verdict(entries, posts, differences)


def _order(difference: Difference) -> tuple[datetime.date, Group, int, int]:
    place = MEASURES.index(difference.measure)
    return difference.day, difference.group, place, difference.shard
