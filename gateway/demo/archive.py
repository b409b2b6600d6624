"""The demo's archive: what was booked and closed goes into files beside the configuration, and
leaves Redis behind them, as `kaskad archive run --once` does it.
"""

from __future__ import annotations

import time
from functools import partial

import msgspec

from gateway.demo.stage import Stage
from gateway.finance.extras import MissingExtra, archive_library
from gateway.finance.reports.verify import compare_books
from gateway.redis.asyncio_driver import run, sleep
from gateway.redis.client import RedisClient
from gateway.settings import bootstrap
from gateway.store.keys import keys_of
from gateway.store.money.ledger import read_books
from gateway.store.store import Store

LIBRARIES = ("pyarrow", "duckdb")
WAIT_S = 0.1  # before another run is asked for again


class ArchiveShown(msgspec.Struct, frozen=True):
    """What the run came to. `ledger_entries` are those of Redis, before and after; `agrees`:
    archive and Redis together are still the sums that the totals have."""

    rows: int
    files: int
    bytes: int
    messages_taken_out: int
    ledger_entries: tuple[int, int]
    agrees: bool


def archive(place: Stage) -> ArchiveShown | None:
    """None where the libraries are missing."""
    try:
        for library in LIBRARIES:
            archive_library(library)
    except MissingExtra:
        return None
    from gateway.archive.archive import Archive
    from gateway.archive.booked import ArchivedLedger
    from gateway.archive.places import place_of
    from gateway.archive.run import Run, RunLimits

    settings, shards = place.settings, place.settings.redis.shards
    key = settings.secrets.get(settings.archive.hash_key_env).encode()
    kept = Archive(place_of(settings.archive.url), settings.archive.url, key)
    policy = bootstrap.policy_of(settings, bootstrap.load_prices(settings))
    limits = RunLimits(keep_ms=int(settings.archive.keep_ms))

    async def ask(redis: RedisClient) -> ArchiveShown:
        retention = bootstrap.retention_of(settings)
        store = Store(redis, policy, shards=shards, retention=retention)
        before = await _ledger_entries(redis, shards)
        done = await Run(store, kept, limits, _now_ms, partial(sleep, WAIT_S)).once()
        books = read_books(redis, shards, archived=ArchivedLedger(kept))
        verdict = await compare_books(books, bootstrap.days_of(settings))
        files = kept.files()
        return ArchiveShown(
            rows=sum(file.rows for file in files),
            files=len(files),
            bytes=sum(file.bytes for file in files),
            messages_taken_out=done.taken_out,
            ledger_entries=(before, await _ledger_entries(redis, shards)),
            agrees=verdict.agrees,
        )

    return run(place.redis_url, ask)


async def _ledger_entries(redis: RedisClient, shards: int) -> int:
    found = await redis.call([("XLEN", keys_of(shard).ledger) for shard in range(shards)])
    return sum(count for count in found if isinstance(count, int))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
