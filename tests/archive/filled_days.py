"""What messages take in Redis and in the archive, day after day, and how fast they go over.

    python -m tests.archive.filled_days                       10 days of 5,000 messages
    python -m tests.archive.filled_days --messages 100        does it still run?
    python -m tests.archive.filled_days --days 50 --messages 100000 --minutes 60
                                                              as many of 5 million as an hour allows

Each simulated day the same people get a message each; these are accepted, delivered and archived in
this process, and leave Redis when they were closed two days ago, as with `archive.keep = "48h"`.
What apps are told is kept for as many changes as a day has (`retention.events_max`), and cut as
dispatch does. One line a figure, Markdown; docs/archive.md has them.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path

import trio
from msgspec.structs import replace

from gateway.archive.run import ArchiveRun, Run, RunLimits
from gateway.core.money.days import DAY_MS
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.redis.trio_driver import open_client
from gateway.store import scans
from gateway.store.archive.archived_index import next_moment
from gateway.store.events.event_marks import cut_events
from gateway.store.keys import keys_of
from tests.worlds.archive_world import ArchiveWorld
from tests.worlds.dispatch_world import sends_to

DAYS, MESSAGES = 10, 5_000
KEEP_DAYS = 2
AT_ONCE = 500
CHANGES = 2  # that an app is told of a message: sent, delivered
FIRST = 79_160_000_000
SIZES = {b"stream": "XLEN", b"hash": "HLEN", b"zset": "ZCARD", b"set": "SCARD"}


class FilledDays:
    """An installation that lives one simulated day after the other. Redis' own clock does not: what
    is so many days old is so by when its day ended there."""

    def __init__(self, world: ArchiveWorld, messages: int) -> None:
        self.world = world
        self._messages = messages
        self._people = itertools.cycle(range(FIRST, FIRST + messages))
        self._ends: list[int] = []
        retention = replace(world.store.retention, events_max=CHANGES * messages)
        world.store.retention = retention

    async def fill(self) -> None:
        """A day's messages are accepted and delivered."""
        world = self.world
        for begun in range(0, self._messages, AT_ONCE):
            await self._deliver(self._people, min(AT_ONCE, self._messages - begun))
        await cut_events(world.redis, keys_of(0), world.store.retention.events_max)
        self._ends.append(await next_moment(world.redis, [0]))

    async def archive(self) -> ArchiveRun:
        """The run at the day's end."""
        over_ms = self._ends[-1 - KEEP_DAYS] if len(self._ends) > KEEP_DAYS else 0
        world = self.world
        run = Run(world.store, world.archive, RunLimits(keep_ms=0), lambda: over_ms, world.pause)
        done = await run.once()
        world.now_ms += DAY_MS
        return done

    async def _deliver(self, people: Iterator[int], count: int) -> None:
        world = self.world
        named = {"category": "transactional", "campaign": None}
        sends = sends_to(world.store, people, count, world.now_ms, **named)
        answers = await world.store.admit(sends, world.now_ms)
        assert {answer.outcome for answer in answers} == {"accepted"}
        ids = [answer.id or "" for answer in answers]
        await world.hand_over(ids)
        await world.redis.call([("DEL", keys_of(0).lane("viber", "transactional"))])  # as dispatch
        await world.tell(ids, "delivered")


async def kept(world: ArchiveWorld) -> tuple[Counter[str], Counter[str]]:
    """What Redis has, by family of keys: entries, and bytes."""
    entries, octets = Counter[str](), Counter[str]()
    async with aclosing(scans.keys(world.redis, keys_of(0), "*")) as pages:
        async for names in pages:
            types = await world.redis.call([("TYPE", name) for name in names]) if names else []
            for name, kind in zip(names, types, strict=True):
                assert isinstance(kind, bytes)
                family = name.partition("}")[2].partition(":")[0]
                size = (SIZES[kind], name) if kind in SIZES else ("EXISTS", name)
                count, used = await world.redis.call([size, ("MEMORY", "USAGE", name)])
                assert isinstance(count, int)
                entries[family] += count
                octets[family] += used if isinstance(used, int) else 0
    return entries, octets


async def used_bytes(world: ArchiveWorld) -> int:
    (found,) = await world.redis.call([("INFO", "memory")])
    assert isinstance(found, bytes)
    (line,) = [each for each in found.splitlines() if each.startswith(b"used_memory:")]
    return int(line.partition(b":")[2])


async def measure(url: str, root: Path, days: int, messages: int, minutes: float) -> None:
    until = time.monotonic() + 60 * minutes
    async with open_client(url) as redis:
        world = ArchiveWorld(redis, root, 1)
        filled = FilledDays(world, messages)
        rows, seconds, core_seconds, left = 0, 0.0, 0.0, await used_bytes(world)
        for day in range(1, days + 1):
            await filled.fill()
            full = await used_bytes(world)
            begun, used = time.monotonic(), time.process_time()
            done = await filled.archive()
            seconds += time.monotonic() - begun
            core_seconds += time.process_time() - used
            rows += sum(done.rows.values())
            added, left = (full - left) / messages, await used_bytes(world)
            _tell(f"- day {day}: {added:,.0f} bytes a message in Redis, then {left / 1e6:,.1f} MB")
            if time.monotonic() > until:
                break
        size = sum(file.bytes for file in world.archive.files())
        assert (await world.verify()).agrees
        _, octets = await kept(world)
    count = day * messages
    _tell(f"- messages: {count:,}, in files {size / count:,.0f} bytes each")
    rates = f"{rows / seconds:,.0f} a second, {rows / core_seconds:,.0f} a second of the processor"
    _tell(f"- archived: {rows:,} rows, {rates}")
    told = (f"{family} {used:,}" for family, used in octets.most_common(8))
    _tell(f"- bytes in Redis at the end, by kind of key: {', '.join(told)}")


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--messages", type=int, default=MESSAGES, help="a day")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no day begins after them")
    asked = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="kaskad-") as folder,
        EmbeddedRedis(folder, "everysec") as server,
    ):
        root = Path(folder) / "archive"
        trio.run(measure, server.url, root, asked.days, asked.messages, asked.minutes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
