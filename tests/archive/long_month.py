"""What it takes to add a long month up again, and to read its archive again.

    python -m tests.archive.long_month                     5 million lines, some twenty minutes
    python -m tests.archive.long_month --lines 20000       does it still run?

Days are booked as commits book them, each is archived when it is over, and then `kaskad report
verify --full` and `kaskad archive verify` are done in this process, over all of them. One line a
figure, Markdown; docs/finance.md has them. Books that do not agree are an AssertionError.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import trio

from gateway.core.money.days import DAY_MS
from gateway.core.records.entries import Group, Post
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.redis.trio_driver import open_client
from tests.finance.reports.test_ledger import book
from tests.worlds.archive_world import ArchiveWorld

LINES, DAYS = 5_000_000, 30
MONTH = 150_000_000  # lines
A_COMMIT = 100  # messages whose receipts came in one callback
LINES_EACH = 2  # a message costs, and is billed
SEED = 5

Tell = Callable[[str], None]


def groups() -> list[Group]:
    return [
        Group("shop", campaign, "marketing", channel, channel, country, "viber-then-sms", step)
        for campaign in ("autumn", "winter", "spring", "summer", "sale")
        for step, channel in enumerate(("viber", "sms"))
        for country in ("RU", "KZ", "BY", "DE")
    ]


def delivered(random: Random, count: int, numbers: Iterator[int]) -> list[Post]:
    """What receipts book of so many messages, each of a group and at a price of its own."""
    posts = []
    for group in random.choices(groups(), k=count):
        cost = random.randrange(4_000, 6_000)
        measures = {"delivered": 1, "parts": 1, "cost": cost, "billed": 9_000}
        name = f"{next(numbers):026}"
        posts.append(Post(group, measures, message=name, step=group.step))
    return posts


async def measure(url: str, root: Path, lines: int, tell: Tell) -> None:
    random, numbers = Random(SEED), iter(range(lines))
    left = lines // LINES_EACH
    async with open_client(url) as redis:
        world = ArchiveWorld(redis, root, 1)
        for day in range(DAYS, 0, -1):
            today = -(-left // day)
            left -= today
            while today:
                count = min(today, A_COMMIT)
                await book(redis, 0, delivered(random, count, numbers), world.now_ms)
                today -= count
            await world.archived()
            world.now_ms += DAY_MS
        rows = sum(file.rows for file in world.archive.files() if file.table == "ledger")
        assert rows == lines, f"{rows:,} lines were archived"
        with _Timed(tell, "report verify --full", rows):
            assert (await world.verify()).agrees
        size = sum(file.bytes for file in world.archive.files())
        with _Timed(tell, "archive verify", rows):
            assert not [reason for _, reason in world.archive.verify() if reason]
        tell(f"- files: {len(world.archive.files()):,}, {size / 1e6:,.0f} MB")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        tell(f"- memory at most: {peak:,.0f} MiB")


class _Timed:
    """Tells how long something took over so many lines, and what a month of them would."""

    def __init__(self, tell: Tell, what: str, lines: int) -> None:
        self._tell, self._what, self._lines = tell, what, lines

    def __enter__(self) -> None:
        self._begun, self._cpu = time.monotonic(), time.process_time()

    def __exit__(self, *_: object) -> None:
        took_s, cpu_s = time.monotonic() - self._begun, time.process_time() - self._cpu
        month_h = took_s * MONTH / self._lines / 3600
        self._tell(
            f"- {self._what}: {self._lines:,} lines in {took_s:,.1f} s, {cpu_s:,.1f} s of CPU; "
            f"{MONTH:,} in {month_h:,.1f} hours"
        )


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lines", type=int, default=LINES)
    lines: int = parser.parse_args(arguments).lines
    with (
        tempfile.TemporaryDirectory(prefix="kaskad-") as folder,
        EmbeddedRedis(folder, "everysec") as server,
    ):
        trio.run(measure, server.url, Path(folder) / "archive", lines, _tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
