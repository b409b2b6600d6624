"""`kaskad report`: finance's answers on the terminal.

What they say is in `gateway.finance`. A question that cannot be answered is a ReportFault (exit 2),
books that disagree are exit 1.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import orjson
from msgspec.structs import asdict, astuple

from gateway.cli.archive import archived_ledger
from gateway.cli.books.closing import broken_text, changes_text
from gateway.cli.failures import DONE, FAILED, UsageFault
from gateway.cli.output import check_form, output
from gateway.cli.reach import redis_for_command
from gateway.core.channels import BASELINE_COLUMN
from gateway.core.money.money import format_amount
from gateway.core.money.months import Month
from gateway.core.records.entries import NO_STEP
from gateway.finance.question import KEYS, parse_query
from gateway.finance.reports import formats
from gateway.finance.reports.closing import MonthChange, broken_months, changed_months
from gateway.finance.reports.report import Report, cost_report
from gateway.finance.reports.report_workbook import write_workbook
from gateway.finance.reports.verify import Difference, Verdict, verify_ledger
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.settings.bootstrap import days_of
from gateway.settings.file import load
from gateway.store.money.months import closed_months
from gateway.store.money.totals import pages_of_totals

FORMATS = ("table", "json", "csv", "xlsx")
DIFFERENCES_SHOWN = 20
AMOUNTS = ("cost", "billed", BASELINE_COLUMN)
NOT_NAMED = ("", NO_STEP)


class CostQuestion(msgspec.Struct, frozen=True):
    """The options as they were written; `where` holds texts of the form key=value."""

    from_day: str | None
    to_day: str | None
    group_by: str
    where: tuple[str, ...]

    def parameters(self) -> list[tuple[str, str]]:
        """As the HTTP report takes them. Raises UsageFault."""
        given = [("from", self.from_day), ("to", self.to_day), ("group_by", self.group_by or None)]
        found = [(name, value) for name, value in given if value is not None]
        for text in self.where:
            key, equals, value = text.partition("=")
            if not equals or key not in KEYS:
                raise UsageFault(
                    f"--where {text!r} is no filter: write KEY=VALUE with one of {', '.join(KEYS)}."
                )
            found.append((key, value))
        return found


def cost(
    config: Path | None,
    environment: Mapping[str, str],
    question: CostQuestion,
    form: str,
    out: Path | None = None,
    *,
    rates: bool = False,
) -> int:
    """Writes the cost report: a table to the terminal, else to a file or stdout."""
    check_form(form, FORMATS)
    if form == "table" and out is not None:
        raise UsageFault("A table goes to the terminal: for a file use --format json, csv or xlsx.")
    settings = load(config, environment, secrets_required=False)
    days = days_of(settings)
    query = parse_query(question.parameters(), days.of(time.time_ns() // 1_000_000))
    shards, currency = settings.redis.shards, settings.prices.currency

    async def ask(redis: RedisClient) -> Report:
        days_asked = query.from_day, query.to_day
        pages = pages_of_totals(redis, shards, *days_asked, hours=query.by_hour)
        baseline = settings.prices.baseline
        found = await cost_report(pages, query, currency, baseline, zone=days.zone)
        return msgspec.structs.replace(found, rates=rates)

    with redis_for_command(settings) as url:
        report = run(url, ask)
    if form == "table":
        _print_table(report)
        return DONE
    with output(out, binary=form == "xlsx") as file:
        if form == "xlsx":
            write_workbook(report, file)
        elif form == "csv":
            file.write(formats.to_csv(report))
        else:
            file.write(formats.to_json(report) + b"\n")
    return DONE


def _print_table(report: Report) -> None:
    from rich.console import Console

    from gateway.finance.reports.table import render_table

    console = Console()
    console.print(render_table(report, console.width), crop=False)


def verify(
    config: Path | None, environment: Mapping[str, str], *, full: bool, as_json: bool
) -> int:
    """Prints whether the ledger agrees with its totals, and closed months with what they were; 1
    when they do not."""
    settings = load(config, environment, secrets_required=False)
    shards, days = settings.redis.shards, days_of(settings)

    async def work(redis: RedisClient) -> tuple[Verdict, list[MonthChange], list[str]]:
        archived = await archived_ledger(settings, redis)
        verdict = await verify_ledger(redis, shards, full=full, days=days, archived=archived)
        closed = sorted((await closed_months(redis, days)).at_ms)
        months = [month for name in closed if (month := Month.named(name)) is not None]
        currency = settings.prices.currency
        changes = await changed_months(redis, shards, currency, days, months)
        return verdict, changes, await broken_months(redis, months)

    with redis_for_command(settings) as url:
        verdict, changes, broken = run(url, work)
    if as_json:
        sys.stdout.buffer.write(_verdict_json(verdict, changes, broken) + b"\n")
    else:
        sys.stdout.write(verdict_text(verdict) + changes_text(changes) + broken_text(broken))
    return DONE if verdict.agrees and not changes and not broken else FAILED


def verdict_text(verdict: Verdict) -> str:
    """The verdict in plain lines."""
    counted = f"{verdict.posts} bookings in {verdict.entries} entries"
    if verdict.agrees:
        return f"The ledger ({counted}) and the running totals agree to the last unit.\n"
    lines = [f"The ledger ({counted}) and the running totals disagree:"]
    lines += [_difference_line(each) for each in verdict.differences[:DIFFERENCES_SHOWN]]
    more = len(verdict.differences) - DIFFERENCES_SHOWN
    if more > 0:
        lines.append(f"  and {more} more; --json lists all.")
    lines.append("The ledger is what was booked; keep both as they are and find out what wrote.")
    return "\n".join(lines) + "\n"


def _difference_line(difference: Difference) -> str:
    group = ", ".join(str(value) for value in astuple(difference.group) if value not in NOT_NAMED)
    booked, kept = (_figure(difference.measure, n) for n in (difference.ledger, difference.totals))
    return f"  {difference.day} {group}: {difference.measure} is {booked} booked, {kept} in total"


def _figure(measure: str, amount: int) -> str:
    return format_amount(amount) if measure in AMOUNTS else str(amount)


def _verdict_json(verdict: Verdict, changes: Sequence[MonthChange], broken: Sequence[str]) -> bytes:
    return orjson.dumps(
        {
            "agrees": verdict.agrees,
            "entries": verdict.entries,
            "bookings": verdict.posts,
            "differences": [
                {
                    "day": each.day,
                    **asdict(each.group),
                    "measure": each.measure,
                    "ledger": _figure(each.measure, each.ledger),
                    "totals": _figure(each.measure, each.totals),
                }
                for each in verdict.differences
            ],
            "closed_months_changed": [asdict(change) for change in changes],
            "closed_months_broken": broken,
        }
    )
