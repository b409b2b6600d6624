"""`kaskad reconcile`: a provider's invoice against what we booked.

Ends with 1 when anything is to be claimed or explained. What cannot be read or asked is exit 2.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec

from gateway.cli.archive import archive_to_read, has_archive
from gateway.cli.failures import DONE, FAILED, UsageFault
from gateway.cli.output import check_form, output
from gateway.cli.person import who
from gateway.cli.progress import counting
from gateway.cli.reach import redis_for_command
from gateway.cli.terminal import one_line
from gateway.core.money.days import day_of
from gateway.core.money.reconciliation import Ours, ReconciledLine
from gateway.core.policy import Policy
from gateway.finance.invoices import reconciled_formats as formats
from gateway.finance.invoices.acceptance import InvoiceAcceptance, ReadRecords, accept
from gateway.finance.invoices.invoices import InvoiceMap, read_invoice
from gateway.finance.invoices.reconcile import DaySpan, Question, Reconciled, Reconciliation
from gateway.finance.invoices.reconciled_workbook import write_workbook
from gateway.finance.invoices.sorted_lines import SortedLines
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.settings import bootstrap
from gateway.settings.file import Settings, load
from gateway.settings.invoice_map import load_map
from gateway.store import redis_clock
from gateway.store.archive.closed import listed_since
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.messages.sent_lines import ACCEPTED_BEFORE_MS, lines_within, sent_lines
from gateway.store.money.invoices import accepted_days
from gateway.store.store import Store

FORMATS = ("table", "json", "csv", "xlsx")
ITEMS_SHOWN = 20
HASH_CHARS = 12  # by which an accepted invoice is named
DAYS_DEFAULT = 30  # of an invoice that names no time


class ReconcileWish(msgspec.Struct, frozen=True):
    """The options as they were written."""

    provider: str
    invoice: Path
    map: str | None
    from_day: str | None
    to_day: str | None
    form: str
    out: Path | None
    accept: bool = False


def reconcile(config: Path | None, environment: Mapping[str, str], wish: ReconcileWish) -> int:
    """Prints what an invoice and our lines come to."""
    check_form(wish.form, FORMATS)
    settings = load(config, environment, secrets_required=False)
    how = load_map(wish.map) if wish.map is not None else InvoiceMap()
    policy = bootstrap.policy_of(settings, bootstrap.load_prices(settings))
    question = _question(settings, policy, how, wish.provider)
    first, last = _day("--from", wish.from_day), _day("--to", wish.to_day)
    if first is not None and last is not None and first > last:
        raise UsageFault("--from is after --to: turn them round.")
    with SortedLines() as lines:
        work = Reconciliation(question, lines)
        with counting() as shown:
            theirs = shown.of(read_invoice(wish.invoice, how), "The invoice's")
            named = work.take_theirs(theirs, first, last)
            taken = shown.stage("Ours")
            days = named or _latest_days()

            async def ask(redis: RedisClient) -> tuple[Reconciled, InvoiceAcceptance | None]:
                retention = bootstrap.retention_of(settings)
                store = Store(redis, policy, shards=settings.redis.shards, retention=retention)
                accepted = await accepted_days(store, question.provider)
                work.take_accepted(DaySpan(*each) for each in accepted)
                ours = _ours(store, settings, question.provider, *work.span(days))
                async with aclosing(ours) as batches:
                    async for batch in batches:
                        work.take_ours(batch)
                        taken(len(batch))
                result = work.settle(days, shown.of)
                if not wish.accept:
                    return result, None
                records = await _records(settings, redis)
                return result, await _accept(store, result, work.items(), wish.invoice, records)

            with redis_for_command(settings, changes=wish.accept) as url:
                result, accepted = run(url, ask)
        with output(wish.out, binary=wish.form == "xlsx") as file:
            _write(result, work.items(), wish.form, accepted, file)
    return DONE if result.agrees else FAILED


async def _ours(
    store: Store, settings: Settings, provider: str, from_ms: int, to_ms: int
) -> AsyncGenerator[list[Ours], None]:
    """What the provider was handed then. What is in Redis comes before what the archive has of the
    same message, which is as it was when it was archived."""
    async with aclosing(sent_lines(store, provider, from_ms, to_ms)) as batches:
        async for batch in batches:
            yield batch
    if not await has_archive(settings, store.redis):
        return
    archive = await archive_to_read(settings, store.redis)
    from gateway.archive.sent import archived_messages, archived_through

    through = archived_through(archive)
    async with aclosing(listed_since(store, through)) as pages:
        async for page in pages:
            yield lines_within(page, provider, from_ms, to_ms)
    for page in archived_messages(archive, day_of(from_ms - ACCEPTED_BEFORE_MS), day_of(to_ms)):
        for message in page:
            store.policy.take_present_names(message)
        yield lines_within(page, provider, from_ms, to_ms)


async def _records(settings: Settings, redis: RedisClient) -> ReadRecords | None:
    """To ask the archive for messages; None: there is none."""
    if not settings.archive.url:
        return None
    archive = await archive_to_read(settings, redis)
    from gateway.archive.sent import records_of

    return partial(records_of, archive)


async def _accept(
    store: Store,
    result: Reconciled,
    items: Iterator[ReconciledLine],
    file: Path,
    records: ReadRecords | None,
) -> InvoiceAcceptance:
    """Books it, and notes who did."""
    with file.open("rb") as octets:
        invoice = hashlib.file_digest(octets, "sha256").hexdigest()[:HASH_CHARS]
    clock = await redis_clock.asked(store.redis)
    accepted = await accept(store, result, items, invoice, clock.now_ms, records)
    target = f"{result.question.provider} {result.days.first} to {result.days.last}"
    deed = Deed(clock.now_ms(), who(), "invoice.accept", target, f"{file.name}, sha256 {invoice}")
    await audit.note(store.redis, deed, of_app=False)
    return accepted


def _question(settings: Settings, policy: Policy, how: InvoiceMap, provider: str) -> Question:
    name = policy.present(provider)
    if name not in settings.providers:
        known = ", ".join(settings.providers)
        raise UsageFault(f"--provider {provider!r} is not configured: there are {known}.")
    currency = settings.prices.currency
    if how.currency not in ("", currency):
        raise UsageFault(
            f"The map says the invoice is in {how.currency}, and the ledger is in {currency}: "
            "convert the invoice first, or correct currency in the map."
        )
    on_delivery = policy.provider(name).charged_on == "delivered"
    return Question(name, currency, how.zone, on_delivery, how.line_is == "part")


def _day(option: str, text: str | None) -> datetime.date | None:
    if text is None:
        return None
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise UsageFault(f"{option} {text!r} is no day: write it as 2026-11-30.") from None


def _latest_days() -> DaySpan:
    last = datetime.datetime.now(datetime.UTC).date()
    return DaySpan(last - datetime.timedelta(days=DAYS_DEFAULT - 1), last)


def _write(
    result: Reconciled,
    items: Iterator[ReconciledLine],
    form: str,
    accepted: InvoiceAcceptance | None,
    file: BinaryIO,
) -> None:
    if form == "xlsx":
        write_workbook(result, items, file)
    elif form == "json":
        file.writelines(formats.to_json(result, items, accepted))
    elif form == "csv":
        file.writelines(formats.to_csv(items))
    else:
        file.writelines(line.encode() for line in _table(result, items, accepted))


def _table(
    result: Reconciled, items: Iterator[ReconciledLine], accepted: InvoiceAcceptance | None
) -> Iterator[str]:
    """The classes, and the first items that differ."""
    question, days = result.question, result.days
    yield (
        f"{question.provider}, {days.first} to {days.last} ({question.zone}), "
        f"in {question.currency}\n\n"
    )
    rows = [(formats.WORDS[kind], formats.sums_row(sums)) for kind, sums in result.classes.items()]
    rows.append(("Total", formats.sums_row(result.total)))
    yield f"{'':24}{'LINES':>10}{'OURS':>18}{'THEIRS':>18}{'DIFFERENCE':>18}\n"
    for word, row in rows:
        yield (
            f"{word:24}{row['lines']:>10,}{row['ours']:>18}{row['theirs']:>18}"
            f"{row['difference']:>18}\n"
        )
    for note in formats.notes(result, accepted):
        yield f"\n{note}\n"
    for number, item in enumerate(items):
        if number == ITEMS_SHOWN:
            yield "  and more: --format csv writes all.\n"
            return
        yield ("" if number else "\n") + _line(item)


def _line(item: ReconciledLine) -> str:
    row = formats.item_row(item)
    place = "" if row["line"] is None else f"line {row['line']}, "
    return (
        f"  {item.kind}: {place}{one_line(row['id'] or row['to'] or '')}: ours {row['ours']}, "
        f"theirs {row['theirs']}\n"
    )
