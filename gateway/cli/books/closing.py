"""`kaskad close`: a month is frozen, or it is said why it cannot be.

Ends with 1 when it cannot. The report of a closed month is written as it was kept.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from gateway.cli.archive import archived_ledger
from gateway.cli.failures import DONE, FAILED, UsageFault
from gateway.cli.output import output
from gateway.cli.person import who
from gateway.cli.reach import redis_for_command
from gateway.cli.tables import print_json
from gateway.core.money.months import Month
from gateway.core.views.words import rfc3339
from gateway.finance.reports.closing import (
    ClosingRefusal,
    MonthChange,
    changed_months,
    close_month,
    is_whole,
)
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.settings import bootstrap
from gateway.settings.file import load
from gateway.store import redis_clock
from gateway.store.archive import archiving
from gateway.store.former_shards import shards_ever
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.store import Store

NOT_ARCHIVED = "What was booked since {} is not archived: run `kaskad archive run --once`."


def close(
    config: Path | None,
    environment: Mapping[str, str],
    name: str,
    out: Path | None,
    *,
    as_json: bool,
) -> int:
    """Closes a month, and tells what it came to."""
    month = Month.named(name)
    if month is None:
        raise UsageFault(f"{name!r} is no month: write it as 2026-11.")
    settings = load(config, environment, secrets_required=False)
    policy = bootstrap.policy_of(settings, bootstrap.load_prices(settings))

    async def work(redis: RedisClient) -> tuple[bytes | ClosingRefusal, list[MonthChange]]:
        now_ms = await redis_clock.now_ms(redis)
        store = Store(redis, policy, shards=settings.redis.shards)
        archived = await archived_ledger(settings, redis)

        async def unarchived(before_ms: int) -> str | None:
            since_ms = await archiving.waiting_since(redis, await shards_ever(redis, store.shards))
            return NOT_ARCHIVED.format(rfc3339(since_ms)) if 0 < since_ms < before_ms else None

        told = await close_month(
            store, month, now_ms, unarchived if archived is not None else None, archived
        )
        if isinstance(told, ClosingRefusal):
            return told, []
        await audit.note(redis, Deed(now_ms, who(), "month.close", month.name), of_app=False)
        return told, await changed_months(
            redis, store.shards, policy.currency, policy.days, [month]
        )

    with redis_for_command(settings, changes=True) as url:
        told, changes = run(url, work)
    if isinstance(told, ClosingRefusal):
        _tell_refusal(told, as_json=as_json)
        return FAILED
    if out is not None or as_json:
        with output(out, binary=False) as file:
            file.write(told + b"\n")
    if not is_whole(told):
        sys.stderr.write(broken_text([name]))
        return FAILED
    if not as_json:
        sys.stdout.write(_sentences(told))
    sys.stderr.write(changes_text(changes))
    return FAILED if changes else DONE


def broken_text(months: Sequence[str]) -> str:
    """Closed months whose reports are not what was written, in plain lines."""
    return "".join(
        f"The report of {month} is not what it was: its hash does not fit.\n" for month in months
    )


def changes_text(changes: Sequence[MonthChange]) -> str:
    """What was booked on days of closed months after they were closed, in plain lines."""
    if not changes:
        return ""
    lines = ["Booked on days of a closed month after it was closed:"]
    lines += [f"  {c.month}: {c.column} was {c.closed} and is {c.now}" for c in changes]
    lines.append(
        "The closed report is as it was; cost reports of these days are not. A process stood still "
        "for minutes, or its clock is wrong: `kaskad ledger export` of these days has the lines."
    )
    return "\n".join(lines) + "\n"


def _sentences(report: bytes) -> str:
    shape = orjson.loads(report)
    total = shape["total"]
    return (
        f"{shape['month']} ({shape['from']} to {shape['to']}, {shape['zone']}) is closed since "
        f"{shape['closed_at']}.\n"
        f"  cost {total['cost']}, billed {total['billed']} {total['currency']}, "
        f"{total['delivered']:,} delivered\n"
        f"  sha256 {shape['sha256']}\n"
    )


def _tell_refusal(refusal: ClosingRefusal, *, as_json: bool) -> None:
    if as_json:
        print_json(refusal)
    lines = [f"{refusal.month} cannot be closed:", *refusal.reasons]
    lines += [
        f"  {step.message}, step {step.step}, {step.provider or 'not sent yet'}: by {step.done_by}"
        for step in refusal.open
    ]
    sys.stderr.write("\n".join(lines) + "\n")
