"""A reconciled invoice as a spreadsheet, to send to the provider: the classes with their sums, and
on another sheet every line that differs. Raises MissingExtra.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from decimal import Decimal
from typing import BinaryIO

from gateway.core.money.reconciliation import ClassSums, ReconciledLine
from gateway.finance.invoices.reconcile import Reconciled
from gateway.finance.invoices.reconciled_formats import AMOUNTS, COLUMNS, item_row, sums_row
from gateway.finance.spreadsheets.workbook import SheetValue, Workbook


def write_workbook(result: Reconciled, items: Iterable[ReconciledLine], file: BinaryIO) -> None:
    """Writes it whole; `file` stays open."""
    book = Workbook(file)
    question, days = result.question, result.days
    about = question.provider, days.first, days.last
    book.sheet("Classes", ("provider", "from", "to", "class", "lines", *AMOUNTS, "currency"))
    named = [*result.classes.items(), ("total", result.total)]
    for kind, sums in named:
        book.row([*about, kind, *_sums(sums), question.currency])
    book.sheet("Lines", (*COLUMNS, "currency"))
    for item in items:
        row = item_row(item)
        book.row([*(_value(name, row[name]) for name in COLUMNS), question.currency])
    book.close()


def _sums(sums: ClassSums) -> list[SheetValue]:
    return [_value(name, cell) for name, cell in sums_row(sums).items()]


def _value(name: str, cell: str | int | None) -> SheetValue:
    if name in AMOUNTS and isinstance(cell, str):
        return Decimal(cell)
    if name == "at" and isinstance(cell, str):
        return datetime.datetime.fromisoformat(cell)
    return cell
