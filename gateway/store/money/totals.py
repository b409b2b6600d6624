"""The running totals: what each measure came to on one UTC day, by finest group.

One hash a day and shard, and beside it one by the hour of the day for what people do.
`gateway.store.writes` books into them; here they are read, in pages. Raises RedisUnavailable, and
`LedgerFault` for a total this version cannot read.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator, Callable, Iterable
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from gateway.core.effects import MEASURES
from gateway.core.records.codec import NewerRecordError
from gateway.core.records.entries import Group, total_codec
from gateway.redis.client import Command, RedisClient
from gateway.redis.replies import as_list, pairs
from gateway.store.former_shards import shards_ever
from gateway.store.keys import Keys, keys_of

FIELDS_A_PAGE = 1_000  # of one day's totals
HASHES_AT_ONCE = 16  # days (times shards) that one round trip reads a page of

T = TypeVar("T")


class Aside(Protocol):
    """Runs a computation where it holds up nobody else."""

    async def __call__(self, compute: Callable[[], T], /) -> T: ...


async def at_once(compute: Callable[[], T], /) -> T:
    """For a process that does nothing else."""
    return compute()


class LedgerFault(Exception):
    """A record of the ledger or its totals cannot be read; the sentence says which."""


class TotalRow(NamedTuple):
    """One running total: what a measure came to on one UTC day in one finest group."""

    day: datetime.date
    group: Group
    measure: str
    amount: int


class _Hash(NamedTuple):
    """A day's totals in a shard, or (`hourly`) those of them by the hour."""

    keys: Keys
    day: datetime.date
    hourly: bool

    @property
    def key(self) -> str:
        day = self.day.isoformat()
        return self.keys.hours(day) if self.hourly else self.keys.totals(day)


async def pages_of_totals(
    redis: RedisClient,
    shards: int,
    from_day: datetime.date,
    to_day: datetime.date,
    aside: Aside = at_once,
    *,
    hours: bool = False,
) -> AsyncGenerator[list[TotalRow], None]:
    """Every total of these days (both count), of all shards there ever were, not added up, a few
    days at a time; they are read a page at a time, and decoded `aside`.

    A total that changes meanwhile is given as it was at some moment, once. With `hours` what people
    did is told apart by the hour of the day, and what has none is the rest.
    """
    days = (to_day - from_day).days + 1
    every = await shards_ever(redis, shards)
    hashes = (
        _Hash(keys_of(shard), from_day + datetime.timedelta(days=n), hourly)
        for n in range(days)
        for shard in every
        for hourly in ((True, False) if hours else (False,))
    )
    while batch := list(islice(hashes, HASHES_AT_ONCE)):
        fields = await _read_hashes(redis, batch)
        yield await aside(partial(_rows, batch, fields))


async def _read_hashes(redis: RedisClient, hashes: list[_Hash]) -> list[dict[bytes, bytes]]:
    fields: list[dict[bytes, bytes]] = [{} for _ in hashes]
    cursors = dict.fromkeys(range(len(hashes)), b"0")
    while cursors:
        commands: list[Command] = [
            ("HSCAN", hashes[n].key, cursor, "COUNT", FIELDS_A_PAGE)
            for n, cursor in cursors.items()
        ]
        for n, reply in zip(list(cursors), await redis.call(commands), strict=True):
            cursor, page = as_list(reply)
            # A field can come twice while the hash is reordered, so they are kept by name.
            fields[n].update(pairs(page))
            if cursor == b"0":
                del cursors[n]
            else:
                cursors[n] = cursor
    return fields


def _rows(hashes: list[_Hash], fields: list[dict[bytes, bytes]]) -> list[TotalRow]:
    rows: list[TotalRow] = []
    for hash_, found in zip(hashes, fields, strict=True):
        there = total_rows(hash_.keys, hash_.day, found.items())
        rows += there
        if hash_.hourly:  # which the day's totals hold as well
            rows += [row._replace(group=row.group.of_any_hour, amount=-row.amount) for row in there]
    return rows


def total_rows(
    keys: Keys, day: datetime.date, fields: Iterable[tuple[bytes, bytes]]
) -> list[TotalRow]:
    """The fields of one day's hash as totals. Raises LedgerFault."""
    rows = []
    for field, amount in fields:
        try:
            total = total_codec.decode(field)
        except (msgspec.DecodeError, NewerRecordError) as error:
            raise LedgerFault(f"{keys.totals(day.isoformat())} holds {field!r}: {error}") from None
        if total.measure not in MEASURES:
            raise LedgerFault(
                f"{keys.totals(day.isoformat())} holds the measure {total.measure!r}, which this "
                "version does not know: read it with the version that wrote it."
            )
        rows.append(TotalRow(day, total.group, total.measure, int(amount)))
    return rows
