"""Reading what was booked: the running totals, and the ledger they are the sums of.

Owns the way back from Redis to `TotalRow` and `LedgerEntry`; `gateway.store.writes` is the way
there. It writes nothing and awaits only the link, so it serves any loop. Every read is paged.
Raises StoreUnavailable, and `LedgerFault` for records this version cannot read.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec

from gateway.core.effects import MEASURES, Group
from gateway.finance.report import Query, Report, Tally, TotalRow
from gateway.redis.client import Command, Link, Reply
from gateway.store.compression import unpack
from gateway.store.keys import Keys, keys_of
from gateway.store.writes import BLOB_FIELD, LEDGER_SCHEMA, LedgerEntry

FIELDS_A_PAGE = 1_000  # of one day's totals
HASHES_AT_ONCE = 16  # days (times shards) that one round trip reads a page of
ENTRIES_A_PAGE = 100  # of the ledger; each is one commit's bookings

_decode_field = msgspec.msgpack.Decoder(tuple[str, str, str, str, str, str, str]).decode
_decode_entry = msgspec.msgpack.Decoder(LedgerEntry).decode

EntryId = tuple[int, int]  # milliseconds and sequence: the order of a stream


class LedgerFault(Exception):
    """A record of the ledger or its totals cannot be read; the sentence says which."""


async def cost_report(link: Link, shards: int, query: Query, currency: str) -> Report:
    """The report of everything booked in the question's days. Raises ReportFault,
    StoreUnavailable.
    """
    tally = Tally(query, currency)
    async for rows in pages_of_totals(link, shards, query.from_day, query.to_day):
        tally.add(rows)
    return tally.report()


async def read_totals(
    link: Link, shards: int, from_day: datetime.date, to_day: datetime.date
) -> list[TotalRow]:
    """Every running total of these days (both count), of all shards, in no order and not added
    up.
    """
    found: list[TotalRow] = []
    async for rows in pages_of_totals(link, shards, from_day, to_day):
        found += rows
    return found


async def pages_of_totals(
    link: Link, shards: int, from_day: datetime.date, to_day: datetime.date
) -> AsyncIterator[list[TotalRow]]:
    """The same a few days at a time. A total that changes meanwhile is given as it was at some
    moment, once.
    """
    days = (to_day - from_day).days + 1
    hashes = (
        (keys_of(shard), from_day + datetime.timedelta(days=n))
        for n in range(days)
        for shard in range(shards)
    )
    while batch := list(islice(hashes, HASHES_AT_ONCE)):
        yield await _read_hashes(link, batch)


async def _read_hashes(link: Link, hashes: list[tuple[Keys, datetime.date]]) -> list[TotalRow]:
    fields: list[dict[bytes, bytes]] = [{} for _ in hashes]
    cursors = dict.fromkeys(range(len(hashes)), b"0")
    while cursors:
        commands: list[Command] = [
            ("HSCAN", _totals_key(hashes[n]), cursor, "COUNT", FIELDS_A_PAGE)
            for n, cursor in cursors.items()
        ]
        for n, reply in zip(list(cursors), await link.call(commands), strict=True):
            cursor, page = as_list(reply)
            # A field can come twice while the hash is reordered, so they are kept by name.
            fields[n].update(pairs(page))
            if cursor == b"0":
                del cursors[n]
            else:
                cursors[n] = cursor
    return [
        row
        for (keys, day), found in zip(hashes, fields, strict=True)
        for row in total_rows(keys, day, found.items())
    ]


def _totals_key(hash_: tuple[Keys, datetime.date]) -> str:
    keys, day = hash_
    return keys.totals(day.isoformat())


def total_rows(
    keys: Keys, day: datetime.date, fields: Iterable[tuple[bytes, bytes]]
) -> list[TotalRow]:
    """The fields of one day's hash as totals. Raises LedgerFault."""
    rows = []
    for field, amount in fields:
        try:
            *group, measure = _decode_field(field)
        except msgspec.DecodeError as error:
            raise LedgerFault(f"{keys.totals(day.isoformat())} holds {field!r}: {error}.") from None
        if measure not in MEASURES:
            raise LedgerFault(
                f"{keys.totals(day.isoformat())} holds the measure {measure!r}, which this version "
                "does not know: read it with the version that wrote it."
            )
        rows.append(TotalRow(day, Group(*group), measure, int(amount)))
    return rows


async def read_ledger(
    link: Link, keys: Keys, until: EntryId
) -> AsyncIterator[tuple[EntryId, LedgerEntry]]:
    """One shard's ledger from its first entry up to and with `until`, in the order of booking."""
    after = "-"
    last = f"{until[0]}-{until[1]}"
    while True:
        (reply,) = await link.call([("XRANGE", keys.ledger, after, last, "COUNT", ENTRIES_A_PAGE)])
        page = as_list(reply)
        for id_, fields in page:
            yield entry_id(id_), _entry(keys, id_, fields)
        if len(page) < ENTRIES_A_PAGE:
            return
        after = "(" + page[-1][0].decode()


def _entry(keys: Keys, id_: bytes, fields: list[bytes]) -> LedgerEntry:
    place = f"Entry {id_.decode()} of {keys.ledger}"
    try:
        entry = _decode_entry(unpack(dict(pairs(fields))[BLOB_FIELD]))
    except (msgspec.DecodeError, KeyError) as error:
        raise LedgerFault(f"{place} cannot be read: {error!r}.") from None
    if entry.schema != LEDGER_SCHEMA:
        raise LedgerFault(
            f"{place} has schema {entry.schema}, this version reads {LEDGER_SCHEMA}: read it with "
            "the version that wrote it."
        )
    return entry


def entry_id(id_: bytes) -> EntryId:
    milliseconds, _, sequence = id_.partition(b"-")
    return int(milliseconds), int(sequence)


def pairs(flat: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Names and values as Redis lists them: one after the other."""
    return zip(flat[::2], flat[1::2], strict=True)


def as_list(reply: Reply) -> list[Any]:
    assert isinstance(reply, list)
    return reply
