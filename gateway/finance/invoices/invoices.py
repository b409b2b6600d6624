"""A provider's invoice or CDR file, read line by line: CSV, or XLSX by python-calamine.

What its columns are called and how numbers and times are written is an `InvoiceMap`. Spreadsheets
leave traces: integers come as floating numbers, and a long number as `7.91612E+10`, of which only
some digits are left. Such a number counts as rounded, such an id as none. A line that cannot be
read is not skipped: `InvoiceFault` names lines, columns and reasons, and the file is not used.
"""

from __future__ import annotations

import codecs
import csv
import datetime
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from gateway.core.money.reconciliation import PICOS, ROUNDED, Theirs
from gateway.errors import CallerFault
from gateway.finance.extras import archive_library
from gateway.finance.spreadsheets.spreadsheet_size import Unfit, check_size
from providers.notation import Table, Text

FAULTS_MAX = 20  # told at once
DIFFERENT_MAX = 65_536  # prices, parts, networks and words of a file that are read once
AMOUNT_MAX = 9_000_000  # of one line: beyond it 1e-12 units do not fit in 64 bits
PARTS_MAX = 1_000
POWER_MAX = 99  # of ten, in a number: beyond it nothing is reckoned with it
EXACT_MAX = 2**53  # the largest integer that a spreadsheet's numbers hold exactly
_NO_NUMBER = "is no number: see decimal and thousands in the map."
_PICO = Decimal(1).scaleb(-12)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_DAY_ZERO = datetime.datetime(1899, 12, 30)  # noqa: DTZ001 - of spreadsheets, in the file's zone

# How the words begin by which providers say that something did not arrive.
FAILED = ("undeliv", "not deliv", "not_deliv", "notdeliv", "fail", "expire", "reject")

_scientific = re.compile(r"([0-9])(?:[.,]([0-9]+))?[eE]\+([0-9]{1,2})").fullmatch
_spaces = re.compile(r"[\s\u00a0\u202f]").sub
_no_digits = re.compile(r"[^0-9]").sub
_mccmnc = re.compile(r"[0-9]{5,6}").fullmatch

SheetCell = str | Decimal | datetime.datetime  # numbers and times as a spreadsheet has them


class Columns(Table, frozen=True, kw_only=True):
    """The headers of an invoice."""

    id: Text = "id"
    to: Text = "to"
    at: Text = "at"
    parts: Text = "parts"
    price: Text = "price"
    network: Text = "network"
    status: Text = "status"


class InvoiceMap(Table, frozen=True, kw_only=True):
    """How a provider writes its invoices. `currency` empty: the one of the price list;
    `time_format` empty: as ISO 8601 has it."""

    encoding: Text = "utf-8"
    delimiter: Text = ","
    decimal: Literal[".", ","] = "."
    thousands: str = ""
    zone: Text = "UTC"
    time_format: str = ""
    currency: str = ""
    price_is: Literal["part", "line"] = "part"
    line_is: Literal["message", "part"] = "message"
    charges: Literal["positive", "negative"] = "positive"
    columns: Columns = Columns()


class InvoiceFault(CallerFault):
    """The file cannot be used as an invoice; the sentences say where and why."""


class _Unreadable(Exception):
    """Why a cell cannot be read; goes on after the cell."""


def read_invoice(path: Path, how: InvoiceMap) -> Iterator[Theirs]:
    """Every line, in the file's order. Raises InvoiceFault, after the last line for those that
    could not be read, and MissingExtra where an XLSX needs its library."""
    rows = _xlsx_rows(path) if zipfile.is_zipfile(path) else _csv_rows(path, how)
    faults: list[str] = []
    _, header = next((row for row in rows if _is_filled(row[1])), (1, ()))
    reader = _Reader(how, _places(path, [str(cell) for cell in header], how), len(header))
    for number, cells in rows:
        if not _is_filled(cells):
            continue
        try:
            yield reader.line(number, cells)
        except _Unreadable as fault:
            faults.append(f"{path.name}, line {number}, {fault}")
            if len(faults) == FAULTS_MAX:
                break
    if faults:
        raise InvoiceFault("\n".join(faults))


def _is_filled(cells: Sequence[SheetCell]) -> bool:
    return any(cell != "" for cell in cells)


def _csv_rows(path: Path, how: InvoiceMap) -> Iterator[tuple[int, Sequence[SheetCell]]]:
    encoding = "utf-8-sig" if codecs.lookup(how.encoding).name == "utf-8" else how.encoding
    begins = 1
    try:
        with path.open(encoding=encoding, newline="") as file:
            # Strict: a quote without its end would take the lines behind it for one cell.
            lines = csv.reader(file, delimiter=how.delimiter, strict=True)
            for cells in lines:
                yield lines.line_num, [cell.strip() for cell in cells]
                begins = lines.line_num + 1
    except OSError as error:
        raise InvoiceFault(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeError as error:  # UTF-16 without its mark is no UnicodeDecodeError
        place = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise InvoiceFault(
            f"{path.name} is not {how.encoding} text{place}: name its encoding in the map, such as "
            'encoding = "cp1251".'
        ) from None
    except csv.Error as error:
        raise InvoiceFault(
            f"{path.name}, line {begins} is not CSV: {error}. A quote at the start of a cell needs "
            "another at its end."
        ) from None


def _xlsx_rows(path: Path) -> Iterator[tuple[int, Sequence[SheetCell]]]:
    """The first sheet."""
    library = archive_library("python_calamine")
    try:
        check_size(path)
        sheet = library.CalamineWorkbook.from_path(path).get_sheet_by_index(0)
        for number, cells in enumerate(sheet.iter_rows(), 1):
            yield number, [_spreadsheet_cell(cell) for cell in cells]
    except (Unfit, library.CalamineError) as error:
        raise InvoiceFault(f"{path.name} cannot be read as XLSX: {error}.") from None


def _spreadsheet_cell(cell: Any) -> SheetCell:
    """Numbers as the spreadsheet shows them: of its binary ones 15 digits count."""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, datetime.datetime):
        return cell
    if isinstance(cell, datetime.date):
        return datetime.datetime.combine(cell, datetime.time())
    if isinstance(cell, bool | datetime.time | datetime.timedelta):
        return str(cell)
    number = Decimal(f"{cell:.15g}")
    if not number.is_finite():
        return str(cell)
    if cell == int(cell) and abs(cell) < EXACT_MAX:
        return Decimal(int(cell))
    return number


def _places(path: Path, header: Sequence[str], how: InvoiceMap) -> Mapping[str, int]:
    """Where each column stands. One that the map names must be there, once; of the others price,
    and id or number."""
    written = [name.strip().casefold() for name in header]
    names = {name: place for place, name in enumerate(written)}
    default = Columns()
    found: dict[str, int] = {}
    for column in Columns.__struct_fields__:
        name = getattr(how.columns, column)
        place = names.get(name.casefold())
        if place is not None:
            if (count := written.count(name.casefold())) > 1:
                raise InvoiceFault(
                    f"{path.name} has {count} columns {name!r}: leave the one that counts, or give "
                    "the others another header."
                )
            found[column] = place
        elif name != getattr(default, column) or column == "price":
            raise InvoiceFault(_no_column(path, name, column, header))
    if not found.keys() & {"id", "to"}:
        raise InvoiceFault(_no_column(path, how.columns.id, "id", header))
    return found


def _no_column(path: Path, name: str, column: str, header: Sequence[str]) -> str:
    return (
        f"{path.name} has no column {name!r}: say in the map which one is `columns.{column}`. Its "
        f"header is: {', '.join(header) or 'empty'}."
    )


class _Reader:
    """Reads the cells of a line by their columns."""

    def __init__(self, how: InvoiceMap, places: Mapping[str, int], width: int) -> None:
        self._how = how
        self._places = places
        self._width = width  # of the header
        self._zone = ZoneInfo(how.zone)

    def line(self, number: int, cells: Sequence[SheetCell]) -> Theirs:
        """Raises _Unreadable."""
        if _is_filled(cells[self._width :]):
            raise _Unreadable(
                f"has more cells than the header ({len(cells)}, not {self._width}): see delimiter "
                "and decimal in the map, and quote cells that have the delimiter in them."
            )
        price: Decimal | None = self._read("price", cells, self._number)
        if price is None:
            raise _Unreadable("price is empty.")
        if self._how.charges == "negative":
            price = -price
        of_part = self._how.line_is == "part"  # then it is one, whatever it says of the whole
        parts: int | None = 1 if of_part else self._read("parts", cells, self._parts)
        per_part = self._how.price_is == "part"
        id_: str | None = self._read("id", cells, _id)
        to: str | None = self._read("to", cells, _address)
        if id_ is None and to is None:
            raise _Unreadable("names neither id nor number.")
        return Theirs(
            line=number,
            amount=_picos(price * parts if per_part and parts is not None else price),
            id=id_,
            to=to,
            at_ms=self._read("at", cells, self._moment),
            parts=parts,
            network=self._read("network", cells, _network),
            failed=_failed(str(self._cell("status", cells))),
            each=per_part and parts is None,
        )

    def _cell(self, column: str, cells: Sequence[SheetCell]) -> SheetCell:
        place = self._places.get(column, len(cells))
        return cells[place] if place < len(cells) else ""

    def _read(
        self, column: str, cells: Sequence[SheetCell], read: Callable[[SheetCell], Any]
    ) -> Any:
        cell = self._cell(column, cells)
        if cell == "":
            return None
        try:
            return read(cell)
        except (ValueError, ArithmeticError) as error:
            told = str(error) if isinstance(error, _Sentence) else "cannot be read."
            raise _Unreadable(f"{column}: {str(cell)[:40]!r} {told}") from None

    def _number(self, cell: SheetCell) -> Decimal:
        if isinstance(cell, Decimal):
            return cell
        return _number_in(str(cell), self._how.thousands.strip(), self._how.decimal)

    def _parts(self, cell: SheetCell) -> int:
        number = self._number(cell)
        if not 0 <= number <= PARTS_MAX or number != int(number):
            raise _Sentence(f"is no number of parts: a whole one up to {PARTS_MAX}.")
        return int(number)

    def _moment(self, cell: SheetCell) -> int:
        """In epoch milliseconds; a number is a spreadsheet's, in days."""
        if isinstance(cell, Decimal):
            milliseconds = round(cell * 86_400_000)
            moment = _DAY_ZERO + datetime.timedelta(milliseconds=milliseconds)
        elif isinstance(cell, datetime.datetime):
            moment = cell
        elif self._how.time_format:
            moment = datetime.datetime.strptime(cell, self._how.time_format)  # noqa: DTZ007
        else:
            moment = datetime.datetime.fromisoformat(cell)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self._zone)
        return (moment - _EPOCH) // datetime.timedelta(milliseconds=1)


@lru_cache(maxsize=DIFFERENT_MAX)
def _failed(status: str) -> bool:
    return status.casefold().startswith(FAILED)


class _Sentence(ValueError):
    """Says what is wrong with a cell."""


@lru_cache(maxsize=DIFFERENT_MAX)
def _number_in(text: str, thousands: str, decimal: str) -> Decimal:
    plain = _spaces("", text)
    if thousands and thousands in plain:
        whole, point, places = plain.partition(decimal)
        first, *others = whole.lstrip("+-").split(thousands)
        if not 0 < len(first) <= 3 or any(len(group) != 3 for group in others):
            raise _Sentence(_NO_NUMBER)
        plain = whole.replace(thousands, "") + point + places
    if decimal == ",":
        if "." in plain:  # for thousands that the map does not name, or the map is of another file
            raise _Sentence(_NO_NUMBER)
        plain = plain.replace(",", ".")
    try:
        number = Decimal(plain)
    except InvalidOperation:
        raise _Sentence(_NO_NUMBER) from None
    if not number.is_finite() or number.adjusted() > POWER_MAX:
        raise _Sentence("is no number.")
    return number


@lru_cache(maxsize=DIFFERENT_MAX)
def _picos(amount: Decimal) -> int:
    if abs(amount) > AMOUNT_MAX:
        raise _Unreadable(f"price: {amount} is beyond {AMOUNT_MAX}.")
    if amount != amount.quantize(_PICO):
        raise _Unreadable(f"price: {amount} has more than 12 decimals.")
    return int(amount * PICOS)


def _id(cell: SheetCell) -> str | None:
    """As text; None for one that a spreadsheet has rounded."""
    if isinstance(cell, Decimal):
        return f"{cell:f}" if cell < EXACT_MAX else None
    text = str(cell)
    found = _scientific(text)
    return text if found is None or _is_exact(found) else None


def _address(cell: SheetCell) -> str | None:
    """Digits, or an e-mail address, or a rounded number as `rounded` writes it."""
    if isinstance(cell, Decimal):
        return f"{cell:f}"
    text = str(cell)
    if "@" in text:
        return text.casefold()
    if (found := _scientific(text)) is not None:
        digits = found[1] + (found[2] or "")
        power = int(found[3])
        return digits.ljust(power + 1, "0") if _is_exact(found) else f"{digits}{ROUNDED}{power}"
    return text if text.isascii() and text.isdecimal() else _no_digits("", text) or None


def _is_exact(found: re.Match[str]) -> bool:
    """Whether no digit was lost: a spreadsheet shows six of them and drops zeros."""
    return len(found[2] or "") >= int(found[3])


@lru_cache(maxsize=DIFFERENT_MAX)
def _network(cell: SheetCell) -> str | None:
    """MCC and MNC; a name says nothing that could be compared."""
    text = f"{cell:f}" if isinstance(cell, Decimal) else re.sub(r"[\s/-]", "", str(cell))
    return text if _mccmnc(text) else None
