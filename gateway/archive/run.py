"""One run of the archiver: what was booked, clicked and closed before it began goes into the
archive, and what the archive holds leaves Redis.

Every step can die at any moment. What is not named by the manifest was not archived, and is read
again; what is named and still in Redis is taken out by the next run, and only behind files that are
there as the manifest says. One runs at a time by a lease; where two think that it is theirs, the
exchange of the manifest lets one of them through, and the other begins anew. Raises ArchiveFault,
LedgerFault once all else is done, RedisUnavailable, and OSError (a full disk): what is done stays
done, and the gateway goes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import msgspec

from gateway.archive import late
from gateway.archive.archive import Archive
from gateway.archive.place import ManifestMoved
from gateway.archive.questions import LatestRow, by_day, day_name
from gateway.archive.tables import (
    BOOKED,
    CLICKS,
    INDEX,
    MESSAGES,
    Row,
    rows_of,
    rows_of_accepted,
    rows_of_clicks,
)
from gateway.core.archive.hashing import short_hashes_of
from gateway.core.archive.manifest import (
    ArchivedFile,
    ArchiveFault,
    EntryId,
    reached,
    read_manifest,
)
from gateway.core.archive.merging import Merging, lying, to_merge
from gateway.core.archive.messages import nameless, row_of
from gateway.core.money.days import day_of
from gateway.core.money.months import NONE_CLOSED
from gateway.core.records.entries import Indexed
from gateway.failpoints import failpoint
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisError
from gateway.store.archive import archived_index, archiving, closed
from gateway.store.archive.archiving import Source
from gateway.store.former_shards import shards_ever
from gateway.store.messages import reads
from gateway.store.money.checkpoints import NOTHING_BOOKED
from gateway.store.money.ledger import before, entries_after
from gateway.store.money.months import closed_months
from gateway.store.money.totals import LedgerFault
from gateway.store.reactions import clicks
from gateway.store.store import Store

ROWS_A_STEP = 300_000  # about 150 MB while they are written
TRIES_MAX = 20  # after each the manifest had been changed by somebody else

Rows = defaultdict[tuple[str, str], list[Sequence[Any]]]
ItemT = TypeVar("ItemT")
StreamPage = Sequence[tuple[EntryId, ItemT]]


class StreamPart(msgspec.Struct):
    """What one step takes of a shard's stream: what lies between two entries. `rows`, by table and
    day, are those of all shards; `through` says how far each came."""

    shard: int
    start: EntryId
    end: EntryId
    rows: Rows
    through: dict[int, EntryId]

    @property
    def count(self) -> int:
        return sum(map(len, self.rows.values()))

    def add(self, rows: Iterable[Row]) -> int:
        """How many they were."""
        added = list(rows)
        for row in added:
            self.rows[row.table, row.day].append(row.values)
        return len(added)


ReadPart = Callable[[StreamPart], Awaitable[None]]


class RunLimits(msgspec.Struct, frozen=True):
    """`keep_ms`: how long closed messages stay in Redis once they are archived."""

    keep_ms: int
    rows_a_step: int = ROWS_A_STEP
    merging: Merging = Merging()


class ArchiveRun(msgspec.Struct):
    """What one run did: rows by table, messages taken out of Redis, those that a late receipt
    brought back, and files in whose place another was put."""

    rows: dict[str, int] = {}
    taken_out: int = 0
    brought_back: int = 0
    merged: int = 0


class Run:
    """To be run once. `clock` is in epoch milliseconds; `pause` waits a little for another run."""

    def __init__(
        self,
        store: Store,
        archive: Archive,
        limits: RunLimits,
        clock: Callable[[], int],
        pause: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._redis = store.redis
        self._archive = archive
        self._limits = limits
        self._clock = clock
        self._pause = pause
        self._lease = archiving.ArchiveLease(store.redis)
        self._shards: Sequence[int] = ()
        self._months = NONE_CLOSED
        self._since_ms = 0
        self._fault: LedgerFault | None = None
        self._done = ArchiveRun()

    async def once(self) -> ArchiveRun:
        """Waits for a run under way, then takes everything booked and closed before now."""
        while not await self._run():
            pass
        files = self._archive.files()
        rows, through = sum(file.rows for file in files), reached(files, BOOKED)
        await archiving.note_success(self._redis, len(files), rows, through, self._clock())
        return self._done

    async def _run(self) -> bool:
        """Whether it came to its end: False where a step took so long that another run has begun,
        which goes first."""
        while not await self._lease.take():
            await self._pause()
        try:
            await self._begin()
            await self._again_where_moved()
        except archiving.LeaseLost:
            return False
        except Exception as error:
            with suppress(RedisError):
                await archiving.note_failure(self._redis, self._archive.why(error), self._clock())
            raise
        finally:
            with suppress(RedisError):
                await self._lease.give_back()
        return True

    async def _begin(self) -> None:
        installation, has_files = await archiving.installation(self._redis)
        if has_files and self._archive.installation() is None:
            raise ArchiveFault(
                f"There is no archive at {self._archive.url}, and there was one: put it back, or "
                "point archive.url at where it is. Nothing was changed."
            )
        self._archive.begin(installation)
        self._archive.begun = await archiving.begun(self._redis)
        self._shards = await shards_ever(self._redis, self._store.shards)
        self._months = await closed_months(self._redis, self._store.policy.days)
        have = reached(self._archive.files(), BOOKED)
        noted = await archiving.noted_through(self._redis, self._shards)
        if any(entry > have.get(shard, NOTHING_BOOKED) for shard, entry in noted.items()):
            raise ArchiveFault(
                f"The manifest at {self._archive.url} names less than was archived: put back the "
                "newest one. Redis was trimmed behind what is missing. Nothing was changed."
            )

    async def _again_where_moved(self) -> None:
        booked = await archiving.newest(self._redis, self._shards, "ledger")
        listed = await archiving.newest(self._redis, self._shards, "closed")
        clicked = await archiving.newest(self._redis, self._shards, "clicked")
        now_ms = await archived_index.next_moment(self._redis, self._shards)
        accepted = await archiving.newest(self._redis, self._shards, "index")
        before_ms = min(now_ms, max(self._clock() - self._limits.keep_ms, 0))
        self._since_ms = await archived_index.archived_since(self._redis, now_ms)
        for _ in range(TRIES_MAX):
            try:
                self._archive.place.strays(lying(self._archive.files(), self._clock()))
                await self._archive_stream(BOOKED, self._read_booked, booked, trims="ledger")
                await self._archive_stream((CLICKS,), self._read_clicked, clicked, trims="clicked")
                await self._archive_stream((MESSAGES,), self._read_closed, listed)
                await self._archive_stream((INDEX,), self._read_accepted, accepted)
                if before_ms:
                    await self._begin_index_at(before_ms)
                    await self._take_out(listed, before_ms)
                    await self._move_index_on(before_ms)
                settled = await late.settle(
                    self._store, self._archive, self._clock, self._lease.keep
                )
                self._done.brought_back += settled
                await self._merge_days()
            except ManifestMoved:
                continue
            if self._fault is not None:
                raise self._fault
            return
        raise ArchiveFault(
            f"The manifest at {self._archive.url} is changed again and again by somebody else: "
            "let one archiver run."
        )

    async def _archive_stream(
        self,
        tables: Sequence[str],
        read: ReadPart,
        ends: Mapping[int, EntryId],
        trims: Source | None = None,
    ) -> None:
        """Archives what a stream has up to its `ends` in the tables that are made from it; `trims`:
        as which it is taken out of Redis at once."""
        while True:
            if trims is not None:
                await self._trim(trims, tables)
            manifest = self._archive.place.manifest()
            have = reached(read_manifest(manifest.text), tables)
            rows: Rows = defaultdict(list)
            through: dict[int, EntryId] = {}
            for shard in self._shards:
                start, end = have.get(shard, NOTHING_BOOKED), ends.get(shard, NOTHING_BOOKED)
                await read(StreamPart(shard, start, end, rows, through))
            if not rows:
                return
            self._note(self._archive.put(rows, have, through, manifest))
            await self._lease.keep()

    async def _pages(
        self,
        part: StreamPart,
        listed: Callable[[RedisClient, int, EntryId, EntryId], Awaitable[StreamPage[ItemT]]],
    ) -> AsyncGenerator[StreamPage[ItemT], None]:
        """The entries of a part, until its step has rows enough."""
        while part.start < part.end and part.count < self._limits.rows_a_step:
            page = await listed(self._redis, part.shard, part.start, part.end)
            if not page:
                return
            yield page
            part.start = part.through[part.shard] = page[-1][0]
            await self._lease.keep()

    # --- the ledger and clicks ---

    async def _read_booked(self, part: StreamPart) -> None:
        currency, count = self._store.policy.currency, part.count
        entries = entries_after(self._redis, part.shard, part.start, part.end)
        try:
            async with aclosing(entries):
                async for id_, entry in entries:
                    if count >= self._limits.rows_a_step:
                        break
                    count += part.add(rows_of(part.shard, id_, entry, currency, self._months))
                    part.through[part.shard] = id_
        except LedgerFault as fault:  # no booking is passed over: this shard's ledger stops there
            self._fault = fault
        await self._lease.keep()

    async def _read_clicked(self, part: StreamPart) -> None:
        async with aclosing(self._pages(part, clicks.listed)) as pages:
            async for page in pages:
                for id_, items in page:
                    part.add(rows_of_clicks(part.shard, id_, items))

    async def _trim(self, source: Source, tables: Sequence[str]) -> None:
        """Takes what is archived out of the stream in Redis."""
        files = self._archive.files()
        for shard, through in reached(files, tables).items():
            oldest = await archiving.oldest(self._redis, shard, source)
            if oldest is None or oldest >= through:
                continue
            self._archive.make_sure(
                file
                for file in files
                if file.table in tables and file.has_of(shard, oldest, through)
            )
            await archiving.trim(self._redis, shard, source, through)
            failpoint("archive_trimmed")

    # --- messages ---

    async def _read_closed(self, part: StreamPart) -> None:
        async with aclosing(self._pages(part, closed.listed)) as pages:
            async for page in pages:
                await self._add_changed([id_ for _, ids in page for id_ in ids], part)

    async def _add_changed(self, ids: Sequence[str], part: StreamPart) -> None:
        """Adds the messages whose present state is not archived, nor among the rows."""
        new = {row[0] for each in part.rows.values() for row in each}
        messages = await closed.closed_messages(self._store, (i for i in ids if i not in new))
        have = self._archive.questions().latest(by_day(message.id for message in messages))
        for message in messages:
            kept = have.get(message.id, _NOTHING)
            if kept.record != nameless(message):
                key, currency = self._archive.key, self._store.policy.currency
                row = row_of(message, kept.revision + 1, key, currency)
                part.rows[MESSAGES, day_name(message.id)].append(row)

    async def _take_out(self, ends: Mapping[int, EntryId], before_ms: int) -> None:
        """Takes messages out of Redis that were closed before, and are archived as they are."""
        files = self._archive.files()
        questions = self._archive.questions()
        for shard, through in reached(files, [MESSAGES]).items():
            end = min(through, ends.get(shard, NOTHING_BOOKED), before(before_ms, 0))
            start = NOTHING_BOOKED
            while page := await closed.listed(self._redis, shard, start, end):
                start = page[-1][0]
                ids = by_day(id_ for _, listed in page for id_ in listed)
                self._archive.make_sure(questions.files_of(MESSAGES, ids))
                kept = {id_: each.record for id_, each in questions.latest(ids).items()}
                taken = await closed.take_out(self._store, kept)
                missing = [id_ for each in ids.values() for id_ in each if id_ not in kept]
                unarchived = await closed.closed_messages(self._store, missing)
                again = [*taken.changed, *(message.id for message in unarchived)]
                if again:
                    await closed.list_again(self._redis, shard, again)
                await archiving.trim(self._redis, shard, "closed", start)
                self._done.taken_out += taken.gone
                failpoint("archive_taken_out")
                await self._lease.keep()

    # --- the index ---

    async def _read_accepted(self, part: StreamPart) -> None:
        """What is gone from Redis before it is archived is found by its campaign alone. What was
        closed before there was an archive is listed for it, and goes with the next run."""
        async with aclosing(self._pages(part, archived_index.accepted)) as pages:
            async for page in pages:
                for id_, items in page:
                    await self._add_accepted(id_, items, part)

    async def _add_accepted(self, id_: EntryId, items: Sequence[Indexed], part: StreamPart) -> None:
        found = await reads.readable_messages(self._store, [each.message for each in items])
        key = self._archive.key
        hashes = {each.id: short_hashes_of(key, each.identities) for each in found}
        part.add(rows_of_accepted(part.shard, id_, items, hashes))
        if id_[0] < self._since_ms and (ids := [each.id for each in found if each.closed]):
            await closed.list_again(self._redis, part.shard, ids)

    async def _begin_index_at(self, before_ms: int) -> None:
        """From now on searches look for what was accepted before in the archive: its messages leave
        Redis, and so do its entries."""
        files = [file for file in self._archive.files() if file.table == INDEX]
        for shard in self._shards:
            oldest = await archiving.oldest(self._redis, shard, "index")
            if oldest is not None and oldest[0] < before_ms:
                until = (before_ms, 0)
                self._archive.make_sure(file for file in files if file.has_of(shard, oldest, until))
        await archived_index.note_whole_from(self._redis, before_ms)

    async def _move_index_on(self, before_ms: int) -> None:
        for shard in self._shards:
            while await archived_index.move_on(self._store, shard, before_ms):
                failpoint("archive_moved_on")
                await self._lease.keep()

    # --- files ---

    async def _merge_days(self) -> None:
        """Puts the small files of days that are over together."""
        today = day_of(self._clock()).isoformat()
        while True:
            manifest = self._archive.place.manifest()
            groups = to_merge(read_manifest(manifest.text), today, self._limits.merging)
            if not groups:
                return
            self._archive.merge(groups[0], self._clock(), manifest)
            self._done.merged += len(groups[0])
            await self._lease.keep()

    def _note(self, made: Sequence[ArchivedFile]) -> None:
        for file in made:
            self._done.rows[file.table] = self._done.rows.get(file.table, 0) + file.rows


_NOTHING = LatestRow(0, b"")
