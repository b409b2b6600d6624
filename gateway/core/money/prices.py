"""The price list: what a step costs us and what the app is billed for it, a unit of its channel's
`price_unit`.

Among the rows that fit the longest phone prefix counts, then a named category over an empty one,
then the latest `valid_from` not in the future. No price is an answer (None), which admission turns
into a refusal. A row that names a network is for what a receipt says was carried there, and counts
by that alone.

`PriceBook.quote` is on the path of every acceptance, once a step: the rows that count on one day
are laid out by prefix and kept, so that a quote is a few dictionary look-ups from the longest
prefix down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import get_args

import msgspec

from providers.contract import Category

DAYS_KEPT_MAX = 8  # days whose layout is kept; a process asks for today, around midnight for two

_CATEGORIES: tuple[str, ...] = get_args(Category)


class Price(msgspec.Struct, frozen=True):
    """A unit's cost to us (`cost`) and what the app is billed for it (`sell`), both in micros."""

    cost: int
    sell: int
    currency: str


class PriceRow(msgspec.Struct, frozen=True):
    """One line of the price file; an empty `category` or `prefix` stands for any."""

    provider: str
    prefix: str
    category: str
    price: Price
    valid_from: date
    mccmnc: str = ""  # the network, instead of a prefix
    line: int = 0  # of the file


class _Layout(msgspec.Struct, frozen=True):
    """One provider's prices for one category on one day."""

    lengths: tuple[int, ...]  # of the prefixes, longest first
    prices: Mapping[str, Price]
    networks: Mapping[str, Price]


class PriceBook:
    """All rows of a price file. To its callers it never changes: what it keeps only saves work."""

    def __init__(self, rows: Iterable[PriceRow]) -> None:
        self.rows = tuple(rows)
        self.names_networks = any(row.mccmnc for row in self.rows)
        self._days: dict[date, dict[tuple[str, str], _Layout]] = {}

    def quote(self, provider: str, digits: str, category: str, on: date) -> Price | None:
        """The price of one unit to `digits` (E.164 without the plus) on a day, or None when there
        is none.
        """
        layout = self._layouts(on).get((provider, category))
        if layout is not None:
            for length in layout.lengths:
                price = layout.prices.get(digits[:length])
                if price is not None:
                    return price
        return None

    def quote_network(self, provider: str, network: str, category: str, on: date) -> Price | None:
        """The price of one unit that a network carried, or None where the list has none of it."""
        layout = self._layouts(on).get((provider, category))
        return None if layout is None else layout.networks.get(network)

    def _layouts(self, on: date) -> dict[tuple[str, str], _Layout]:
        layouts = self._days.get(on)
        return self._lay_out(on) if layouts is None else layouts

    def _lay_out(self, on: date) -> dict[tuple[str, str], _Layout]:
        """Writes the rows of a day over one another, weaker first, so that the strongest stays."""
        ordered = sorted(
            (row for row in self.rows if row.valid_from <= on),
            key=lambda row: (row.category != "", row.valid_from),
        )
        prices: dict[tuple[str, str], dict[str, Price]] = {}
        networks: dict[tuple[str, str], dict[str, Price]] = {}
        for row in ordered:
            places, place = (networks, row.mccmnc) if row.mccmnc else (prices, row.prefix)
            for category in (row.category,) if row.category else _CATEGORIES:
                places.setdefault((row.provider, category), {})[place] = row.price
        layouts = {
            key: _layout(prices.get(key, {}), networks.get(key, {}))
            for key in prices.keys() | networks.keys()
        }
        if len(self._days) >= DAYS_KEPT_MAX:
            self._days.clear()
        self._days[on] = layouts
        return layouts


def _layout(prices: Mapping[str, Price], networks: Mapping[str, Price]) -> _Layout:
    return _Layout(tuple(sorted(set(map(len, prices)), reverse=True)), prices, networks)
