"""`kaskad archive`: one run, the check of every file, and how it stands.

What is done is in `gateway.archive`. A command that finds no archive configured is a UsageFault,
one whose library is missing too; an archive that is not as it must be ends with 1.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.failures import DONE, FAILED, UsageFault
from gateway.cli.reach import redis_for_command
from gateway.cli.tables import moment, print_json
from gateway.core.archive.manifest import ArchiveFault
from gateway.finance.extras import archive_library
from gateway.redis.asyncio_driver import run, sleep
from gateway.redis.client import RedisClient
from gateway.settings import bootstrap
from gateway.settings.file import Settings, load
from gateway.store import redis_clock
from gateway.store.archive import archiving
from gateway.store.former_shards import shards_ever
from gateway.store.store import Store

if TYPE_CHECKING:
    from gateway.archive.archive import Archive
    from gateway.archive.booked import ArchivedLedger
    from gateway.archive.run import ArchiveRun

LIBRARIES = ("pyarrow", "duckdb")
WAIT_S = 0.2  # between looks at a run under way


def archive_of(settings: Settings, *, writes: bool = False) -> Archive:
    """The configured one. Raises UsageFault; where it `writes`, also for want of the hash key."""
    url = settings.archive.url
    if not url:
        raise UsageFault(
            f"archive.url in {settings.path} is empty: name a folder, or s3://BUCKET/PREFIX."
        )
    for library in (*LIBRARIES, *(["obstore"] if "://" in url else [])):
        archive_library(library)
    from gateway.archive.archive import Archive
    from gateway.archive.places import place_of

    key = settings.secrets.get(settings.archive.hash_key_env)
    if writes and not key:
        raise UsageFault(
            f"archive.hash_key_env in {settings.path} names the environment variable "
            f"{settings.archive.hash_key_env}, which is not set: set it to the archive's key."
        )
    return Archive(place_of(url), url, key.encode())


async def archive_to_read(settings: Settings, redis: RedisClient) -> Archive:
    """The configured one, which answers nothing where it is less than this Redis knows of."""
    archive = archive_of(settings)
    archive.begun = await archiving.begun(redis)
    return archive


async def has_archive(settings: Settings, redis: RedisClient) -> bool:
    """Whether some of what is asked may be in an archive. Raises UsageFault where that is not
    configured any more: what left Redis is nowhere else."""
    if settings.archive.url:
        return True
    if (await archiving.begun(redis)).rows:
        raise UsageFault(
            f"archive.url in {settings.path} is empty, and there is an archive, without which the "
            "answer would lack what it holds: set it again."
        )
    return False


async def archived_ledger(settings: Settings, redis: RedisClient) -> ArchivedLedger | None:
    """What of the ledger is archived; None where there is no archive. Raises UsageFault."""
    if not await has_archive(settings, redis):
        return None
    archive = await archive_to_read(settings, redis)
    from gateway.archive.booked import ArchivedLedger

    return ArchivedLedger(archive)


def run_once(config: Path | None, environment: Mapping[str, str], *, as_json: bool) -> int:
    """Archives everything that was booked and closed before now."""
    settings = load(config, environment, secrets_required=False)
    archive = archive_of(settings, writes=True)
    policy = bootstrap.policy_of(settings, lambda *_price: None)
    retention = bootstrap.retention_of(settings)
    from gateway.archive.run import Run, RunLimits

    limits = RunLimits(keep_ms=int(settings.archive.keep_ms))

    async def work(redis: RedisClient) -> ArchiveRun:
        store = Store(redis, policy, shards=settings.redis.shards, retention=retention)
        clock = await redis_clock.asked(redis)
        return await Run(store, archive, limits, clock.now_ms, partial(sleep, WAIT_S)).once()

    try:
        with redis_for_command(settings, changes=True) as url:
            done = run(url, work)
    except OSError as error:
        raise ArchiveFault(f"Not all is archived. {archive.why(error)}") from None
    if as_json:
        print_json(done)
        return DONE
    rows = ", ".join(f"{count:,} {table}" for table, count in sorted(done.rows.items()))
    sys.stdout.write(
        f"Archived: {rows or 'nothing new'}. Messages taken out of Redis: {done.taken_out:,}.\n"
    )
    return DONE


def verify(config: Path | None, environment: Mapping[str, str], *, as_json: bool) -> int:
    """Reads all files again; 1 when one is not what the manifest says."""
    settings = load(config, environment, secrets_required=False)
    files = rows = 0
    wrong: list[dict[str, str | None]] = []
    lines: list[str] = []
    archive = archive_of(settings)
    if archive.installation() is None:
        raise ArchiveFault(
            f"There is no archive at {archive.url}: nothing was archived yet, or its folder is not "
            "mounted, or archive.url was changed."
        )
    for file, reason in archive.verify():
        files, rows = files + 1, rows + file.rows
        if reason:
            start, end = map(moment, file.span_ms)
            wrong.append({"file": file.file, "from": start, "to": end, "reason": reason})
            lines.append(f"  {file.file}, of {file.when}: {reason}\n")
        if not as_json and sys.stderr.isatty():
            sys.stderr.write(f"\r{files:,} files read")
    if as_json:
        print_json({"agrees": not wrong, "files": files, "rows": rows, "wrong": wrong})
    elif wrong:
        sys.stdout.write("".join(["These files are not as they were written:\n", *lines]))
    else:
        sys.stdout.write(f"All {files:,} files ({rows:,} rows) are as they were written.\n")
    return FAILED if wrong else DONE


def status(config: Path | None, environment: Mapping[str, str], *, as_json: bool) -> int:
    """Prints what is archived, how the last run went and how far behind it is."""
    settings = load(config, environment, secrets_required=False)
    archive = archive_of(settings)
    tables: dict[str, dict[str, int]] = {}
    for file in archive.files():
        sums = tables.setdefault(file.table, {"files": 0, "rows": 0, "bytes": 0})
        for name, more in (("files", 1), ("rows", file.rows), ("bytes", file.bytes)):
            sums[name] += more

    async def ask(redis: RedisClient) -> tuple[archiving.ArchiveRuns, int]:
        shards = await shards_ever(redis, settings.redis.shards)
        since_ms = await archiving.waiting_since(redis, shards)
        return await archiving.state(redis), since_ms

    with redis_for_command(settings) as url:
        state, since_ms = run(url, ask)
    shape = {
        "url": settings.archive.url,
        "last_run_at": moment(state.done_ms),
        "failed_at": moment(state.failed_ms),
        "reason": state.reason or None,
        "waiting_since": moment(since_ms),
        "tables": tables,
    }
    if as_json:
        print_json(shape)
        return DONE
    for name, value in shape.items():
        if name != "tables":
            sys.stdout.write(f"{name.replace('_', ' '):<14} {value or '-'}\n")
    for table, sums in sorted(tables.items()):
        counted = ", ".join(f"{count:,} {name}" for name, count in sums.items())
        sys.stdout.write(f"{table:<14} {counted}\n")
    return DONE
