"""What the archive holds of the ledger, as the entries that were booked: for whoever adds it up.

An entry comes back with one post a group and measure: sums are what they were, to the last unit;
how a commit's bookings were told apart is not kept.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from gateway.archive.archive import Archive
from gateway.archive.lines import lines_of_archive
from gateway.archive.questions import Questions
from gateway.archive.tables import (
    BOOKED,
    COUNTS,
    ENTRY_OF_ROW,
    GROUP_OF_ROW,
    LEDGER,
    MEASURES_OF,
    OUTCOMES,
    REQUESTS,
    group_of,
)
from gateway.core.archive.manifest import ArchivedFile, EntryId, reached
from gateway.core.records.entries import LedgerEntry, Post
from gateway.finance.lines.lines import LinesPage, LinesWanted
from gateway.store.money.checkpoints import NOTHING_BOOKED

_MICROS = "CAST(amount * 1000000 AS BIGINT)"
# Of each table: what its rows measure, how much of it, and in which currency.
_PARTS = {
    LEDGER: (f"{GROUP_OF_ROW}, kind, {_MICROS}, currency", "$ledger"),
    COUNTS: (f"{GROUP_OF_ROW}, measure, coalesce(count, {_MICROS}), currency", "$counts"),
    REQUESTS: (
        f"{GROUP_OF_ROW.replace('step', 'NULL AS step')}, outcome, requests, NULL",
        "$requests",
    ),
}
_ENTRIES = """
WITH rows AS ({parts})
SELECT ms, seq, epoch_ms(booked_at), * EXCLUDE (shard, ms, seq, booked_at)
FROM rows WHERE shard = $shard AND (ms, seq) > ($after_ms, $after_seq)
AND (ms, seq) <= ($last_ms, $last_seq) ORDER BY ms, seq
"""
_PART = """
SELECT {entry}, booked_at, {columns} FROM read_parquet({files})
"""
_MEASURES = MEASURES_OF | {outcome: measure for measure, outcome in OUTCOMES.items()}


class ArchivedLedger:
    """An `Archived` of `gateway.store.money.ledger` and an `ArchivedLines` of
    `gateway.finance.lines.lines`, for a process that may block."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def through(self, shard: int) -> EntryId:
        return through_of(self._archive, shard)

    async def entries(
        self, shard: int, since: EntryId, until: EntryId
    ) -> AsyncGenerator[tuple[EntryId, LedgerEntry], None]:
        for entry in entries(self._archive, shard, since, until):
            yield entry

    async def lines(self, wanted: LinesWanted) -> LinesPage:
        return lines_of_archive(self._archive, wanted)


def through_of(archive: Archive, shard: int) -> EntryId:
    """Up to which entry of a shard's ledger everything is archived."""
    return reached(archive.files(), BOOKED).get(shard, NOTHING_BOOKED)


def entries(
    archive: Archive, shard: int, since: EntryId, until: EntryId
) -> Iterator[tuple[EntryId, LedgerEntry]]:
    """One shard's entries after `since` up to and with `until`, in the order of booking. Raises
    ArchiveFault."""
    questions = archive.questions()
    files = [
        file
        for table in BOOKED
        for file in questions.files_of(table)
        if file.has_of(shard, since, until)
    ]
    # A stretch at a time: as much as one run archived.
    ends = {min(reached([file], BOOKED)[shard], until) for file in files}
    for end in sorted(ends):
        there = [file for file in files if file.has_of(shard, since, end)]
        archive.make_sure(there)
        yield from _stretch(questions, there, shard, since, end)
        since = end


def _stretch(
    questions: Questions,
    files: Sequence[ArchivedFile],
    shard: int,
    since: EntryId,
    until: EntryId,
) -> Iterator[tuple[EntryId, LedgerEntry]]:
    by_table = {table: [file for file in files if file.table == table] for table in BOOKED}
    parts = [
        _PART.format(entry=ENTRY_OF_ROW, columns=_PARTS[table][0], files=_PARTS[table][1])
        for table, each in by_table.items()
        if each
    ]
    values = {"shard": shard, "after_ms": since[0], "after_seq": since[1]}
    values |= {"last_ms": until[0], "last_seq": until[1]}
    query = _ENTRIES.format(parts=" UNION ALL ".join(parts))
    rows = (row for page in questions.rows(query, by_table, values) for row in page)
    for (ms, seq), found in groupby(rows, itemgetter(0, 1)):
        yield (ms, seq), _entry(list(found))


def _entry(rows: Sequence[tuple[Any, ...]]) -> LedgerEntry:
    currency = next((row[-1] for row in rows if row[-1]), "")
    return LedgerEntry(rows[0][2], [_post(row) for row in rows], currency)


def _post(row: tuple[Any, ...]) -> Post:
    measure, amount = row[12:14]
    return Post(group_of(*row[3:12]), {_MEASURES.get(measure, measure): amount})
