"""What Redis knows of the archive: whose it is, who archives, how the last run went, and where the
streams begin and end that it is made from. All of it can be written to a full Redis too: archiving
is what makes room. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from gateway.core.archive.manifest import EntryId, entry_id, entry_text
from gateway.redis.allow_oom import call_allowing_oom
from gateway.redis.client import Command, RedisClient
from gateway.redis.replies import as_list, pairs, whole
from gateway.store import leases, randomness
from gateway.store.keys import keys_of
from gateway.store.money.checkpoints import NOTHING_BOOKED
from gateway.store.shared_keys import ARCHIVE, ARCHIVER

LEASE_MS = 15_000
REASON_CHARS = 300
ENTRIES_A_PAGE = 500

Source = Literal["ledger", "closed", "clicked", "index"]


class LeaseLost(Exception):
    """The lease went to somebody else: another archiver runs by now."""


class ArchiveLease:
    """Who archives, of those that want to."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._holder = randomness.token()

    async def take(self) -> bool:
        """Whether it is ours now."""
        return await leases.hold(self._redis, ARCHIVER, self._holder, LEASE_MS)

    async def keep(self) -> None:
        """Raises LeaseLost."""
        if not await self.take():
            raise LeaseLost("Another archiver has taken over: this run goes on behind it.")

    async def give_back(self) -> None:
        await leases.give_back(self._redis, ARCHIVER, self._holder)


class ArchiveRuns(msgspec.Struct, frozen=True):
    """How the archive's last runs went; 0 and empty: none did."""

    files: int = 0
    rows: int = 0
    done_ms: int = 0  # when the last good run ended
    failed_ms: int = 0  # when the last run failed, if no good one followed
    reason: str = ""


class ArchiveBegun(msgspec.Struct, frozen=True):
    """What a reader must find in the archive: whose it is, and at least so many rows, which are
    never fewer than before. Empty and 0: nothing may be there yet."""

    installation: str = ""
    rows: int = 0


async def begun(redis: RedisClient) -> ArchiveBegun:
    """As the last good run left it."""
    (found,) = await redis.call([("HMGET", ARCHIVE, "installation", "rows")])
    name, rows = as_list(found)
    return ArchiveBegun(name.decode(), int(rows)) if name and int(rows or 0) else ArchiveBegun()


async def installation(redis: RedisClient) -> tuple[str, bool]:
    """By what the archive of this installation is known, and whether it had files already."""
    asked: list[Command] = [
        ("HSETNX", ARCHIVE, "installation", randomness.token()),
        ("HMGET", ARCHIVE, "installation", "files"),
    ]
    _, (name, files) = await call_allowing_oom(redis, asked)
    return name.decode(), bool(int(files or 0))


async def note_success(
    redis: RedisClient, files: int, rows: int, through: Mapping[int, EntryId], now_ms: int
) -> None:
    """`through`: up to which entry each shard's ledger is archived."""
    fields: list[str | int] = ["files", files, "rows", rows, "done_ms", now_ms]
    fields += ["failed_ms", 0, "reason", ""]
    for shard, entry in through.items():
        fields += [_through(shard), entry_text(entry)]
    await _note(redis, *fields)


async def noted_through(redis: RedisClient, shards: Sequence[int]) -> dict[int, EntryId]:
    """Up to which entry each shard's ledger was archived when the last good run ended."""
    (noted,) = await redis.call([("HMGET", ARCHIVE, *map(_through, shards))])
    return {
        shard: entry_id(entry.decode()) if entry else NOTHING_BOOKED
        for shard, entry in zip(shards, as_list(noted), strict=True)
    }


def _through(shard: int) -> str:
    return f"through:{shard}"


async def note_failure(redis: RedisClient, reason: str, now_ms: int) -> None:
    await _note(redis, "failed_ms", now_ms, "reason", reason[:REASON_CHARS])


async def note_looked(redis: RedisClient, began_ms: int) -> None:
    """The messages of all receipts that waited at that moment were looked for in the archive."""
    await _note(redis, "looked_ms", began_ms)


async def _note(redis: RedisClient, *fields: str | int) -> None:
    await call_allowing_oom(redis, [("HSET", ARCHIVE, *fields)])


async def looked_ms(redis: RedisClient) -> int:
    """When that began last; 0: it never did."""
    (found,) = await redis.call([("HGET", ARCHIVE, "looked_ms")])
    return whole(found) or 0


async def state(redis: RedisClient) -> ArchiveRuns:
    """What cannot be read is told as the reason."""
    (found,) = await redis.call([("HGETALL", ARCHIVE)])
    every = pairs(as_list(found))
    fields = {
        name.decode(errors="replace"): value.decode(errors="replace") for name, value in every
    }
    try:
        return msgspec.convert(fields, ArchiveRuns, strict=False)
    except msgspec.ValidationError as error:
        return ArchiveRuns(reason=f"{ARCHIVE} cannot be read: {error}")


async def waiting_since(redis: RedisClient, shards: Sequence[int]) -> int:
    """When the oldest booking was made that no good run has archived; 0: all are."""
    through = await noted_through(redis, shards)
    asked: list[Command] = [
        ("XRANGE", keys_of(shard).ledger, f"({entry_text(entry)}", "+", "COUNT", 1)
        for shard, entry in through.items()
    ]
    waiting = [entry for found in await redis.call(asked) for entry in as_list(found)]
    return min((entry_id(id_.decode())[0] for id_, _ in waiting), default=0)


async def entries(
    redis: RedisClient,
    shard: int,
    source: Source,
    after: EntryId,
    until: EntryId,
    count: int = ENTRIES_A_PAGE,
) -> list[tuple[EntryId, bytes]]:
    """Entries of a stream after one and up to another, the oldest first: each with its record."""
    span = (f"({entry_text(after)}", entry_text(until))
    (page,) = await redis.call([("XRANGE", _stream(shard, source), *span, "COUNT", count)])
    return [(entry_id(id_.decode()), fields[1]) for id_, fields in as_list(page)]


async def newest(redis: RedisClient, shards: Sequence[int], source: Source) -> dict[int, EntryId]:
    """The last entry of a stream in each shard that has one."""
    return await _ends(redis, shards, source, "XREVRANGE", "+", "-")


async def oldest(redis: RedisClient, shard: int, source: Source) -> EntryId | None:
    return (await _ends(redis, [shard], source, "XRANGE", "-", "+")).get(shard)


async def _ends(
    redis: RedisClient, shards: Sequence[int], source: Source, command: str, *span: str
) -> dict[int, EntryId]:
    asked: list[Command] = [
        (command, _stream(shard, source), *span, "COUNT", 1) for shard in shards
    ]
    replies = map(as_list, await redis.call(asked))
    return {
        shard: entry_id(found[0][0].decode())
        for shard, found in zip(shards, replies, strict=True)
        if found
    }


async def trim(redis: RedisClient, shard: int, source: Source, through: EntryId) -> None:
    """Takes off what lies before an entry. That one stays: it says where the stream is, and that
    there was something in it."""
    await redis.call([("XTRIM", _stream(shard, source), "MINID", entry_text(through))])


def _stream(shard: int, source: Source) -> str:
    key: str = getattr(keys_of(shard), source)
    return key
