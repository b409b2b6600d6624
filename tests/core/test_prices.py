"""The price list: the one row that counts, and every fault of a bad file at once."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.money.money import format_amount
from gateway.core.money.prices import Price, PriceBook, PriceRow
from gateway.settings.price_file import parse_prices

HEADER = "provider,prefix,category,cost,sell,currency,valid_from"
TODAY = date(2026, 11, 15)

BOOK = parse_prices(
    f"""{HEADER}
sms,,,0.0500,0.0600,EUR,2026-01-01
sms,7,,0.0300,0.0400,EUR,2026-01-01
sms,7,otp,0.0200,0.0250,EUR,2026-01-01
sms,79,,0.0310,0.0410,EUR,2026-01-01
sms,7916,marketing,0.0330,0.0430,EUR,2026-01-01
sms,44,,0.0100,0.0200,EUR,2026-01-01
sms,44,,0.0110,0.0210,EUR,2026-11-15
sms,44,,0.0120,0.0220,EUR,2026-11-16
sms,49,otp,0.0700,0.0800,EUR,2026-01-01
sms,49,,0.0750,0.0850,EUR,2026-06-01
viber,7,,0.0040,0.0080,EUR,2027-01-01
""",
    "EUR",
)


@pytest.mark.parametrize(
    ("why", "provider", "digits", "category", "on", "cost"),
    [
        ("an empty prefix matches all", "sms", "15550001", "otp", TODAY, 50_000),
        ("the longest prefix wins", "sms", "79991234567", "transactional", TODAY, 31_000),
        ("a longer prefix wins over a named category", "sms", "79991234567", "otp", TODAY, 31_000),
        ("a named category wins over an empty one", "sms", "77011234567", "otp", TODAY, 20_000),
        ("whatever the dates", "sms", "491711234567", "otp", TODAY, 70_000),
        ("a prefix of another category is no match", "sms", "79161234567", "otp", TODAY, 31_000),
        ("a prefix of this category is", "sms", "79161234567", "marketing", TODAY, 33_000),
        ("the latest day counts from its morning", "sms", "447700900123", "otp", TODAY, 11_000),
        ("an earlier day has its own", "sms", "447700900123", "otp", date(2026, 11, 14), 10_000),
        ("a later day too", "sms", "447700900123", "otp", date(2026, 12, 1), 12_000),
    ],
)
def test_the_row_that_counts(
    why: str, provider: str, digits: str, category: str, on: date, cost: int
) -> None:
    price = BOOK.quote(provider, digits, category, on)
    assert price is not None, why
    assert price.cost == cost, why


@pytest.mark.parametrize(
    ("provider", "digits", "category", "on"),
    [
        ("viber", "79161234567", "otp", TODAY),
        ("viber", "447700900123", "otp", date(2027, 1, 1)),
        ("unheard-of", "79161234567", "otp", TODAY),
        ("sms", "79161234567", "unheard-of", TODAY),
        ("sms", "79161234567", "otp", date(2025, 12, 31)),
    ],
)
def test_no_row_that_counts_is_no_price(
    provider: str, digits: str, category: str, on: date
) -> None:
    assert BOOK.quote(provider, digits, category, on) is None


rows = st.builds(
    PriceRow,
    st.sampled_from(["viber", "sms"]),
    st.text("12", max_size=4),
    st.sampled_from(["", "otp", "marketing"]),
    st.builds(Price, st.integers(0, 10**9), st.integers(0, 10**9), st.just("EUR")),
    st.integers(0, 3).map(lambda days: TODAY + timedelta(days)),
)
lists = st.lists(
    rows, max_size=40, unique_by=lambda r: (r.provider, r.prefix, r.category, r.valid_from)
)
questions = st.tuples(
    st.sampled_from(["viber", "sms"]),
    st.text("12", min_size=1, max_size=6),
    st.sampled_from(["otp", "marketing", "transactional"]),
    st.integers(-1, 12).map(lambda days: TODAY + timedelta(days)),
)


def by_reading_every_row(
    all_rows: list[PriceRow], provider: str, digits: str, category: str, on: date
) -> Price | None:
    """The rule as it is told."""
    matching = [
        row
        for row in all_rows
        if row.provider == provider
        and digits.startswith(row.prefix)
        and row.category in ("", category)
        and row.valid_from <= on
    ]
    best = max(
        matching, key=lambda r: (len(r.prefix), r.category != "", r.valid_from), default=None
    )
    return best.price if best else None


@given(lists, st.lists(questions, min_size=1, max_size=20))
def test_quotes_equal_reading_every_row(
    all_rows: list[PriceRow], asked: list[tuple[str, str, str, date]]
) -> None:
    book = PriceBook(all_rows)
    for question in asked:
        assert book.quote(*question) == by_reading_every_row(all_rows, *question)


@given(lists)
def test_a_written_list_reads_back_the_same(all_rows: list[PriceRow]) -> None:
    text = "\n".join(
        [HEADER]
        + [
            f"{r.provider},{r.prefix},{r.category},{format_amount(r.price.cost)},"
            f"{format_amount(r.price.sell)},EUR,{r.valid_from}"
            for r in all_rows
        ]
    )
    numbered = [replace(row, line=line) for line, row in enumerate(all_rows, 2)]
    assert parse_prices(text, "EUR").rows == tuple(numbered)
