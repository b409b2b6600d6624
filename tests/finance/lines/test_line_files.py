"""Lines as files: what a spreadsheet, a program and a data frame read of them."""

from __future__ import annotations

import csv
import io
import json
import sys
from decimal import Decimal

import pyarrow.parquet
import pytest
import python_calamine
from msgspec.structs import replace

from gateway.finance.extras import MissingExtra
from gateway.finance.lines import line_files
from gateway.finance.lines.line_files import open_line_file
from gateway.finance.lines.lines import COLUMNS, LedgerLine

LINE = LedgerLine(
    id="0-1795262400000-0-0-cost",
    at_ms=1_795_262_400_123,
    kind="cost",
    message="1M7Q5CQG0000000000AB",
    step=1,
    app="shop",
    campaign="=cmd|' /C calc'!A0",
    category="marketing",
    route="both",
    channel="sms",
    provider="infobip-sms",
    country="RU",
    parts=2,
    amount=-40_001,
    list_amount=0,
    currency="EUR",
    reason="not_charged",
)
BILL = replace(LINE, kind="bill", amount=70_000, list_amount=None, campaign=None, parts=None)


def written(form: str, *lines: LedgerLine) -> bytes:
    file = io.BytesIO()
    writer = open_line_file(form, file)
    writer.write(lines[:1])
    writer.write(lines[1:])
    writer.close()
    return file.getvalue()


def test_csv_has_exact_amounts_and_runs_nothing() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", LINE, BILL).decode(), newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["amount"], rows[0]["campaign"]) == ("-0.040001", "'=cmd|' /C calc'!A0")
    assert (rows[1]["amount"], rows[1]["list_amount"], rows[1]["campaign"]) == ("0.0700", "", "")


def test_ndjson_says_what_the_api_says() -> None:
    first, second = map(json.loads, written("ndjson", LINE, BILL).splitlines())
    assert tuple(first) == COLUMNS
    assert (first["at"], first["amount"]) == ("2026-11-21T12:00:00.123Z", "-0.040001")
    assert (second["parts"], second["list_amount"]) == (None, None)


def test_a_workbook_opens_with_its_types() -> None:
    book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(written("xlsx", LINE, BILL)))
    header, line, bill = book.get_sheet_by_name("Ledger").to_python()
    assert tuple(header) == COLUMNS
    cells = dict(zip(COLUMNS, line, strict=True))
    assert cells["campaign"] == LINE.campaign  # a text, as it is
    assert cells["amount"] == -0.040001
    assert str(cells["at"]) == "2026-11-21 12:00:00.123000"
    assert dict(zip(COLUMNS, bill, strict=True))["list_amount"] == ""


def test_a_full_sheet_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.finance.spreadsheets.workbook.ROWS_A_SHEET", 2)
    octets = written("xlsx", *[LINE] * 5)
    book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(octets))
    assert book.sheet_names == ["Ledger", "Ledger 2", "Ledger 3"]
    assert [len(book.get_sheet_by_name(name).to_python()) for name in book.sheet_names] == [3, 3, 2]


def test_parquet_has_decimals_and_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_files, "ROWS_A_GROUP", 1)
    table = pyarrow.parquet.read_table(io.BytesIO(written("parquet", LINE, BILL)))
    names = ["booked_at" if name == "at" else name for name in COLUMNS]
    assert table.schema.names == names
    assert str(table.schema.field("amount").type) == "decimal128(18, 6)"
    first, second = table.to_pylist()
    assert first["amount"] == Decimal("-0.040001")
    assert first["booked_at"].timestamp() == 1_795_262_400.123
    assert (second["list_amount"], second["parts"]) == (None, None)


@pytest.mark.parametrize(("form", "library"), [("xlsx", "xlsxwriter"), ("parquet", "pyarrow")])
def test_a_missing_library_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, form: str, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"{library}.*kaskad\[archive\]"):
        written(form, LINE)
