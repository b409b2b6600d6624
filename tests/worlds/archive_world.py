"""An installation with an archive, in this process: messages sent and settled, archived on demand,
and everything read back from both sides."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import trio

from gateway.archive.accepted import accepted_before
from gateway.archive.archive import Archive
from gateway.archive.booked import ArchivedLedger
from gateway.archive.place import Folder
from gateway.archive.run import ArchiveRun, Run, RunLimits
from gateway.core import events as ev
from gateway.core.addresses import Addresses
from gateway.core.archive.hashing import mark_of, short_hashes_of
from gateway.finance.archive_calls import AcceptedAsked
from gateway.finance.reports.verify import Verdict, verify_ledger
from gateway.redis.client import RedisClient
from gateway.redis.trio_driver import open_client
from gateway.store.messages import receipts
from gateway.store.messages.apply import Item
from gateway.store.messages.message_search import ArchivedMessage, Sought, search
from gateway.store.messages.person_index import IndexPlace
from gateway.store.store import Store
from gateway.store.writes import Retention
from providers.contract import Fault, Receipt
from tests.worlds.cascade_world import T0, policy, request

KEY = b"a key of the archive's hashes"
EVER_MS = 10**14  # longer than anything is old


class ArchiveWorld:
    """`now_ms` moves when told; Redis' own clock, which says when something was closed, does not,
    so `keep_ms` is 0 or EVER_MS."""

    def __init__(self, redis: RedisClient, root: Path, shards: int) -> None:
        self.redis = redis
        self.root = root
        self.shards = shards
        self.now_ms = T0
        self.store = Store(redis, policy(), shards=shards, retention=Retention(archives=True))
        self.pause: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self.archive = Archive(Folder(root), str(root), KEY)

    async def send(self, count: int, campaign: str = "autumn") -> list[str]:
        """Messages to as many people, accepted."""
        sends = []
        for n in range(count):
            addresses = Addresses(f"7916{n:07}", f"somebody{n}@example.com" if n % 3 == 0 else None)
            home = addresses.phone or ""
            sends.append(
                request(
                    id=self.store.new_message_id(home, self.now_ms),
                    addresses=addresses,
                    user=f"user-{n}",
                    campaign=f"{campaign} {n}",
                    metadata={"order": "secret"},
                )
            )
        answers = await self.store.admit(sends, self.now_ms)
        assert {answer.outcome for answer in answers} == {"accepted"}
        return [answer.id or "" for answer in answers]

    async def hand_over(self, ids: list[str]) -> None:
        """Their first step is with the provider."""
        await self.store.apply([Item(id_, ev.Claimed(0)) for id_ in ids], self.now_ms)
        await self.store.apply([Item(id_, ev.Accepted(0)) for id_ in ids], self.now_ms)

    async def tell(self, ids: list[str], status: Any, **more: Any) -> None:
        """Receipts of their first step come in."""
        told = [Receipt(status, ref=f"{id_}.0", **more) for id_ in ids]
        await receipts.take_receipts(self.store, "viber", told, self.now_ms)

    async def delivered(self, count: int, campaign: str = "autumn") -> list[str]:
        ids = await self.send(count, campaign)
        await self.hand_over(ids)
        await self.tell(ids, "delivered")
        return ids

    async def refused(self, campaign: str, *faults: Fault) -> list[str]:
        """A message that each of its steps' providers refuses, with the faults."""
        ids = await self.send(1, campaign)
        for step, fault in enumerate(faults):
            for event in (ev.Claimed(step), ev.StepRefused(step, fault)):
                await self.store.apply([Item(ids[0], event)], self.now_ms)
        return ids

    def run(self, *, keep_ms: int = EVER_MS, **limits: Any) -> Run:
        wanted = RunLimits(keep_ms, **limits)
        return Run(self.store, self.archive, wanted, lambda: self.now_ms, self.pause)

    async def archived(self, *, keep_ms: int = EVER_MS, **limits: Any) -> ArchiveRun:
        return await self.run(keep_ms=keep_ms, **limits).once()

    async def accepted(
        self, identities: Iterable[str], campaign: str | None, before: IndexPlace, count: int
    ) -> tuple[list[ArchivedMessage], IndexPlace | None]:
        """The archived part of the index, as a search asks for it."""
        hashes = short_hashes_of(KEY, identities)
        asked = AcceptedAsked(before, count, hashes, mark_of(KEY), campaign)
        found = accepted_before(self.archive, asked)
        return found.items, found.next

    async def search(self, limit: int = 50, **sought: Any) -> list[str]:
        """The messages that are found, wherever they are, over all pages."""
        ids: list[str] = []
        place: IndexPlace | None = None
        while True:
            page = await search(self.store, Sought(None, **sought), limit, place, self)
            assert len(page.messages) <= limit
            ids += [message.id for message in page.messages]
            place = page.next
            if place is None:
                return ids

    async def verify(self, *, full: bool = True) -> Verdict:
        archived = ArchivedLedger(self.archive)
        return await verify_ledger(self.redis, self.shards, full=full, archived=archived)


def by_revision(row: dict[str, Any]) -> int:
    return int(row["revision"])


def rows_in(world: ArchiveWorld, table: str) -> list[dict[str, Any]]:
    names = [file.file for file in world.archive.files() if file.table == table]
    return [row for name in names for row in pq.read_table(world.root / name).to_pylist()]


Test = Callable[[ArchiveWorld], Awaitable[None]]


def with_archive(shards: int = 1) -> Callable[[Test], Callable[[str, Path], None]]:
    """A test in a world of its own."""

    def wrapped(test: Test) -> Callable[[str, Path], None]:
        @functools.wraps(test)
        def run(redis_url: str, tmp_path: Path) -> None:
            async def main() -> None:
                async with open_client(redis_url) as redis:
                    await test(ArchiveWorld(redis, tmp_path / "archive", shards))

            trio.run(main)

        del run.__wrapped__  # pytest looks for the parameters of the innermost
        return run

    return wrapped
