"""The price file: how it is written, and every fault of it at once."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from gateway.core.money.prices import Price
from gateway.errors import ConfigurationError
from gateway.settings import price_file
from gateway.settings.price_file import PriceFault, PricesError, load_prices, parse_prices

TODAY = date(2026, 11, 15)
HEADER = "provider,prefix,category,cost,sell,currency,valid_from"


def faults_of(text: str) -> list[tuple[int, str]]:
    with pytest.raises(PricesError) as caught:
        parse_prices(text, "EUR")
    return [(fault.line, fault.column) for fault in caught.value.faults]


def test_every_fault_of_a_file_is_told_at_once() -> None:
    assert faults_of(
        f"""{HEADER}
sms,7,otp,0.0200,0.0250,EUR,2026-01-01
,+7,sport,0.00000001,-1,USD,2026-02-30

sms,7,otp,0.0200
sms,7,otp,0.0300,0.0350,EUR,2026-01-01
sms,7,,1e-2,0.0350,EUR,20260101
"""
    ) == [
        (3, "provider"), (3, "prefix"), (3, "category"), (3, "cost"), (3, "sell"), (3, "currency"),
        (3, "valid_from"), (5, ""), (6, ""), (7, "cost"), (7, "valid_from"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", list(price_file.COLUMNS)),
        ("provider,prefix,category,cost,sell,currency", ["valid_from"]),
        (HEADER + ",comment", ["comment"]),
        (HEADER + ",cost", ["cost"]),
        (HEADER.replace("sell", "price"), ["price", "sell"]),
    ],
)
def test_a_header_names_each_column_once(text: str, columns: list[str]) -> None:
    assert faults_of(text + "\nsms,7,otp,x,x,x,x\n") == [(1, column) for column in columns]


def test_columns_may_stand_in_any_order() -> None:
    text = "valid_from,sell,cost,currency,category,prefix,provider\n2026-01-01,2,1,EUR,,7,sms\n"
    assert parse_prices(text, "EUR").quote("sms", "7916", "otp", TODAY) == Price(
        1_000_000, 2_000_000, "EUR"
    )


def test_broken_quoting_is_a_fault_with_its_line() -> None:
    assert faults_of(f'{HEADER}\nsms,"7"x,otp,1,1,EUR,2026-01-01\n') == [(2, "")]


def test_a_list_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_file, "PRICE_ROWS_MAX", 1)
    row = "sms,{},otp,1,1,EUR,2026-01-01\n"
    assert len(parse_prices(f"{HEADER}\n{row.format(7)}", "EUR").rows) == 1
    assert faults_of(f"{HEADER}\n{row.format(7)}{row.format(8)}{row.format(9)}") == [(3, "")]


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    text = f"{HEADER}\r\nsms,7,,1,2,EUR,2026-01-01\r\n"
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "prices.csv").write_bytes(text.encode(encoding))
        assert len(load_prices(tmp_path / "prices.csv", "EUR").rows) == 1


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.csv, line 1: cannot be read"):
        load_prices(tmp_path / "none.csv", "EUR")
    (tmp_path / "latin.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load_prices(tmp_path / "latin.csv", "EUR")


def test_a_fault_reads_as_a_place_and_a_sentence() -> None:
    error = PricesError("prices.csv", [PriceFault(3, "cost", "'x' is not an amount.")])
    assert str(error) == "prices.csv, line 3, cost: 'x' is not an amount."
