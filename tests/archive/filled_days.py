"""What messages take in Redis and in the archive, day after day, and how fast they go over.

    python -m tests.archive.filled_days                       10 days of 5,000 messages
    python -m tests.archive.filled_days --messages 100        does it still run?

Each simulated day the same people get a message each; these are accepted, delivered and archived in
this process, and leave Redis, as with `archive.keep = "0s"`. One line a figure,
Markdown; docs/archive.md has them.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import trio

from gateway.core.days import DAY_MS
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.redis.trio_driver import open_client
from gateway.store.keys import keys_of
from tests.worlds.archive_world import ArchiveWorld
from tests.worlds.dispatch_world import sends_to

DAYS, MESSAGES = 10, 5_000
AT_ONCE = 500
FIRST = 79_160_000_000


async def fill_day(world: ArchiveWorld, people: Iterator[int], messages: int) -> None:
    for begun in range(0, messages, AT_ONCE):
        count = min(AT_ONCE, messages - begun)
        named = {"category": "transactional", "campaign": None}
        sends = sends_to(world.store, people, count, world.now_ms, **named)
        answers = await world.store.admit(sends, world.now_ms)
        assert {answer.outcome for answer in answers} == {"accepted"}
        ids = [answer.id or "" for answer in answers]
        await world.hand_over(ids)
        await world.redis.call([("DEL", keys_of(0).lane("viber", "transactional"))])  # as dispatch
        await world.tell(ids, "delivered")


async def used_bytes(world: ArchiveWorld) -> int:
    (found,) = await world.redis.call([("INFO", "memory")])
    assert isinstance(found, bytes)
    (line,) = [each for each in found.splitlines() if each.startswith(b"used_memory:")]
    return int(line.partition(b":")[2])


async def measure(url: str, root: Path, days: int, messages: int) -> None:
    people = itertools.cycle(range(FIRST, FIRST + messages))
    async with open_client(url) as redis:
        world = ArchiveWorld(redis, root, 1)
        before = await used_bytes(world)
        rows, seconds, left = 0, 0.0, before
        for day in range(1, days + 1):
            await fill_day(world, people, messages)
            full = await used_bytes(world)
            begun = time.monotonic()
            done = await world.archived(keep_ms=0)
            seconds += time.monotonic() - begun
            rows += sum(done.rows.values())
            added, left = (full - left) / messages, await used_bytes(world)
            _tell(f"- day {day}: {added:,.0f} bytes a message in Redis, then {left / 1e6:,.1f} MB")
            world.now_ms += DAY_MS
        size = sum(file.bytes for file in world.archive.files())
        assert (await world.verify()).agrees
    count = days * messages
    _tell(f"- messages: {count:,}, in files {size / count:,.0f} bytes each")
    _tell(f"- left in Redis: {(left - before) / count:,.0f} bytes a message")
    _tell(f"- archived: {rows:,} rows, {rows / seconds:,.0f} a second")


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--messages", type=int, default=MESSAGES, help="a day")
    asked = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="kaskad-") as folder,
        EmbeddedRedis(folder, "everysec") as server,
    ):
        root = Path(folder) / "archive"
        trio.run(measure, server.url, root, asked.days, asked.messages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
