"""A spreadsheet (XLSX) that is written a row at a time, in constant memory.

Every cell has the type of its value: a text is never taken for a formula, an amount is a number
with all its decimals, a moment one of UTC. Where a sheet is full another one follows, under the
same header. Rows wait in a temporary folder, which goes with the workbook, however that ends.
Raises MissingExtra without the library, and OSError where the file or that folder cannot be
written.
"""

from __future__ import annotations

import datetime
import errno
import io
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, BinaryIO, TypeVar

from gateway.finance.extras import archive_library

ROWS_A_SHEET = 1_000_000  # the format ends at 1,048,576
COLUMN_CHARS = 14  # wide

T = TypeVar("T")

SheetValue = str | int | Decimal | datetime.date | datetime.datetime | None

_FORMATS = {
    "amount": {"num_format": "#,##0.0000##"},
    "count": {"num_format": "#,##0"},
    "day": {"num_format": "yyyy-mm-dd"},
    "moment": {"num_format": "yyyy-mm-dd hh:mm:ss.000"},
    "header": {"bold": True},
}


class _Sink:
    """What the library writes into. Once that has failed, or is closed, nothing more comes of it:
    the library's archive would write its end when it is cleared away, and print why it cannot."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._failed = False

    def write(self, octets: bytes) -> int:
        return self._done(lambda: self._file.write(octets), len(octets))

    def tell(self) -> int:
        return self._done(self._file.tell, 0)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._done(lambda: self._file.seek(offset, whence), 0)

    def flush(self) -> None:
        self._done(self._file.flush, None)

    def _done(self, call: Callable[[], T], otherwise: T) -> T:
        if self._failed or self._file.closed:
            return otherwise
        try:
            return call()
        except io.UnsupportedOperation:
            raise  # a pipe cannot seek, which the library asks for
        except OSError as error:
            self._failed = error.errno != errno.ESPIPE
            raise


class Workbook:
    """Sheets, one after the other, each with its header in bold and in view. `file` stays open when
    it is closed."""

    def __init__(self, file: BinaryIO) -> None:
        library = archive_library("xlsxwriter")
        folder = tempfile.mkdtemp(prefix="kaskad-workbook-")
        options = {"constant_memory": True, "tmpdir": folder}
        self._book: Any = library.Workbook(_Sink(file), options)
        self._leave = weakref.finalize(self, _leave, self._book, folder)
        self._refused = archive_library("xlsxwriter.exceptions").FileCreateError
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
        try:
            self._book.close()
        except self._refused as error:  # an OSError in a coat
            raise error.args[0] from None
        finally:
            self._leave()

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


def _leave(book: Any, folder: str) -> None:
    """Leaves nothing of the rows that waited."""
    for sheet in book.worksheets():
        with suppress(OSError):  # the last of them may not fit
            sheet.row_data_fh.close()
    shutil.rmtree(folder, ignore_errors=True)
