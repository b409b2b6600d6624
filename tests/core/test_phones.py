"""Phone numbers: the fast reading equals libphonenumber's, and refusals say what to do."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core import phones
from gateway.core.phones import Phone, PhoneError
from gateway.errors import CallerFault

CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
SHARED = [
    code for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items() if len(regions) > 1
]


def outcome(read: object, raw: str) -> Phone | None:
    try:
        return read(raw)  # type: ignore[operator, no-any-return]
    except PhoneError:
        return None


@pytest.mark.parametrize(
    ("raw", "country"),
    [
        ("+79161234567", "RU"),
        ("+77011234567", "KZ"),
        ("+491711234567", "DE"),
        ("+375291234567", "BY"),
        ("+998901234567", "UZ"),
        ("+380501234567", "UA"),
        ("+14165550123", "CA"),
        ("+441534123456", "JE"),
        ("+390612345678", "IT"),
        ("+80012345678", "ZZ"),
        ("+6834321", "NU"),
    ],
)
def test_a_number_is_its_digits_and_its_country(raw: str, country: str) -> None:
    phone = phones.parse(raw)
    assert phone == Phone(raw[1:], country)
    assert phone.e164 == raw


@pytest.mark.parametrize(
    ("raw", "country"),
    [
        ("+12025550123", "US"),
        ("+447700900123", "GB"),
        ("+79990000000", "RU"),
        ("+61491570156", "AU"),
    ],
)
def test_numbers_reserved_for_fiction_and_tests_are_numbers(raw: str, country: str) -> None:
    assert phones.parse(raw).country == country


@pytest.mark.parametrize(
    ("spelt", "digits"),
    [
        ("+4407700900123", "447700900123"),
        ("+789161234567", "79161234567"),
        ("+490301234567", "49301234567"),
    ],
)
def test_a_national_prefix_left_in_is_dropped_so_that_one_person_stays_one(
    spelt: str, digits: str
) -> None:
    assert phones.parse(spelt).digits == digits


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("", "E.164"),
        ("79161234567", "E.164"),
        ("+7 916 123-45-67", "E.164"),
        ("+", "E.164"),
        ("+0791612345", "E.164"),
        ("+7916123456", "this length"),
        ("+791612345678", "this length"),
        ("+9991234567", "calling code"),
        ("+2101234567", "calling code"),
        ("+1234567", "this length"),
        ("+7916123456７", "E.164"),
        ("+79161234567\n", "E.164"),
        ("+" + "7" * 16, "E.164"),
        ("+7abc1234567", "E.164"),
    ],
)
def test_what_is_no_number_is_refused_with_the_reason(raw: str, says: str) -> None:
    with pytest.raises(CallerFault, match=says):
        phones.parse(raw)


def test_no_refusal_repeats_the_whole_number() -> None:
    with pytest.raises(PhoneError) as caught:
        phones.parse("+7916123456")
    assert "7916123456" not in str(caught.value)


@settings(max_examples=1000)
@given(st.sampled_from(CODES), st.text("0123456789", min_size=3, max_size=13))
@example(7, "8" + "0" * 13)
@example(54, "91115123456")
def test_fast_reading_equals_the_librarys(code: int, national: str) -> None:
    raw = f"+{code}{national}"
    if 8 <= len(raw) <= 16:
        assert outcome(phones.parse, raw) == outcome(phones.parse_by_library, raw)


@settings(max_examples=1000)
@given(st.data())
def test_countries_of_shared_plans_equal_the_librarys(data: st.DataObject) -> None:
    code = data.draw(st.sampled_from(SHARED))
    region = data.draw(st.sampled_from(phonenumbers.COUNTRY_CODE_TO_REGION_CODE[code]))
    like = phonenumbers.example_number(region)
    assert like is not None
    digits = phonenumbers.national_significant_number(like)
    kept = data.draw(st.integers(0, len(digits)))
    tail = data.draw(
        st.text("0123456789", min_size=len(digits) - kept, max_size=len(digits) - kept)
    )
    raw = f"+{code}{digits[:kept]}{tail}"
    assert outcome(phones.parse, raw) == outcome(phones.parse_by_library, raw)


@given(st.sampled_from(CODES), st.text("0123456789", min_size=4, max_size=12))
def test_reading_twice_changes_nothing_more(code: int, national: str) -> None:
    raw = f"+{code}{national}"
    phone = outcome(phones.parse, raw) if 8 <= len(raw) <= 16 else None
    if phone is not None:
        assert phones.parse(phone.e164) == phone


def test_a_number_that_is_too_short_without_its_national_prefix_is_refused() -> None:
    with pytest.raises(phones.PhoneError, match="without its national prefix it has 6 digits"):
        phones.parse("+4905115")


@given(st.text("0123456789", min_size=1, max_size=15))
def test_a_mask_hides_at_least_four_digits_of_a_number(digits: str) -> None:
    shown = [c for c in phones.mask("+" + digits) if c.isdigit()]
    assert len(shown) <= max(len(digits) - 4, 1)


def test_a_mask_shows_where_a_number_belongs() -> None:
    assert phones.mask("+79161234567") == "+7916•••67"
    assert phones.mask("79161234567") == "+7916•••67"
