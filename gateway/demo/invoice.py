"""An invoice of the provider that the campaign asks first, made from the simulator's book with
three faults planted in it, and what the code of `kaskad reconcile` finds.
"""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path

import msgspec

from gateway.core.money.reconciliation import AGREED, Class
from gateway.demo.stage import Stage
from gateway.finance.extras import MissingExtra
from gateway.finance.invoices.invoices import InvoiceMap, read_invoice
from gateway.finance.invoices.reconcile import Question, Reconciled, Reconciliation
from gateway.finance.invoices.reconciled_workbook import write_workbook
from gateway.finance.invoices.sorted_lines import SortedLines
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.settings import bootstrap
from gateway.store.messages.sent_lines import sent_lines
from gateway.store.store import Store
from providers.simulator.book import MessageBill

INVOICE, WORKBOOK = "invoice.csv", "invoice.xlsx"
HEADER = ("id", "to", "at", "parts", "price")  # as the generic map has them
PLANTED: tuple[Class, ...] = ("duplicate_line", "unknown_to_us", "price")
TOO_DEAR = Decimal("0.01")  # of a part
STRANGER = ("nobodys-message", "10000000000")

InvoiceLine = tuple[str, str, str, int, Decimal]


class Invoice(msgspec.Struct, frozen=True):
    """What was found on it, by class; `workbook` is None where the library is missing."""

    provider: str
    lines: int
    found: dict[Class, int]
    claimed: str
    currency: str
    workbook: str | None

    @property
    def as_planted(self) -> bool:
        return self.found == dict.fromkeys(PLANTED, 1)


def reconcile(place: Stage) -> Invoice | None:
    """Writes the invoice and the workbook beside the configuration. None where more than one
    provider, or nobody, was paid for the first channel: the book tells channels apart alone."""
    settings, channel = place.settings, place.channels[0]
    route = settings.routes[settings.categories["marketing"].route]
    senders = settings.senders(route.steps[0])
    lines = list(planted(place.simulator.bill().messages, channel))
    if len(senders) != 1 or not lines:
        return None
    folder = settings.path.parent
    path = folder / INVOICE
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *lines])
    with SortedLines() as sorted_lines:
        question = _question(place, senders[0])
        work = Reconciliation(question, sorted_lines)
        result = _settled(place, question, work, path)
        try:
            with (folder / WORKBOOK).open("wb") as octets:
                write_workbook(result, work.items(), octets)
            workbook = str(folder / WORKBOOK)
        except MissingExtra:
            workbook = None
    sums = {kind: each for kind, each in result.classes.items() if kind not in AGREED}
    total = result.total
    return Invoice(
        provider=senders[0],
        lines=len(lines),
        found={kind: each.lines for kind, each in sums.items() if each.lines},
        claimed=f"{Decimal(total.theirs - total.ours).scaleb(-12):.4f}",
        currency=settings.prices.currency,
        workbook=workbook,
    )


def planted(messages: Mapping[str, MessageBill], channel: str) -> Iterator[InvoiceLine]:
    """A line for each message that is charged for; the first is dearer than it should be, the last
    stands there twice, and one is nobody's. Nothing where nothing is charged for."""
    charged = [
        (id_, m.to, _written(m.accepted_ms), m.parts, Decimal(m.charge) / m.parts)
        for id_, m in messages.items()
        if m.channel == channel and Decimal(m.charge)
    ]
    if len(charged) < len(PLANTED):
        return
    first, *others = charged
    last = others[-1]
    yield (*first[:4], first[4] + TOO_DEAR)
    yield from others
    yield last
    yield (*STRANGER, *last[2:])


def _written(moment_ms: int) -> str:
    return datetime.datetime.fromtimestamp(moment_ms / 1000, datetime.UTC).isoformat()


def _question(place: Stage, provider: str) -> Question:
    settings, how = place.settings, InvoiceMap()
    on_delivery = settings.providers[provider].charged_on == "delivered"
    return Question(provider, settings.prices.currency, how.zone, on_delivery)


def _settled(place: Stage, question: Question, work: Reconciliation, path: Path) -> Reconciled:
    """Once both sides are taken."""
    settings = place.settings
    days = work.take_theirs(read_invoice(path, InvoiceMap()), None, None)
    assert days is not None
    policy = bootstrap.policy_of(settings, bootstrap.load_prices(settings))

    async def ask(redis: RedisClient) -> None:
        retention = bootstrap.retention_of(settings)
        store = Store(redis, policy, shards=settings.redis.shards, retention=retention)
        lines = sent_lines(store, question.provider, *work.span(days))
        async with aclosing(lines) as batches:
            async for batch in batches:
                work.take_ours(batch)

    run(place.redis_url, ask)
    return work.settle(days)
