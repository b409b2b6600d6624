"""Doubts about a price list, and lists that providers publish."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest

from gateway.finance.prices.price_check import doubts
from gateway.finance.prices.published_prices import (
    Published,
    PublishedFault,
    dearest,
    price_rows,
    read_published,
)
from gateway.settings.price_file import COLUMNS, NETWORK, parse_prices

TODAY = datetime.date(2026, 11, 29)
HEADER = "provider,prefix,category,cost,sell,currency,valid_from,mccmnc\n"


def doubted(*lines: str, providers: tuple[str, ...] = ("sms",)) -> list[tuple[int, str]]:
    book = parse_prices(HEADER + "\n".join(lines), "EUR")
    return [(doubt.line, doubt.what) for doubt in doubts(book, providers, TODAY)]


ALL = "sms,,,0.04,0.05,EUR,2026-01-01,"


def test_a_list_with_a_price_for_everybody_is_not_doubted() -> None:
    assert doubted(ALL, "sms,7,otp,0.03,0.05,EUR,2026-06-01,") == []


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ((ALL, "sms,7,,0.06,0.05,EUR,2026-01-01,"), [(3, "loss")]),
        ((ALL, "sms,,,0.04,0.05,EUR,2026-06-01,"), [(3, "overlap")]),
        (("sms,7,,0.03,0.05,EUR,2026-01-01,",), [(0, "gap")]),
        (("sms,,,0.03,0.05,EUR,2027-01-01,",), [(2, "gap")]),
        ((ALL, "sms,7,,0.03,0.05,EUR,2027-01-01,"), []),  # until then every phone's price counts
        ((ALL, "sms,,,0.03,0.05,EUR,2027-01-01,25001"), [(3, "gap")]),
        (("other,,,0.03,0.05,EUR,2026-01-01,",), [(0, "gap")]),
    ],
)
def test_gaps_overlaps_and_losses_are_found(
    lines: tuple[str, ...], found: list[tuple[int, str]]
) -> None:
    assert doubted(*lines) == found


def test_infobips_list_prices_networks_and_countries() -> None:
    text = (
        "Country,Country Code,MCC,MNC,Network,Price,Currency\n"
        "Germany,49,262,01,Telekom,0.0750,EUR\n"
        "Germany,49,,,,0.08,EUR\n"
        'Germany,49,262,"02, 7",Vodafone,0.0760,EUR\n'
    )
    assert read_published(text, "infobip") == [
        Published("", "26201", Decimal("0.0750"), "EUR"),
        Published("49", "", Decimal("0.08"), "EUR"),
        Published("", "26202", Decimal("0.0760"), "EUR"),
        Published("", "26207", Decimal("0.0760"), "EUR"),
    ]


def test_twilios_list_prices_countries_that_share_a_code_by_their_own_numbers() -> None:
    text = (
        "ISO,Country,Description,Price / msg\n"
        'US,United States,"SMS, all",0.0079\n'
        "KZ,Kazakhstan,SMS,0.12\n"
        "RU,Russia,SMS,0.07\n"
    )
    found = {each.prefix: str(each.cost) for each in read_published(text, "twilio")}
    assert found == {"1": "0.0079", "77": "0.12", "7": "0.07"}


def test_of_several_prices_of_one_place_the_dearest_counts_and_is_told() -> None:
    """Twilio prices some countries by networks that it does not number, and Infobip's countries
    share calling codes."""
    twilio = (
        "ISO,Country,Description,Price / msg\n"
        "AF,Afghanistan,Etisalat,0.28\nAF,Afghanistan,Roshan,0.35\nAF,Afghanistan,Other,0.2\n"
    )
    infobip = "Country,Country Code,Price\nRussia,7,0.07\nKazakhstan,7,0.07\nGermany,49,0.08\n"
    taken, several = dearest(read_published(twilio, "twilio"))
    assert taken == [Published("93", "", Decimal("0.35"), "USD")]
    assert several == ["prefix 93 has 3 prices from 0.2 to 0.35: the dearest counts"]
    taken, several = dearest(read_published(infobip, "infobip"))
    assert [(each.prefix, str(each.cost)) for each in taken] == [("7", "0.07"), ("49", "0.08")]
    assert several == []


def test_what_was_imported_is_a_price_file() -> None:
    prices = [
        Published("", "26201", Decimal("0.075"), "USD"),
        Published("49", "", Decimal(1), "USD"),
    ]
    rows = list(price_rows(prices, "sms", "EUR", Decimal(20), TODAY, Decimal("0.9")))
    text = "\n".join(",".join(row) for row in [(*COLUMNS, NETWORK), *rows])
    book = parse_prices(text, "EUR")
    network = book.quote_network("sms", "26201", "otp", TODAY)
    assert network is not None
    assert (network.cost, network.sell) == (67_500, 81_000)
    with pytest.raises(PublishedFault, match="give --rate"):
        list(price_rows(prices, "sms", "EUR", Decimal(0), TODAY, None))
    with pytest.raises(PublishedFault, match="comes to more than 999999999"):
        list(price_rows(prices, "sms", "EUR", Decimal(0), TODAY, Decimal(999_999_999) * 1_000))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,b\n1,2\n", "is this infobip's list"),
        ("MCC,MNC,Price\n26,01,0.1\n", "line 2: MCC '26' and MNC '01' are no network"),
        ("MCC,MNC,Price\n262,01,free\n", "line 2: 'free' is no price"),
        ("MCC,MNC,Price\n262,01,1e9999999\n", "line 2: '1e9999999' is no price"),
        (f"MCC,MNC,Price\n262,01,{'1' * 200_000}\n", "line 2 is not CSV"),
        ('MCC,MNC,Price,Network\n262,01,0.1,x\n262,02,0.1,"A\n262,03,0.1,B\n', "line 3 is not CSV"),
        ('"MCC,MNC,Price\n262,01,0.1\n', "line 1 is not CSV"),
        ("MCC,MNC,Price\n,,0.1\n", "names neither a network nor a country"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text: str, why: str) -> None:
    with pytest.raises(PublishedFault, match=why):
        read_published(text, "infobip")
