"""`kaskad copy`: everything from the configured Redis into another one, while Kaskad is stopped.

How it is copied and compared is in `gateway.store.copies.copying`. In the end the copy's ledger is
added up against its totals. What cannot be copied as it is raises ConfigurationError (exit 2).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from gateway.cli.archive import archived_ledger
from gateway.cli.failures import DONE, FAILED
from gateway.cli.reach import redis_for_command
from gateway.cli.tables import print_json
from gateway.finance.reports.verify import Verdict, compare_books
from gateway.redis.address import parse_address
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisUnavailable
from gateway.redis.server.checks import examine
from gateway.settings import bootstrap
from gateway.settings.file import Settings, load
from gateway.store import redis_clock
from gateway.store.copies import copying
from gateway.store.copies.copying import Placing, Unchanged
from gateway.store.copies.sides import CopyFault, Side
from gateway.store.copies.spreading import Spread
from gateway.store.installation import installation, snapshots
from gateway.store.installation.installation import Copied
from gateway.store.money.ledger import read_books

if TYPE_CHECKING:
    from gateway.archive.booked import ArchivedLedger


def copy(
    config: Path | None,
    environment: Mapping[str, str],
    to: str,
    shards: int | None,
    *,
    as_json: bool,
) -> int:
    """Copies, compares and tells what there is; 1 when the copied books disagree."""
    settings = load(config, environment, secrets_required=False)
    have = settings.redis.shards
    wanted = shards or have
    installation.insist(examine(to))
    target = parse_address(to)
    with redis_for_command(settings) as url:
        _refuse_while_running(url)
        archived = run(url, partial(_archived, settings))
        try:
            with Side(parse_address(url)) as source, Side(target) as there:
                copying.begin(there)
                counts = _copy(source, there, lambda: _placing(settings, source, wanted))
                _close(url, source, there, wanted)
        except redis.RedisError as fault:
            raise RedisUnavailable(
                f"One of the two stopped to answer ({fault}): run the copy again, it begins anew."
            ) from None
    days = bootstrap.days_of(settings)
    verdict = run(
        to, lambda client: compare_books(read_books(client, wanted, archived=archived), days)
    )
    _tell(counts, verdict, target.label, wanted, as_json=as_json)
    return DONE if verdict.agrees else FAILED


def take_back(config: Path | None, environment: Mapping[str, str]) -> int:
    """Lets roles start where everything was copied away from."""
    settings = load(config, environment, secrets_required=False)
    with redis_for_command(settings) as url, Side(parse_address(url)) as source:
        copying.take_back(source)
    sys.stdout.write("Roles may start on this Redis again: start none on its copy.\n")
    return DONE


def _close(url: str, source: Side, target: Side, shards: int) -> None:
    """Nothing starts on the source from here on, and on the target everything may. Raises CopyFault
    where something started meanwhile."""
    copying.mark(source, Copied(target.label, shards, time.time_ns() // 1_000_000))
    try:
        _refuse_while_running(url)
    except CopyFault:
        copying.take_back(source)
        raise
    copying.finish(source, target, shards)


def _placing(settings: Settings, source: Side, shards: int) -> Placing:
    have = settings.redis.shards
    if shards == have:
        return Unchanged(source)
    message_ms = bootstrap.retention_of(settings).message_ms
    return Spread(source, have, shards, time.time_ns() // 1_000_000, message_ms)


def _copy(source: Side, target: Side, placing: Callable[[], Placing]) -> dict[str, int]:
    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        total = source.size()
        copied = bars.add_task("Copied", total=total)
        compared = bars.add_task("Compared", total=total)
        written = copying.copy(source, target, placing(), lambda n: bars.advance(copied, n))
        counts = copying.compare(
            source, target, placing(), written, lambda n: bars.advance(compared, n)
        )
        bars.update(copied, completed=total)
        bars.update(compared, completed=total)
    return counts


async def _archived(settings: Settings, redis: RedisClient) -> ArchivedLedger | None:
    """What the books are compared with in the end: were it away, that is told before all else."""
    archived = await archived_ledger(settings, redis)
    if archived is not None:
        await archived.through(0)
    return archived


def _refuse_while_running(url: str) -> None:
    async def running(redis: RedisClient) -> list[str]:
        return await snapshots.processes(redis, await redis_clock.now_ms(redis))

    names = run(url, running)
    if names:
        raise CopyFault(
            f"Kaskad still runs on this Redis ({', '.join(sorted(names)[:5])}): stop every role, "
            "and copy 10 seconds later."
        )


def _tell(
    counts: Mapping[str, int], verdict: Verdict, label: str, shards: int, *, as_json: bool
) -> None:
    if as_json:
        shape = {
            "to": label,
            "shards": shards,
            "counts": counts,
            "agrees": verdict.agrees,
            "entries": verdict.entries,
            "bookings": verdict.posts,
        }
        print_json(shape)
        return
    lines = [f"  {count:>12,}  {name}" for name, count in counts.items()]
    books = "agrees with its totals to the last unit" if verdict.agrees else "disagrees with totals"
    sys.stdout.write(
        "Both hold the same:\n"
        + "\n".join(lines)
        + f"\nThe copied ledger ({verdict.posts} bookings in {verdict.entries} entries) {books}.\n"
        f"Set redis.url (or KASKAD_REDIS_URL) to {label} and redis.shards = {shards}, and start.\n"
    )
