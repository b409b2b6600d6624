"""A map of an invoice is read as strictly as the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.finance.invoices.invoices import Columns, InvoiceMap
from gateway.settings.file import SettingsError
from gateway.settings.invoice_map import load_map


def test_everything_may_be_left_out(tmp_path: Path) -> None:
    file = tmp_path / "map.toml"
    file.write_text("")
    assert load_map(str(file)) == InvoiceMap()
    file.write_text('decimal = ","\n[columns]\nid = "Nr."\n')
    assert load_map(str(file)) == InvoiceMap(decimal=",", columns=Columns(id="Nr."))
    file.write_text('decimal = ","', "utf-8-sig")
    assert load_map(str(file)) == InvoiceMap(decimal=",")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("delimeter = ';'", "delimeter is an unknown key; did you mean delimiter?"),
        ("price_is = 'message'", 'price_is is \'message\': use "part" or "line".'),
        ("[columns]\nnumber = 'a'", "columns.number is an unknown key"),
        ("encoding = 'cp9999'", "encoding 'cp9999' is none that Python knows."),
        ("encoding = 'hex'", "encoding 'hex' is none that Python knows."),
        ("delimiter = ';;'", "delimiter is one character."),
        ("decimal = ','\nthousands = ','", "thousands is the same as decimal."),
        ("zone = 'Moscow'", "zone 'Moscow' is no IANA zone, such as Europe/Moscow."),
        ("zone", "is not TOML"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "map.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as told:
        load_map(str(file))
    assert reason in str(told.value)


def test_a_map_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(SettingsError, match="Shipped maps are: infobip, semicolons, twilio, von"):
        load_map("infobop")
