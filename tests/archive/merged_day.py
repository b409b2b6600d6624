"""What it takes to put a day's small files together, in seconds and memory.

    python -m tests.archive.merged_day                       3 million rows of messages in 24 files
    python -m tests.archive.merged_day --rows 2400           does it still run?

The files are of rows of real messages, of which each has an id and part of a record of its own, so
that they are no smaller than a day's. They are put together by a process of its own, as a run of
the archiver is. One line a figure, Markdown; docs/archive.md has them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import trio

from gateway.archive.archive import Archive
from gateway.archive.place import Folder
from gateway.archive.questions import day_name
from gateway.archive.tables import MESSAGES
from gateway.core.archive.manifest import ArchivedFile
from gateway.core.archive.messages import row_of
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.redis.trio_driver import open_client
from gateway.store.messages import reads
from tests.worlds.archive_world import KEY, ArchiveWorld

ROWS, FILES = 3_000_000, 24
PATTERNS = 500  # messages that the rows are of
OWN_BYTES = 16  # of a row's record
SEED = 3

Values = Sequence[Any]


class Cost(NamedTuple):
    """What a process took: `before` it began to merge, and at most."""

    seconds: float
    core_seconds: float
    before_mib: float
    peak_mib: float


async def patterns(url: str, root: Path) -> list[Values]:
    """Rows of messages that were delivered."""
    async with open_client(url) as redis:
        world = ArchiveWorld(redis, root, 1)
        ids = await world.delivered(PATTERNS)
        messages = await reads.readable_messages(world.store, ids)
        return [row_of(message, 1, KEY, "EUR") for message in messages]


def rows_like(patterns: Sequence[Values], count: int, first: int, random: Random) -> list[Values]:
    return [tuple(_row(patterns, number, random)) for number in range(first, first + count)]


def _row(patterns: Sequence[Values], number: int, random: Random) -> Iterator[Any]:
    id_, *middle, record = patterns[number % len(patterns)]
    yield f"{id_[:8]}{number:012}"
    yield from middle
    yield record[:-OWN_BYTES] + random.randbytes(OWN_BYTES)


def fill(root: Path, patterns: Sequence[Values], rows: int, files: int) -> None:
    """A day's files."""
    archive, random = Archive(Folder(root), str(root), KEY), Random(SEED)
    archive.begin("an installation")
    each = rows // files
    for number in range(files):
        day = {
            (MESSAGES, day_name(patterns[0][0])): rows_like(patterns, each, number * each, random)
        }
        through = {0: (number + 1, 0)}
        archive.put(day, {0: (number, 0)}, through, archive.place.manifest())


def merge(root: Path) -> Cost:
    """All of them into one."""
    archive = Archive(Folder(root), str(root), KEY)
    before = _peak_mib()
    begun, used = time.monotonic(), time.process_time()
    archive.merge(archive.files(), 0, archive.place.manifest())
    return Cost(time.monotonic() - begun, time.process_time() - used, before, _peak_mib())


def _peak_mib() -> float:
    """Of this process alone: what getrusage tells begins with what its parent had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def merged(root: Path) -> tuple[Cost, int, ArchivedFile]:
    """What it took, the bytes of the files before, and the one that took their place."""
    size = sum(file.bytes for file in Archive(Folder(root), str(root)).files())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        cost = pool.apply(merge, (root,))
    (file,) = Archive(Folder(root), str(root)).files()
    return cost, size, file


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--files", type=int, default=FILES)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kaskad-") as folder:
        root = Path(folder) / "archive"
        with EmbeddedRedis(Path(folder) / "redis", "everysec") as server:
            alike = trio.run(patterns, server.url, root)
        fill(root, alike, asked.rows, asked.files)
        cost, size, file = merged(root)
    sys.stdout.write(
        f"- rows: {file.rows:,} of {asked.files} files with {size / 1e6:,.0f} MB, then "
        f"{file.bytes / 1e6:,.0f} MB\n"
        f"- together in {cost.seconds:,.1f} s, {cost.core_seconds:,.1f} s of the processor\n"
        f"- memory at most: {cost.peak_mib:,.0f} MiB, of which {cost.before_mib:,.0f} before\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
