"""A reconciled invoice is accepted: our cost of its lines becomes what it asks for, to the unit.

A message that is in the archive alone is put back into Redis for it, is changed there and leaves
it again as ever. It may be repeated, and goes on where it was interrupted. Raises RedisUnavailable
and DaysAccepted, and what the archive raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

import msgspec

from gateway.core.reconciliation import PICOS_A_MICRO, ReconciledLine, in_micros
from gateway.finance.reconcile import Reconciled
from gateway.store.closed import bring_back
from gateway.store.invoices import AcceptedLines, accept_lines, accept_rest, ensure_days
from gateway.store.store import Store

LINES_A_BATCH = 256

ReadRecords = Callable[[Iterable[str]], Mapping[str, bytes]]  # of archived messages, by their ids


class InvoiceAcceptance(msgspec.Struct, frozen=True):
    """What was booked now: on how many lines of ours, and by how much our cost changed in all."""

    lines: int
    amount: int


async def accept(
    store: Store,
    result: Reconciled,
    items: Iterable[ReconciledLine],
    invoice: str,
    now_ms: int,
    records: ReadRecords | None = None,
) -> InvoiceAcceptance:
    """Books an invoice, which `invoice` names; `items` are all its lines that differ. `records`
    None: there is no archive."""
    provider = result.question.provider
    days = result.days.first, result.days.last
    await ensure_days(store, provider, days)
    rest = in_micros(result.total.theirs) - result.classes["matched"].ours // PICOS_A_MICRO
    lines = amount = 0
    of_ours = (item for item in items if item.ours is not None)
    while batch := list(islice(of_ours, LINES_A_BATCH)):
        rest -= sum(item.accepted for item in batch)
        told = await accept_lines(store, batch, invoice, provider, now_ms)
        if told.gone and records is not None:
            await bring_back(store, records(_messages_of(told.gone)))
            back = await accept_lines(store, told.gone, invoice, provider, now_ms)
            told = AcceptedLines([*told.changed, *back.changed], back.gone)
        rest += sum(_change(item) for item in told.gone)
        lines += len(told.changed)
        amount += sum(_change(item) for item in told.changed)
    amount += await accept_rest(store, provider, days, invoice, rest, now_ms)
    return InvoiceAcceptance(lines, amount)


def _messages_of(items: Sequence[ReconciledLine]) -> list[str]:
    return list(dict.fromkeys(item.ours.message for item in items if item.ours is not None))


def _change(item: ReconciledLine) -> int:
    assert item.ours is not None
    return item.accepted - item.ours.cost
