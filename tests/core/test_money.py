"""Amounts: exact both ways, refused when not exact, rounded half to even in ratios."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.money import money

micros = st.integers(0, money.AMOUNT_MAX)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0.0120", 12_000),
        ("1.234567", 1_234_567),
        ("0", 0),
        ("12", 12_000_000),
        ("007.5", 7_500_000),
        ("999999999.999999", money.AMOUNT_MAX),
    ],
)
def test_an_amount_is_read_exactly(text: str, amount: int) -> None:
    assert money.parse_amount(text) == amount


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.0000001",
        "-1",
        "+1",
        "NaN",
        "Infinity",
        "1e3",
        "1E-2",
        ".5",
        "1.",
        "1,5",
        " 1",
        "1 ",
        "1\n",
        "0x1",
        "1_000",
        "1000000000",
        "١",
    ],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(money.AmountError, match="is not an amount"):
        money.parse_amount(text)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (12_000, "0.0120"),
        (1_234_567, "1.234567"),
        (0, "0.0000"),
        (1, "0.000001"),
        (10, "0.00001"),
        (-12_000, "-0.0120"),
        (-1, "-0.000001"),
        (5_000_000, "5.0000"),
    ],
)
def test_an_amount_is_shown_with_four_to_six_decimals(amount: int, text: str) -> None:
    assert money.format_amount(amount) == text


@given(micros)
def test_shown_and_read_back_is_the_same_amount(amount: int) -> None:
    assert money.parse_amount(money.format_amount(amount)) == amount
    assert money.from_decimal(Decimal(money.format_amount(amount))) == amount


@given(micros, st.integers(0, 999))
def test_a_providers_longer_price_is_rounded_half_to_even(amount: int, thousandths: int) -> None:
    price = Decimal(amount * 1000 + thousandths).scaleb(-9)
    expected = amount + (thousandths > 500 or (thousandths == 500 and amount % 2 == 1))
    if price * money.MICROS <= money.AMOUNT_MAX:
        assert money.from_decimal(price) == expected


def test_a_providers_price_may_be_written_with_an_exponent_however_small() -> None:
    assert money.from_decimal(Decimal("1.2E-2")) == 12_000
    assert money.from_decimal(Decimal("1E+3")) == 1000 * money.MICROS
    assert money.from_decimal(Decimal("1E-999999")) == 0
    assert money.from_decimal(Decimal("0.0000000000000000000000000000000000000000000001")) == 0


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-0.01", "1E+9", "1E+999999"])
def test_a_providers_price_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(money.AmountError):
        money.from_decimal(Decimal(text))


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("49.90", 49_900_000),
        ("-0.000001", -1),
        ("1.00000000", 1_000_000),
        ("5E+8", 500_000_000_000_000),
        ("-999999999.999999", -999_999_999_999_999),
        ("0E+999999", 0),
        ("-0", 0),
    ],
)
def test_a_callers_amount_is_taken_exactly(text: str, amount: int) -> None:
    assert money.signed(Decimal(text)) == amount


@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "sNaN", "Infinity", "1000000000", "-1000000000", "0.0000001"),
        *("1E+999999", "-1E+999999", "1E+999999999999", "1E-999999999999"),
        "1.0000000000000000000000000000000001",
    ],
)
def test_a_callers_amount_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(money.AmountError, match="999999999 at most with at most six decimals"):
        money.signed(Decimal(text))


@given(st.integers(-(10**18), 10**18), st.integers(1, 10**15), st.integers(1, 8))
def test_a_ratio_is_the_exact_quotient_rounded_half_to_even(a: int, b: int, places: int) -> None:
    with localcontext() as context:
        context.prec = 80
        expected = (Decimal(a) / Decimal(b)).quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)
    shown = money.ratio(a, b, places)
    assert shown is not None
    assert Decimal(shown) == expected
    assert len(shown.partition(".")[2]) == places
    assert money.ratio(-a, -b, places) == shown


def test_ratios_of_the_report() -> None:
    assert money.cost_per(1_000_000, 3) == "0.333333"
    assert money.cost_per(12_000, 1) == "0.012000"
    assert money.cost_per(12_000, 0) is None
    assert money.saved_pct(1, 3) == "33.33"
    assert money.saved_pct(-1, 8) == "-12.50"
    assert money.saved_pct(0, 0) is None
    assert money.ratio(-1, 1000, 2) == "0.00"
