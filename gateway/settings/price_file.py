"""The price file: a CSV list in UTF-8 becomes a `PriceBook`.

Every fault is collected with its line and column, and all are raised together.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, get_args

import msgspec

from gateway.core.money.money import AmountError, parse_amount
from gateway.core.money.prices import Price, PriceBook, PriceRow
from gateway.errors import ConfigurationError
from providers.contract import Category

COLUMNS = ("provider", "prefix", "category", "cost", "sell", "currency", "valid_from")
NETWORK = "mccmnc"  # a further column that may be there
PREFIX_DIGITS_MAX = 15
PRICE_ROWS_MAX = 200_000

_CATEGORIES: tuple[str, ...] = get_args(Category)
_prefix = re.compile(rf"[0-9]{{0,{PREFIX_DIGITS_MAX}}}").fullmatch
_network = re.compile(r"[0-9]{5,6}").fullmatch
_day = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch


class PriceFault(msgspec.Struct, frozen=True):
    """What is wrong in one place of the price file; `column` is empty when it is the whole line."""

    line: int
    column: str
    reason: str


class PricesError(ConfigurationError):
    """The price file cannot be used; `faults` are all of them, in the file's order."""

    def __init__(self, source: str, faults: Iterable[PriceFault]) -> None:
        self.source = source
        self.faults = tuple(faults)
        super().__init__(
            "\n".join(
                f"{source}, line {f.line}{f', {f.column}' if f.column else ''}: {f.reason}"
                for f in self.faults
            )
        )


def load_prices(path: Path, currency: str) -> PriceBook:
    """Reads a price file (UTF-8 CSV with a header). Raises PricesError, also when it cannot be
    read.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        reason = f"cannot be read ({error.strerror}): set prices.file to the price list."
        raise PricesError(str(path), [PriceFault(1, "", reason)]) from None
    except UnicodeDecodeError:
        raise PricesError(str(path), [PriceFault(1, "", "is not UTF-8 text.")]) from None
    return parse_prices(text, currency, str(path))


def parse_prices(text: str, currency: str, source: str = "prices.csv") -> PriceBook:
    """Reads a price list whose every row is in `currency`. Raises PricesError with every fault."""
    faults: list[PriceFault] = []
    rows: list[PriceRow] = []
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines, [])
        faults += _header_faults(header)
        if not faults:
            rows = _rows(header, lines, currency, faults)
    except csv.Error as error:
        faults.append(PriceFault(lines.line_num, "", f"is not CSV: {error}."))
    if faults:
        raise PricesError(source, faults)
    return PriceBook(rows)


def _rows(header: list[str], lines: Any, currency: str, faults: list[PriceFault]) -> list[PriceRow]:
    """All rows after the header, without those whose faults were appended."""
    rows: list[PriceRow] = []
    first_seen: dict[tuple[str, str, str, str, date], int] = {}
    for cells in lines:
        if not cells:
            continue
        line = lines.line_num
        if len(rows) == PRICE_ROWS_MAX:
            faults.append(PriceFault(line, "", f"is beyond the {PRICE_ROWS_MAX} rows of a list."))
            break
        if len(cells) != len(header):
            reason = f"has {len(cells)} cells instead of {len(header)}."
            faults.append(PriceFault(line, "", reason))
            continue
        row = _row(dict(zip(header, cells, strict=True)), currency, line, faults)
        if row is None:
            continue
        earlier = first_seen.setdefault(
            (row.provider, row.prefix, row.mccmnc, row.category, row.valid_from), line
        )
        if earlier != line:
            faults.append(PriceFault(line, "", f"prices the same as line {earlier}: keep one."))
        rows.append(row)
    return rows


def _header_faults(header: list[str]) -> list[PriceFault]:
    expected = f"{','.join(COLUMNS)} and, where networks are priced, {NETWORK}"
    faults = [
        PriceFault(1, name, f"is no column of a price file: the header is {expected}.")
        for name in header
        if name not in (*COLUMNS, NETWORK)
    ]
    faults += [
        PriceFault(1, name, f"is missing: the header is {expected}.")
        for name in COLUMNS
        if name not in header
    ]
    faults += [
        PriceFault(1, name, "is there twice: keep one.")
        for name in (*COLUMNS, NETWORK)
        if header.count(name) > 1
    ]
    return faults


def _row(
    cells: Mapping[str, str], currency: str, line: int, faults: list[PriceFault]
) -> PriceRow | None:
    """One row, or None with its faults appended."""
    found: list[PriceFault] = []

    def fault(column: str, reason: str) -> None:
        found.append(PriceFault(line, column, f"{cells[column][:40]!r} {reason}"))

    def amount(column: str) -> int:
        try:
            return parse_amount(cells[column])
        except AmountError:
            fault(column, "is not an amount: write it with at most six decimals, such as 0.0120.")
            return 0

    price = Price(amount("cost"), amount("sell"), currency)
    if not cells["provider"]:
        fault("provider", "names no provider.")
    if _prefix(cells["prefix"]) is None:
        fault("prefix", f"is not up to {PREFIX_DIGITS_MAX} digits (no plus), or empty for all.")
    network = cells.get(NETWORK, "")
    if network and _network(network) is None:
        fault(NETWORK, "is no network: write its MCC and MNC, 5 or 6 digits, such as 25001.")
    if network and cells["prefix"]:
        fault(NETWORK, "and a prefix exclude each other: leave the prefix empty.")
    if cells["category"] not in ("", *_CATEGORIES):
        fault("category", f"is none of {', '.join(_CATEGORIES)}, or empty for all.")
    if cells["currency"] != currency:
        fault("currency", f"is not {currency}, in which prices.currency says all prices are.")
    valid_from = _date(cells["valid_from"])
    if valid_from is None:
        fault("valid_from", "is not a date such as 2026-01-31.")
    faults += sorted(found, key=lambda f: (*COLUMNS, NETWORK).index(f.column))
    if found or valid_from is None:
        return None
    return PriceRow(
        cells["provider"], cells["prefix"], cells["category"], price, valid_from, network, line
    )


def _date(text: str) -> date | None:
    if _day(text) is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
