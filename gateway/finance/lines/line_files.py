"""The ledger's lines as a file: CSV, NDJSON, XLSX or Parquet, written as they come.

CSV and NDJSON say what `GET /v1/ledger` says, amounts as decimal strings. XLSX has numbers and
moments (UTC) in their own types, and texts that no spreadsheet runs; a sheet holds no more than
ROWS_A_SHEET lines, and what is more stands on further ones. Parquet has moments, and amounts as
DECIMAL(18, 6); `booked_at` there is what `at` is elsewhere, since that is a word of SQL. A format
whose library is missing is a `MissingExtra`. What writing raises passes unchanged.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, BinaryIO, Protocol

import msgspec

from gateway.core.money.money import PLACES
from gateway.finance.extras import archive_library
from gateway.finance.lines.lines import COLUMNS, LedgerLine, LineView
from gateway.finance.reports.formats import harmless
from gateway.finance.spreadsheets.workbook import Workbook

FORMATS = ("csv", "ndjson", "parquet", "xlsx")
TEXTS = ("csv", "ndjson")
ROWS_A_GROUP = 50_000  # of Parquet, which holds so many in memory

_AMOUNTS = frozenset(("amount", "list_amount"))
_COUNTS = frozenset(("step", "parts"))


class LineFile(Protocol):
    """A file that is being written."""

    def write(self, lines: Sequence[LedgerLine]) -> None: ...

    def close(self) -> None:
        """What is left is written; the file itself stays open."""


class CsvLines:
    """RFC 4180 in UTF-8, under a header."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, lineterminator="\r\n")
        self._writer.writerow(COLUMNS)

    def write(self, lines: Sequence[LedgerLine]) -> None:
        for line in lines:
            cells = msgspec.structs.astuple(LineView.of(line))
            self._writer.writerow([harmless(cell) for cell in cells])
        self.close()

    def close(self) -> None:
        self._file.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()


class NdjsonLines:
    """An object a line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._encoder = msgspec.json.Encoder()

    def write(self, lines: Sequence[LedgerLine]) -> None:
        self._file.write(self._encoder.encode_lines([LineView.of(line) for line in lines]))

    def close(self) -> None:
        """Nothing is left."""


class XlsxLines:
    """A workbook, with types."""

    def __init__(self, file: BinaryIO) -> None:
        self._book = Workbook(file)
        self._book.sheet("Ledger", COLUMNS)

    def write(self, lines: Sequence[LedgerLine]) -> None:
        for line in lines:
            id_, at_ms, *cells, amount, noted, currency, reason = msgspec.structs.astuple(line)
            amounts = _decimal(amount), None if noted is None else _decimal(noted)
            self._book.row([id_, _moment(at_ms), *cells, *amounts, currency, reason])

    def close(self) -> None:
        self._book.close()


def _decimal(micros: int) -> Decimal:
    return Decimal(micros).scaleb(-PLACES)


def _moment(at_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at_ms // 1_000, datetime.UTC) + datetime.timedelta(
        milliseconds=at_ms % 1_000
    )


class ParquetLines:
    """Row groups of ROWS_A_GROUP lines."""

    def __init__(self, file: BinaryIO) -> None:
        self._arrow = archive_library("pyarrow")
        self._schema = self._arrow.schema([self._field(name) for name in COLUMNS])
        parquet = archive_library("pyarrow.parquet")
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def write(self, lines: Sequence[LedgerLine]) -> None:
        self._rows += [self._row(line) for line in lines]
        if len(self._rows) >= ROWS_A_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, self._schema))
            self._rows = []

    def _row(self, line: LedgerLine) -> dict[str, Any]:
        row = msgspec.structs.asdict(line)
        row["booked_at"] = _moment(line.at_ms)
        for name in _AMOUNTS:
            if row[name] is not None:
                row[name] = _decimal(row[name])
        return row

    def _field(self, name: str) -> Any:
        arrow = self._arrow
        if name == "at":
            return arrow.field("booked_at", arrow.timestamp("ms", tz="UTC"))
        if name in _AMOUNTS:
            return arrow.field(name, arrow.decimal128(18, PLACES))
        return arrow.field(name, arrow.int32() if name in _COUNTS else arrow.string())


_FILES: dict[str, Callable[[BinaryIO], LineFile]] = {
    "csv": CsvLines,
    "ndjson": NdjsonLines,
    "xlsx": XlsxLines,
    "parquet": ParquetLines,
}


def open_line_file(form: str, file: BinaryIO) -> LineFile:
    """What writes lines in one of FORMATS. Raises MissingExtra."""
    return _FILES[form](file)
