"""Phone numbers: what is a number, which country it belongs to, and how it may be shown in a log.

Two spellings of one number give one `Phone`, because the digits are the person's identity. What is
not a number raises `PhoneError` with a sentence.

The bar is libphonenumber's "possible" (a known country calling code and a length its plan allows),
not "valid". Validity follows number ranges, and the data is some weeks behind the operators who
open them: it would refuse real people. It would also refuse numbers reserved for fiction and tests,
such as +44 7700 900123, on which demonstrations have to run. Whether a possible number is in
service only its provider knows, and its receipt says so.

libphonenumber's Python parser takes 15 µs a number and up to 35 µs more to name the country of one
in a plan that many share (+1, +44). So each calling code's plan is compiled once from the same
metadata: a number of an allowed length that cannot carry a national prefix is unchanged by the
parser, and a plan's countries become one regular expression tried in the library's order. All else
goes to the library. A property test holds both ways equal.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal

import msgspec
import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumber, PhoneNumberType, ValidationResult

from gateway.errors import CallerFault

NO_COUNTRY = "ZZ"  # international networks and services that belong to none
_NON_GEOGRAPHIC = "001"  # libphonenumber's own word for them
COUNTRIES = frozenset(phonenumbers.SUPPORTED_REGIONS)
# Inmarsat, Iridium and Globalstar, and the networks of ships and planes: some euros a message.
_SATELLITE_CODES = frozenset(("870", "881", "882", "883"))

Tariff = Literal["", "premium", "satellite"]

_e164 = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch
_NUMBER_TYPES = (
    "premium_rate",
    "toll_free",
    "shared_cost",
    "voip",
    "personal_number",
    "pager",
    "uan",
    "voicemail",
    "fixed_line",
    "mobile",
)


class Phone(msgspec.Struct, frozen=True, gc=False):
    """A possible number: `digits` in E.164 without the plus, `country` an ISO region or "ZZ".
    `tariff` is why it costs many times what others do; empty: it does not."""

    digits: str
    country: str
    tariff: Tariff = ""

    @property
    def e164(self) -> str:
        return "+" + self.digits


class PhoneError(CallerFault):
    """The text is no phone number a message can be sent to; the sentence says why."""


class _Plan:
    """What a calling code's metadata decides without the parser."""

    __slots__ = (
        "code",
        "countries",
        "country",
        "dear",
        "lengths",
        "may_have_prefix",
        "tariff",
        "width",
    )

    def __init__(self, code: str) -> None:
        regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE[int(code)]
        metadata = PhoneMetadata.metadata_for_region_or_calling_code(int(code), regions[0])
        assert metadata is not None, f"libphonenumber lists +{code} without metadata"
        assert metadata.general_desc is not None, f"libphonenumber has no lengths for +{code}"
        prefix = metadata.national_prefix_for_parsing
        self.code = code
        self.width = len(code) + 1
        self.lengths = frozenset(metadata.general_desc.possible_length)
        self.may_have_prefix = re.compile(prefix).match if prefix else None
        self.country = NO_COUNTRY if regions[0] == _NON_GEOGRAPHIC else regions[0]
        self.countries = _countries_pattern(regions).match if len(regions) > 1 else None
        # Its numbers that are dear, and as what they are.
        satellite = code in _SATELLITE_CODES
        dear = re.compile("") if satellite else _premium_pattern(int(code), regions)
        self.dear = dear.match if dear is not None else None
        self.tariff: Tariff = "satellite" if satellite else "premium"


_plans: dict[str, _Plan] = {}


def parse(raw: str) -> Phone:
    """Reads a number in E.164 ("+79161234567"); drops a national prefix left in it (+44 0 7...).

    Raises PhoneError.
    """
    if _e164(raw) is None:
        raise PhoneError(
            "The phone number must be in E.164: a plus sign, the country calling code and the "
            "number, 7 to 15 digits without spaces, such as +79161234567."
        )
    plan = _plans.get(raw[1]) or _plans.get(raw[1:3]) or _plans.get(raw[1:4]) or _new_plan(raw)
    national = raw[plan.width :]
    if len(national) not in plan.lengths or (
        plan.may_have_prefix is not None and plan.may_have_prefix(national) is not None
    ):
        return parse_by_library(raw)
    country = plan.country
    if plan.countries is not None and (match := plan.countries(national)) is not None:
        country = match.lastgroup or country
    if plan.dear is None or plan.dear(national) is None:
        return Phone(raw[1:], country)
    return Phone(raw[1:], country, plan.tariff)


def parse_by_library(raw: str) -> Phone:
    """What `parse` means, by libphonenumber alone; `raw` looks like E.164. Raises PhoneError."""
    number = _read(raw)
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        raise PhoneError(
            f"{mask(raw)} cannot be a phone number: "
            f"no number after +{number.country_code} has this length."
        )
    digits = f"{number.country_code}{phonenumbers.national_significant_number(number)}"
    if _e164("+" + digits) is None:
        raise PhoneError(
            f"{mask(raw)} cannot be a phone number: without its national prefix it has "
            f"{len(digits)} digits, and 7 to 15 are needed."
        )
    if digits != raw[1:] and _read("+" + digits) != number:
        raise PhoneError(
            f"{mask(raw)} can be read as more than one phone number: leave the national prefix out."
        )
    region = phonenumbers.region_code_for_number(
        number
    ) or phonenumbers.region_code_for_country_code(number.country_code or 0)
    country = NO_COUNTRY if region == _NON_GEOGRAPHIC else region
    kind = phonenumbers.number_type(number)
    tariff: Tariff = "premium" if kind == PhoneNumberType.PREMIUM_RATE else ""
    satellite = str(number.country_code) in _SATELLITE_CODES
    return Phone(digits, country, "satellite" if satellite else tariff)


@lru_cache(maxsize=16_384)
def zones_of(digits: str) -> tuple[str, ...]:
    """The IANA zones a number may be in, as libphonenumber's data has it; none where it does not
    know. A mobile of a large country has all of it, and +7 is one plan from Bucharest's hour to
    Kamchatka's."""
    # 40 ms and its memory, for those alone who have send windows.
    from phonenumbers import timezone

    names = timezone.time_zones_for_number(_read("+" + digits))
    return tuple(name for name in names if name != timezone.UNKNOWN_TIMEZONE)


def zones_of_country(country: str) -> tuple[str, ...]:
    """Every zone that a number of a country may be in, as far as its calling code says."""
    from phonenumbers.tzdata import TIMEZONE_DATA

    code = phonenumbers.country_code_for_region(country)
    zones: tuple[str, ...] = TIMEZONE_DATA.get(str(code), ())
    return zones


def mask(number: str) -> str:
    """Shows "+79161234567" as "+7916•••67": enough for a log, too little to call anybody."""
    digits = number.removeprefix("+")
    head = max(1, min(4, len(digits) - 7))
    return f"+{digits[:head]}•••{digits[-2:] if len(digits) >= 7 else ''}"


def _read(raw: str) -> PhoneNumber:
    try:
        return phonenumbers.parse(raw, None)
    except phonenumbers.NumberParseException as error:
        if error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE:
            raise PhoneError(f"{mask(raw)} has no known country calling code.") from None
        raise PhoneError(f"{mask(raw)} is too short or too long for a phone number.") from None


def _new_plan(raw: str) -> _Plan:
    for width in (1, 2, 3):
        code = raw[1 : 1 + width]
        if int(code) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            return _plans.setdefault(code, _Plan(code))
    raise PhoneError(f"{mask(raw)} has no known country calling code.")


def _countries_pattern(regions: tuple[str, ...]) -> re.Pattern[str]:
    """One alternative a country, in the library's order; the group that matched names it."""
    alternatives = []
    for region in regions:
        metadata = PhoneMetadata.metadata_for_region(region)
        if metadata is None:
            continue
        pattern = metadata.leading_digits or _valid_pattern(metadata)
        alternatives.append(f"(?P<{region}>{pattern})")
    return re.compile("|".join(alternatives))


def _premium_pattern(code: int, regions: tuple[str, ...]) -> re.Pattern[str] | None:
    """What is premium in any country of a plan; None: nothing is."""
    found = (PhoneMetadata.metadata_for_region_or_calling_code(code, each) for each in regions)
    premium = [m.premium_rate for m in found if m is not None]
    patterns = dict.fromkeys(
        f"(?:{each.national_number_pattern})\\Z"  # it implies the lengths
        for each in premium
        if each is not None and each.national_number_pattern
    )
    return re.compile("|".join(patterns)) if patterns else None


def _valid_pattern(metadata: Any) -> str:
    """What the library calls valid in one country: its plan and one of its number types."""
    types = dict.fromkeys(
        _whole(description)
        for description in (getattr(metadata, name) for name in _NUMBER_TYPES)
        if description is not None and description.national_number_pattern
    )
    return f"(?={_whole(metadata.general_desc)})(?:{'|'.join(types)})"


def _whole(description: Any) -> str:
    lengths = "|".join(f"[0-9]{{{length}}}" for length in description.possible_length if length > 0)
    pattern = rf"(?:{description.national_number_pattern})\Z"
    return rf"(?=(?:{lengths})\Z){pattern}" if lengths else pattern
