"""A reconciled invoice is accepted: our cost of its lines becomes what it asks for, to the unit.

A message that is in the archive alone is put back into Redis for it, is changed there and leaves
it again as ever. It may be repeated, and goes on where it was interrupted. Where messages of its
days are no more, nobody can tell which of its lines are booked already, and it is refused. Raises
RedisUnavailable, LedgerFault, DaysAccepted and LinesLapsed, and what the archive raises.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from itertools import islice

import msgspec

from gateway.core.money.days import Days
from gateway.core.money.reconciliation import PICOS_A_MICRO, ReconciledLine, in_micros
from gateway.errors import CallerFault
from gateway.finance.invoices.reconcile import Reconciled
from gateway.finance.lines.lines import LinesQuery, pages_of_lines
from gateway.finance.question import Query
from gateway.store.archive.closed import bring_back
from gateway.store.base import read_messages
from gateway.store.money.invoices import AcceptedLines, accept_lines, accept_rest, ensure_days
from gateway.store.store import Store

LINES_A_BATCH = 256

ReadRecords = Callable[[Iterable[str]], Mapping[str, bytes]]  # of archived messages, by their ids

_DAY = datetime.timedelta(days=1)


class LinesLapsed(CallerFault):
    """Messages that the provider was booked for on days of the invoice are kept no more."""


class InvoiceAcceptance(msgspec.Struct, frozen=True):
    """What was booked now: on how many lines of ours, and by how much our cost changed in all."""

    lines: int
    amount: int


async def accept(
    store: Store,
    result: Reconciled,
    items: Iterable[ReconciledLine],
    invoice: str,
    clock: Callable[[], int],
    records: ReadRecords | None = None,
) -> InvoiceAcceptance:
    """Books an invoice, which `invoice` names; `items` are all its lines that differ. `records`
    None: there is no archive. `clock` gives epoch milliseconds, asked for each batch: a large one
    goes on over midnight, and must not book on a day of a month that was closed meanwhile."""
    provider = result.question.provider
    days = result.days.first, result.days.last
    await ensure_days(store, provider, days)
    if records is None:
        await _ensure_kept(store, result, clock())
    rest = in_micros(result.total.theirs) - result.classes["matched"].ours // PICOS_A_MICRO
    lines = amount = 0
    of_ours = (item for item in items if item.ours is not None)
    while batch := list(islice(of_ours, LINES_A_BATCH)):
        rest -= sum(item.accepted for item in batch)
        told = await accept_lines(store, batch, invoice, provider, clock(), days)
        if told.gone and records is not None:
            await bring_back(store, partial(_read, records, told.gone))
            back = await accept_lines(store, told.gone, invoice, provider, clock(), days)
            told = AcceptedLines([*told.changed, *back.changed], back.gone)
        rest += sum(_change(item) for item in told.gone)
        lines += len(told.changed)
        amount += sum(_change(item) for item in told.changed)
    amount += await accept_rest(store, provider, days, invoice, rest, clock())
    return InvoiceAcceptance(lines, amount)


async def _read(records: ReadRecords, gone: Sequence[ReconciledLine]) -> Mapping[str, bytes]:
    return records(_messages_of(gone))


async def _ensure_kept(store: Store, result: Reconciled, now_ms: int) -> None:
    """What the invoice asks for a message that lapsed is unknown to us, and would be booked beside
    what was booked for it when it was sent. One that was removed by hand has not lapsed."""
    provider, days = result.question.provider, Days(result.question.zone)
    names = tuple(("provider", name) for name in store.policy.names_of(provider))
    asked = Query(result.days.first, result.days.last, filters=names)
    query, currency = LinesQuery(asked, frozenset(["cost"])), store.policy.currency
    kept_since_ms = now_ms - store.retention.message_ms
    lapsed_ms = 0
    lines = pages_of_lines(store.redis, store.shards, query, currency, days=days)
    async with aclosing(lines) as pages:
        async for page in pages:
            old = {line.message: line.at_ms for _, line in page.lines if line.message is not None}
            old = {id_: at_ms for id_, at_ms in old.items() if at_ms < kept_since_ms}
            for id_, stored in (await read_messages(store, old)).items():
                if stored.value is None:
                    lapsed_ms = max(lapsed_ms, old[id_])
    if lapsed_ms:
        last = days.of(lapsed_ms)
        raise LinesLapsed(
            f"Messages that {provider} is booked for up to {last} are kept no more ([retention] "
            f"messages): what the invoice asks for them would be booked twice. Give --from "
            f"{last + _DAY}, and for invoices to come keep messages longer or have an archive."
        )


def _messages_of(items: Sequence[ReconciledLine]) -> list[str]:
    return list(dict.fromkeys(item.ours.message for item in items if item.ours is not None))


def _change(item: ReconciledLine) -> int:
    assert item.ours is not None
    return item.accepted - item.ours.cost
