"""A report as a spreadsheet: its rows on one sheet, and their total with the question on another.

Days are dates, counts and amounts numbers, names texts. Raises MissingExtra.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import BinaryIO

from gateway.finance.reports.formats import NO_CAMPAIGN
from gateway.finance.reports.report import Cell, Report
from gateway.finance.spreadsheets.workbook import SheetValue, Workbook

TEXTS = frozenset(("currency",))  # beside the keys


def write_workbook(report: Report, file: BinaryIO) -> None:
    """Writes it whole; `file` stays open."""
    query = report.query
    keys = frozenset(query.group_by)
    book = Workbook(file)
    book.sheet("Cost", report.columns)
    for row in report.rows():
        book.row([_value(name, cell, keys) for name, cell in row.items()])
    total = report.total_row()
    book.sheet("Total", ("from", "to", "zone", *total))
    asked = (query.from_day, query.to_day, report.zone)
    book.row([*asked, *(_value(name, cell, keys) for name, cell in total.items())])
    book.close()


def _value(name: str, cell: Cell, keys: frozenset[str]) -> SheetValue:
    if name == "campaign" and cell is None:
        return NO_CAMPAIGN
    if not isinstance(cell, str):
        return cell
    if name == "day":
        return datetime.date.fromisoformat(cell)
    return cell if name in keys or name in TEXTS else Decimal(cell)
