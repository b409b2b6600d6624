"""Invoices as providers and spreadsheets write them, read to the last digit."""

from __future__ import annotations

import datetime
import struct
import sys
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from gateway.core.money.reconciliation import PICOS, Theirs
from gateway.finance.extras import MissingExtra
from gateway.finance.invoices.invoices import Columns, InvoiceFault, InvoiceMap, read_invoice
from gateway.finance.spreadsheets import spreadsheet_size
from gateway.finance.spreadsheets.spreadsheet_size import READ_BYTES
from gateway.settings.invoice_map import load_map, shipped_maps

NOON = 1_795_262_400_000  # 2026-11-21T12:00:00Z
HEADER = "id,to,at,parts,price,network,status\n"
PLAIN = Theirs(2, 80_000_000_000, "a1", "79161234567", NOON, 2, "25001")


def picos(text: str) -> int:
    return int(Decimal(text) * PICOS)


def read(path: Path, text: str | bytes, how: InvoiceMap | None = None) -> list[Theirs]:
    file = path / "invoice.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_invoice(file, how or InvoiceMap()))


def test_a_plain_file_needs_no_map(tmp_path: Path) -> None:
    row = "a1,+7 916 123-45-67,2026-11-21T12:00:00Z,2,0.04,25001,DELIVERED\n"
    assert read(tmp_path, HEADER + row) == [PLAIN]
    assert read(tmp_path, "\ufeff" + HEADER.upper() + row + "\n,,,,,,\n") == [PLAIN]


def test_what_an_excel_of_another_country_saved_is_read_by_a_map(tmp_path: Path) -> None:
    how = InvoiceMap(
        encoding="cp1251",
        delimiter=";",
        decimal=",",
        thousands=".",
        zone="Europe/Moscow",
        time_format="%d.%m.%Y %H:%M:%S",
        price_is="line",
        columns=Columns(to="Номер", at="Дата", price="Сумма", network="Оператор"),
    )
    text = (
        "id;Номер;Дата;parts;Сумма;Оператор\r\n"
        "a1;79161234567;21.11.2026 15:00:00;2;1.234,00000001;МТС\r\n"
        "a2;79161234567;21.11.2026 15:00:00;1;1\u00a0234,5;250-01\r\n"
    )
    first, second = read(tmp_path, text.encode("cp1251"), how)
    assert first == Theirs(2, picos("1234.00000001"), "a1", "79161234567", NOON, 2)
    assert (second.amount, second.network) == (picos("1234.5"), "25001")


@pytest.mark.parametrize(
    "rest",
    [
        '"Shop\na2,2,0.04,Bank\n',
        '"Shop\na2,2,0.04,"Bank\na3,3,0.04,x\n',
        '"Shop" Ltd\na2,2,0.04,x\n',
    ],
)
def test_a_quote_that_does_not_end_swallows_no_lines(tmp_path: Path, rest: str) -> None:
    with pytest.raises(InvoiceFault, match=r"^invoice.csv, line 3.* is not CSV: .*quote"):
        read(tmp_path, f"id,to,price,status\na1,1,0.04,x\na1,1,0.04,{rest}")


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("7.9161234567E+10", "79161234567"),
        ("7,91612E+10", "791612e10"),
        ("7.9E+10", "79e10"),
        ("'+79161234567", "79161234567"),
        ("Ann@Example.com", "ann@example.com"),
        ("anonymous", None),
    ],
)
def test_numbers_are_what_a_spreadsheet_left_of_them(
    tmp_path: Path, written: str, number: str | None
) -> None:
    (line,) = read(tmp_path, f'id,to,price\na1,"{written}",0.04\n')
    assert line.to == number


def test_an_id_that_was_rounded_is_none_and_one_that_only_looks_like_it_is_kept(
    tmp_path: Path,
) -> None:
    rows = "1.23457E+18,79161234567,1\n12e5,79161234567,1\n"
    assert [line.id for line in read(tmp_path, "id,to,price\n" + rows)] == [None, "12e5"]


@pytest.mark.parametrize(
    ("how", "cells", "amount", "each"),
    [
        ({}, "3,0.04", "0.12", False),
        ({}, ",0.04", "0.04", True),
        ({"price_is": "line"}, "3,0.04", "0.04", False),
        ({"line_is": "part"}, "3,0.04", "0.04", False),
        ({"line_is": "part"}, ",0.04", "0.04", False),
        ({"charges": "negative"}, "1,-0.0075", "0.0075", False),
        ({}, "2,-0.04", "-0.08", False),
        ({}, "1,0.000000000001", "0.000000000001", False),
        ({"thousands": "'"}, "1,1'000.5", "1000.5", False),
    ],
)
def test_what_is_asked_for_is_exact(
    tmp_path: Path, how: dict[str, Any], cells: str, amount: str, each: bool
) -> None:
    (line,) = read(tmp_path, f"id,parts,price\na1,{cells}\n", InvoiceMap(**how))
    assert (line.amount, line.each) == (picos(amount), each)


@pytest.mark.parametrize(
    ("status", "failed"),
    [("DELIVERED_TO_HANDSET", False), ("UNDELIVERABLE_NOT_DELIVERED", True), ("failed", True)],
)
def test_a_status_may_say_that_nothing_arrived(tmp_path: Path, status: str, failed: bool) -> None:
    (line,) = read(tmp_path, f"id,price,status\na1,1,{status}\n")
    assert line.failed is failed


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,to\na,1\n", "has no column 'price': say in the map which one is `columns.price`"),
        ("price\n1\n", "has no column 'id'"),
        ("", "Its header is: empty."),
        ("id,price\na,1\nb,dear\n", "line 3, price: 'dear' is no number"),
        ("id,price\na,\n", "line 2, price is empty."),
        ("id,to,price\n,,1\n", "line 2, names neither id nor number."),
        ("id,price,parts\na,1,1.5\n", "parts: '1.5' is no number of parts"),
        ("id,price,parts\na,1,1e99999999\n", "parts: '1e99999999' is no number"),
        ("id,price,at\na,1,noon\n", "at: 'noon' cannot be read."),
        ("id,price\na,0.0000000000001\n", "has more than 12 decimals"),
        ("id,price\na,10000000\n", "is beyond 9000000"),
        ("id,price\na,NaN\n", "is no number"),
        ("id,price,parts\na,1e9999999,2\n", "price: '1e9999999' is no number"),
        ("id,price,Price\na,1,2\n", "has 2 columns 'price'"),
        ("id,price\na,0,0088\n", "line 2, has more cells than the header (3, not 2)"),
        ("id,price\na,\ufffd\n".encode("cp1251", "replace") + b"\xff\n", "is not utf-8 text"),
    ],
)
def test_what_cannot_be_read_is_said_and_the_file_not_used(
    tmp_path: Path, text: str | bytes, sentence: str
) -> None:
    with pytest.raises(InvoiceFault) as told:
        read(tmp_path, text)
    assert sentence in str(told.value)


@pytest.mark.parametrize(
    ("thousands", "decimal", "price"),
    [
        (",", ".", "0,0088"),
        (".", ",", "0.0088"),
        (".", ",", "12.5"),
        ("'", ".", "1234'567"),
        ("", ",", "1.234"),
        (" ", ",", "1.234"),
        ("'", ",", "1'234.5"),
    ],
)
def test_what_stands_where_no_thousands_end_is_no_number(
    tmp_path: Path, thousands: str, decimal: Any, price: str
) -> None:
    """Taken for thousands, a price would be ten thousand times as high."""
    how = InvoiceMap(thousands=thousands, decimal=decimal, delimiter=";")
    with pytest.raises(InvoiceFault, match="is no number: see decimal and thousands"):
        read(tmp_path, f"id;price\na;{price}\n", how)


def test_empty_lines_stand_anywhere(tmp_path: Path) -> None:
    (line,) = read(tmp_path, "\n,\n\nid,price\n\na,0.08\n\n")
    assert (line.line, line.id) == (6, "a")


def test_of_two_columns_of_one_name_that_nobody_asked_for_nothing_is_said(tmp_path: Path) -> None:
    (line,) = read(tmp_path, "id,note,note,,,price\na,b,c,,,0.08\n")
    assert line.amount == PLAIN.amount


def test_text_without_the_mark_of_its_encoding_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvoiceFault, match=r"is not utf-16 text: name its encoding"):
        read(tmp_path, "id,price\na,1\n", InvoiceMap(encoding="utf-16"))


def test_every_line_at_fault_is_told_up_to_a_bound(tmp_path: Path) -> None:
    with pytest.raises(InvoiceFault) as told:
        read(tmp_path, "id,price\n" + "a,?\n" * 50)
    assert len(str(told.value).splitlines()) == 20


# --- XLSX -----------------------------------------------------------------------------------------


def sheet(path: Path, rows: list[list[Any]]) -> Path:
    file = path / "invoice.xlsx"
    with xlsxwriter.Workbook(file) as book:
        moment = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        page = book.add_worksheet()
        for at, row in enumerate(rows):
            for column, cell in enumerate(row):
                if isinstance(cell, datetime.datetime):
                    page.write_datetime(at, column, cell, moment)
                else:
                    page.write(at, column, cell)
    return file


def test_a_spreadsheets_numbers_are_what_it_shows(tmp_path: Path) -> None:
    noon = datetime.datetime(2026, 11, 21, 12)  # noqa: DTZ001 - spreadsheets know no zones
    rows: list[list[Any]] = [
        ["id", "to", "at", "parts", "price", "network"],
        ["a1", 79161234567, noon, 2, 0.04, 25001],
        [123456789012345, "79161234567", 46347.5, 3.0, 0.1 + 0.2, "25001"],
        [1.2345678901234567e19, 79161234567, "2026-11-21 12:00:00", 1, "0.04", 25001],
        ["", "", "", "", "", ""],
    ]
    first, second, third = read_invoice(sheet(tmp_path, rows), InvoiceMap())
    assert first == PLAIN
    assert second == Theirs(3, picos("0.9"), "123456789012345", "79161234567", NOON, 3, "25001")
    assert (third.id, third.at_ms) == (None, NOON)


def test_an_xlsx_without_its_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = sheet(tmp_path, [["id", "price"], ["a", 1]])
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(MissingExtra, match=r"kaskad\[archive\]"):
        list(read_invoice(file, InvoiceMap()))


def with_changed(path: Path, old: bytes, new: bytes) -> Path:
    """A spreadsheet of one line at 1.5, with these bytes changed in its parts."""
    written = sheet(path, [["id", "price"], ["a", 1.5]])
    changed = path / "changed.xlsx"
    with zipfile.ZipFile(written) as before, zipfile.ZipFile(changed, "w") as after:
        for item in before.infolist():
            after.writestr(item, before.read(item).replace(old, new))
    return changed


@pytest.mark.parametrize("value", [b"1e999", b"NaN"])
def test_a_number_that_is_none_is_told(tmp_path: Path, value: bytes) -> None:
    changed = with_changed(tmp_path, b"<v>1.5</v>", b"<v>%b</v>" % value)
    with pytest.raises(InvoiceFault, match=r"line 2, price: .* is no number"):
        list(read_invoice(changed, InvoiceMap()))


def test_a_zip_that_is_no_spreadsheet_is_said(tmp_path: Path) -> None:
    file = sheet(tmp_path, [["id", "price"]])
    file.write_bytes(file.read_bytes().replace(b"workbook", b"wurkbook"))
    with pytest.raises(InvoiceFault, match="cannot be read as XLSX"):
        list(read_invoice(file, InvoiceMap()))


END = b"</sheetData>"
STRAY = b'<row r="%b"><c r="%b"%b></row>' + END


@pytest.mark.parametrize(
    ("row", "cell", "told"),
    [
        (b"1048576", b"XFD1048576", "1048576 rows of 16384 columns are over 67108864 cells"),
        (b"1048576", b"BM1048576", "1048576 rows of 65 columns are over"),
        (b"9", b"ZZZZZZZ9", "over 67108864 cells"),
    ],
)
def test_a_stray_cell_far_away_is_told_and_not_opened(
    tmp_path: Path, row: bytes, cell: bytes, told: str
) -> None:
    stray = STRAY % (row, cell, b"><v>1</v></c")
    with pytest.raises(InvoiceFault, match=told):
        list(read_invoice(with_changed(tmp_path, END, stray), InvoiceMap()))


def test_a_far_cell_of_which_only_the_format_is_kept_takes_nothing(tmp_path: Path) -> None:
    stray = STRAY % (b"1048576", b"XFD1048576", b' s="1"/')
    (line,) = read_invoice(with_changed(tmp_path, END, stray), InvoiceMap())
    assert (line.id, line.amount) == ("a", picos("1.5"))


@pytest.mark.parametrize("shift", range(-40, 41, 8))
def test_a_cell_is_seen_where_a_piece_that_is_read_ends(tmp_path: Path, shift: int) -> None:
    stray = STRAY % (b"1048576", b"XFD1048576", b"><v>1</v></c")
    stray = b"<!--%b-->%b" % (b" " * (READ_BYTES - 1_000 + shift), stray)
    with pytest.raises(InvoiceFault, match="cells"):
        list(read_invoice(with_changed(tmp_path, END, stray), InvoiceMap()))


def test_what_opens_to_too_much_is_told_whatever_it_says_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreadsheet_size, "OPENED_MAX", 3 * READ_BYTES)
    file = sheet(tmp_path, [["id", "price"], ["a", 1]])
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/more.xml", b" " * 4 * READ_BYTES)
    told = file.read_bytes().replace(struct.pack("<I", 4 * READ_BYTES), struct.pack("<I", 10))
    file.write_bytes(told)
    with pytest.raises(InvoiceFault, match="it opens to over 3145728 bytes"):
        list(read_invoice(file, InvoiceMap()))


# --- shipped maps, on lines as these providers export them ----------------------------------------

EXPORTS = {
    "infobip": (
        "messageId,from,to,sentAt,doneAt,smsCount,mccMnc,pricePerMessage,currency,status\n"
        "a1,Shop,79161234567,2026-11-21T12:00:00.000+0000,,2,25001,0.04,EUR,DELIVERED_TO_HANDSET\n"
    ),
    "twilio": (
        "From,To,Body,Status,SentDate,ApiVersion,NumSegments,ErrorCode,AccountSid,Sid,Direction,"
        "Price,PriceUnit\n"
        "+15005550006,+79161234567,Hi,delivered,2026-11-21T12:00:00Z,2010-04-01,2,0,AC1,a1,"
        "outbound-api,-0.08,USD\n"
    ),
    "vonage": (
        "account_id,message_id,client_ref,direction,from,to,network,date_received,total_price,"
        "currency,status\n"
        "abc,a1,,outbound,Shop,79161234567,25001,2026-11-21T12:00:00+0000,0.08,EUR,delivered\n"
    ),
    "semicolons": (
        "id;to;at;parts;price;network;status\n"
        "a1;79161234567;21.11.2026 15:00:00;2;0,04;25001;доставлено\n"
    ),
}


@pytest.mark.parametrize("name", sorted(EXPORTS))
def test_a_shipped_map_reads_what_its_provider_exports(tmp_path: Path, name: str) -> None:
    how = load_map(name)
    (line,) = read(tmp_path, EXPORTS[name].encode(how.encoding), how)
    assert line.amount == PLAIN.amount
    assert (line.id, line.to, line.at_ms) == (PLAIN.id, PLAIN.to, PLAIN.at_ms)
    assert line.parts in (None, PLAIN.parts)


def test_every_shipped_map_is_tried() -> None:
    assert shipped_maps().keys() == EXPORTS.keys()
