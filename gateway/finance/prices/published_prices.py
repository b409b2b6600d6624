"""Price lists as Infobip and Twilio publish them, read as rows of ours.

Both are CSV with a header: Infobip's `Country,Country Code,MCC,MNC,Network,Price,Currency` (an
empty MNC is the whole country), Twilio's `ISO,Country,Description,Price / msg` or with `MCC` and
`MNC` beside, in USD. Names are found without regard to case, spaces and underscores, so that what
an account's own export adds or moves is no fault. A network's price becomes a row with `mccmnc`, a
country's one with its calling code; where several countries share one, with what its own numbers
begin with. Of several prices of one place the dearest is taken, because none of the others is
enough for it. Each sell price is the cost and a markup. What a line lacks is a `PublishedFault`,
and all are told together.
"""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import ROUND_UP, Decimal, InvalidOperation

import msgspec
import phonenumbers

from gateway.core.money.money import AMOUNT_MAX, MICROS, PLACES
from gateway.errors import CallerFault

SHAPES = ("infobip", "twilio")
FAULTS_SHOWN = 10

_NAMES: Mapping[str, tuple[str, ...]] = {
    "country": ("iso", "countryiso", "isocode", "isocountry"),
    "code": ("countrycode", "callingcode", "dialcode", "prefix", "dialingcode"),
    "mcc": ("mcc",),
    "mnc": ("mnc",),
    "price": ("price", "pricepermessage", "pricemsg", "pricesms", "outboundprice", "rate"),
    "currency": ("currency", "currencycode", "priceunit"),
}
_QUANTUM = Decimal(1).scaleb(-PLACES)
PRICE_MAX = AMOUNT_MAX // MICROS
_digits = re.compile(r"[0-9]{1,5}").fullmatch


class PublishedFault(CallerFault):
    """The list cannot be taken; a sentence a fault."""


class Published(msgspec.Struct, frozen=True):
    """One price: of a network, or of all phones with a prefix."""

    prefix: str
    mccmnc: str
    cost: Decimal
    currency: str


def read_published(text: str, shape: str) -> list[Published]:
    """Every price of a published list, as it stands there. Raises PublishedFault."""
    lines = io.StringIO(text.lstrip("\ufeff"), newline="")
    reader = csv.reader(lines, delimiter=_delimiter(text), strict=True)
    found: list[Published] = []
    faults: list[str] = []
    begins = 1
    try:
        header = _header(next(reader, []), shape)
        begins = reader.line_num + 1
        for cells in reader:
            begins = reader.line_num + 1
            if any(cell.strip() for cell in cells):
                try:
                    found += _prices(_named(header, cells), shape)
                except ValueError as fault:
                    faults.append(f"line {reader.line_num}: {fault}")
    except csv.Error as error:
        raise PublishedFault(f"line {begins} is not CSV: {error}.") from None
    if faults:
        more = f" and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
        raise PublishedFault("; ".join(faults[:FAULTS_SHOWN]) + more + ".")
    return found


def dearest(prices: Iterable[Published]) -> tuple[list[Published], list[str]]:
    """Of each place the dearest price, and a sentence for each that has several."""
    by_place: dict[tuple[str, str], set[Published]] = {}
    for each in prices:
        by_place.setdefault((each.prefix, each.mccmnc), set()).add(each)
    taken, sentences = [], []
    for (prefix, mccmnc), several in by_place.items():
        most = max(several, key=lambda each: each.cost)
        taken.append(most)
        if len(several) > 1:
            place = f"network {mccmnc}" if mccmnc else f"prefix {prefix}"
            least = min(each.cost for each in several)
            sentences.append(
                f"{place} has {len(several)} prices from {least} to {most.cost}: the dearest counts"
            )
    return taken, sentences


def price_rows(
    prices: Sequence[Published],
    provider: str,
    currency: str,
    markup_percent: Decimal,
    valid_from: datetime.date,
    rate: Decimal | None,
) -> Iterator[tuple[str, ...]]:
    """Rows of our price file, with `mccmnc`; another currency than ours needs the `rate` by which
    it is multiplied. Raises PublishedFault, also for what comes to more than an amount may be."""
    for each in prices:
        if each.currency != currency and rate is None:
            raise PublishedFault(
                f"The list is in {each.currency} and prices.currency is {currency}: give --rate, "
                f"what one {each.currency} is in {currency}."
            )
        cost = each.cost if each.currency == currency or rate is None else each.cost * rate
        sell = cost * (100 + markup_percent) / 100
        if max(cost, sell) > PRICE_MAX:
            raise PublishedFault(f"The price {each.cost} comes to more than {PRICE_MAX}.")
        amounts = (_amount(cost), _amount(sell))
        yield (provider, each.prefix, "", *amounts, currency, valid_from.isoformat(), each.mccmnc)


def _amount(amount: Decimal) -> str:
    """With as many places as amounts have; never less than it is."""
    return f"{amount.quantize(_QUANTUM, ROUND_UP):f}"


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return ";" if first.count(";") > first.count(",") else ","


def _header(cells: Sequence[str], shape: str) -> dict[str, int]:
    """Raises PublishedFault."""
    header = _columns(cells)
    if "price" not in header or not {"code", "country", "mcc"} & header.keys():
        raise PublishedFault(
            "The header names no price, or neither country code, ISO country nor MCC: is this "
            f"{shape}'s list?"
        )
    return header


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Where each of our names stands, by the first of its aliases that is there."""
    plain = [re.sub(r"[^a-z]", "", name.lower()) for name in header]
    found = {name: [a for a in aliases if a in plain] for name, aliases in _NAMES.items()}
    return {name: plain.index(there[0]) for name, there in found.items() if there}


def _named(header: Mapping[str, int], cells: Sequence[str]) -> dict[str, str]:
    return {name: cells[at].strip() for name, at in header.items() if at < len(cells)}


def _prices(row: Mapping[str, str], shape: str) -> Iterator[Published]:
    """A network's price, or a country's, by each of its calling codes. Raises ValueError."""
    cost = _price(row.get("price", ""))
    currency = row.get("currency", "").upper() or ("USD" if shape == "twilio" else "EUR")
    mcc, mncs = row.get("mcc", ""), [m for m in re.split(r"[ ,/|]+", row.get("mnc", "")) if m]
    if mcc and mncs:
        for mnc in mncs:
            if not (_digits(mcc) and len(mcc) == 3 and _digits(mnc) and len(mnc) <= 3):
                raise ValueError(f"MCC {mcc!r} and MNC {mnc!r} are no network")
            yield Published("", mcc + mnc.zfill(2), cost, currency)
        return
    for prefix in _prefixes(row):
        yield Published(prefix, "", cost, currency)


def _prefixes(row: Mapping[str, str]) -> list[str]:
    """What the phones of a country begin with. Raises ValueError."""
    code = re.sub(r"[+ -]", "", row.get("code", ""))
    if code:
        if not code.isdecimal():
            raise ValueError(f"the country code {code!r} is none")
        return [code]
    country = row.get("country", "").upper()
    calling = phonenumbers.country_code_for_region(country)
    if not calling:
        raise ValueError("names neither a network nor a country")
    if phonenumbers.region_code_for_country_code(calling) == country:
        return [str(calling)]
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(country)
    own = ((metadata.leading_digits if metadata else None) or "").split("|")
    if not all(map(str.isdecimal, own)):
        raise ValueError(f"{country} shares +{calling} and has no prefix of its own: leave it out")
    return [f"{calling}{digits}" for digits in own]


def _price(text: str) -> Decimal:
    try:
        price = Decimal(text.lstrip("$€").replace(",", "."))
    except InvalidOperation:
        raise ValueError(f"{text[:20]!r} is no price") from None
    if not price.is_finite() or not 0 <= price <= PRICE_MAX:
        raise ValueError(f"{text[:20]!r} is no price")
    return price
