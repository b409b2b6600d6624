"""A spreadsheet (XLSX) that is written a row at a time, in constant memory.

Every cell has the type of its value: a text is never taken for a formula, an amount is a number
with all its decimals, a moment one of UTC. Where a sheet is full another one follows, under the
same header. Raises MissingExtra without the library.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, BinaryIO

from gateway.finance.extras import archive_library

ROWS_A_SHEET = 1_000_000  # the format ends at 1,048,576
COLUMN_CHARS = 14  # wide

SheetValue = str | int | Decimal | datetime.date | datetime.datetime | None

_FORMATS = {
    "amount": {"num_format": "#,##0.0000##"},
    "count": {"num_format": "#,##0"},
    "day": {"num_format": "yyyy-mm-dd"},
    "moment": {"num_format": "yyyy-mm-dd hh:mm:ss.000"},
    "header": {"bold": True},
}


class Workbook:
    """Sheets, one after the other, each with its header in bold and in view. `file` stays open when
    it is closed."""

    def __init__(self, file: BinaryIO) -> None:
        library = archive_library("xlsxwriter")
        self._book: Any = library.Workbook(file, {"constant_memory": True})
        self._formats = {name: self._book.add_format(how) for name, how in _FORMATS.items()}
        self._sheet: Any = None
        self._next = 0

    def sheet(self, name: str, header: Sequence[str]) -> None:
        """Begins the next sheet: what is written from now on stands in it."""
        self._name, self._header, self._parts = name, header, 1
        self._begin(name)

    def row(self, cells: Sequence[SheetValue]) -> None:
        """One more row; None is an empty cell."""
        if self._next > ROWS_A_SHEET:
            self._parts += 1
            self._begin(f"{self._name} {self._parts}")
        for column, cell in enumerate(cells):
            self._write(column, cell)
        self._next += 1

    def close(self) -> None:
        self._book.close()

    def _begin(self, name: str) -> None:
        self._sheet = self._book.add_worksheet(name)
        self._sheet.freeze_panes(1, 0)
        self._sheet.set_column(0, len(self._header) - 1, COLUMN_CHARS)
        for column, title in enumerate(self._header):
            self._sheet.write_string(0, column, title, self._formats["header"])
        self._next = 1

    def _write(self, column: int, cell: SheetValue) -> None:
        sheet, place, formats = self._sheet, (self._next, column), self._formats
        if isinstance(cell, str):
            sheet.write_string(*place, cell)
        elif isinstance(cell, Decimal):
            sheet.write_number(*place, cell, formats["amount"])
        elif isinstance(cell, int):
            sheet.write_number(*place, cell, formats["count"])
        elif isinstance(cell, datetime.datetime):
            sheet.write_datetime(*place, cell.replace(tzinfo=None), formats["moment"])
        elif cell is not None:
            sheet.write_datetime(*place, cell, formats["day"])
