"""What the provider charges for one part, by channel, phone prefix, category and date.

Reads Kaskad's own price file too, so that a demo has one list of prices, and shares no code with
the gateway's reading of it. Amounts are exact decimals. Raises ValueError with the line that cannot
be read.
"""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final, Literal

import msgspec

from providers.contract import Channel

COLUMNS: Final = ("provider", "prefix", "category", "cost", "sell", "currency", "valid_from")
PREFIX_DIGITS_MAX: Final = 15  # E.164
# For a wire format without categories: the price is the first of these that has one.
_ANY_CATEGORY: Final = ("", "transactional", "otp", "marketing")

PriceCategory = Literal["", "otp", "transactional", "marketing"]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line: `price` of one part as a decimal string; `valid_from` as YYYY-MM-DD, UTC."""

    channel: Channel
    price: str
    prefix: str = ""
    category: PriceCategory = ""
    currency: str = "EUR"
    valid_from: str = ""


class Tag(msgspec.Struct, frozen=True):
    """A price in force, of one part."""

    amount: Decimal
    currency: str


def load_prices(file: Path, channels: Mapping[str, Channel]) -> tuple[Price, ...]:
    """Reads Kaskad's price file; `channels` says which channel each provider name of it is.

    Lines of other providers, and those of single networks, are left out. Raises ValueError naming
    the file and the line.
    """
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{file}: the header lacks {', '.join(missing)}.")
        found: list[Price] = []
        for row in reader:
            channel = channels.get((row["provider"] or "").strip())
            if channel is None or row.get("mccmnc"):
                continue
            shape = {
                "channel": channel,
                "price": (row["cost"] or "").strip(),
                "prefix": (row["prefix"] or "").strip().lstrip("+"),
                "category": (row["category"] or "").strip(),
                "currency": (row["currency"] or "").strip(),
                "valid_from": (row["valid_from"] or "").strip(),
            }
            try:
                price = msgspec.convert(shape, Price)
            except msgspec.ValidationError as fault:
                raise ValueError(f"{file}, line {reader.line_num}: {fault}.") from None
            problem = price_problem(price)
            if problem:
                raise ValueError(f"{file}, line {reader.line_num}: {problem}")
            found.append(price)
    return tuple(found)


def price_problem(price: Price) -> str:
    """A sentence that says what is wrong with the line, or an empty string."""
    try:
        amount = Decimal(price.price)
    except InvalidOperation:
        return f"{price.price!r} is not a decimal number; write for example 0.0120."
    if not amount.is_finite() or amount < 0:
        return f"{price.price!r} is not an amount; write zero or more."
    if price.prefix and not (price.prefix.isdecimal() and len(price.prefix) <= PREFIX_DIGITS_MAX):
        return f"{price.prefix!r} is not a phone prefix; write digits without the plus sign."
    if len(price.currency) != 3 or not (price.currency.isascii() and price.currency.isalpha()):
        return f"{price.currency!r} is not a currency; write three letters such as EUR."
    if price.valid_from:
        try:
            datetime.date.fromisoformat(price.valid_from)
        except ValueError:
            return f"{price.valid_from!r} is not a date; write YYYY-MM-DD."
    return ""


class PriceList:
    """Finds a price: longest prefix, then a named category, then the latest date not to come."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self._lines: dict[tuple[str, str], list[tuple[str, str, Tag]]] = {}
        for price in prices:
            tag = Tag(Decimal(price.price), price.currency)
            line = (price.category, price.valid_from, tag)
            self._lines.setdefault((price.channel, price.prefix), []).append(line)
        for lines in self._lines.values():
            lines.sort(key=lambda line: (line[0] != "", line[1]), reverse=True)
        self._digits_max = max((len(prefix) for _, prefix in self._lines), default=0)

    def find(self, channel: Channel, to: str, category: str, today: str) -> Tag | None:
        """The price of a part to `to` (digits); `today` is YYYY-MM-DD, UTC. None: no route.

        An empty category is that of a wire format without any."""
        wanted = (category,) if category else _ANY_CATEGORY
        for name in wanted:
            tag = self._find(channel, to, name, today)
            if tag is not None:
                return tag
        return None

    def _find(self, channel: Channel, to: str, category: str, today: str) -> Tag | None:
        for digits in range(min(self._digits_max, len(to)), -1, -1):
            for named, valid_from, tag in self._lines.get((channel, to[:digits]), ()):
                if named in ("", category) and valid_from <= today:
                    return tag
        return None
