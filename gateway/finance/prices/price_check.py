"""What is doubtful in a price list that can be read: gaps, rows that say nothing, and sells below
cost. Pure.

gap      a provider's price begins later than the day asked about, and nothing shorter stands in
         until then; or a provider that routes use has no price at all, or none for every phone
overlap  a later row repeats an earlier one: the same prices for the same phones
loss     a row sells below what it costs
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from gateway.core.money.money import format_amount
from gateway.core.money.prices import PriceBook, PriceRow

What = Literal["gap", "overlap", "loss"]


class PriceDoubt(msgspec.Struct, frozen=True):
    """`line` is that of the file, 0 where a provider's rows are meant as a whole."""

    line: int
    what: What
    provider: str
    sentence: str


def doubts(book: PriceBook, providers: Iterable[str], on: datetime.date) -> list[PriceDoubt]:
    """Everything doubtful, in the order of the file; `providers` are those that send, and `on` is
    the day from which there should be prices."""
    by_place: dict[tuple[str, str, str, str], list[PriceRow]] = defaultdict(list)
    for row in book.rows:
        by_place[row.provider, row.prefix, row.mccmnc, row.category].append(row)
    found = [*_missing(book, providers), *_losses(book.rows)]
    for rows in by_place.values():
        ordered = sorted(rows, key=lambda row: row.valid_from)
        found += _repeated(ordered)
        found += _later(book, ordered[0], on)
    return sorted(found, key=lambda doubt: (doubt.line, doubt.what))


def _missing(book: PriceBook, providers: Iterable[str]) -> Iterator[PriceDoubt]:
    priced = {row.provider for row in book.rows if not row.mccmnc}
    for_all = {row.provider for row in book.rows if not row.prefix and not row.mccmnc}
    for name in providers:
        if name not in priced:
            yield PriceDoubt(0, "gap", name, f"{name} has no price: nothing can be sent with it.")
        elif name not in for_all:
            sentence = (
                f"{name} has no row with an empty prefix: messages to phones that no prefix fits, "
                "and those without a phone, cannot be sent with it."
            )
            yield PriceDoubt(0, "gap", name, sentence)


def _losses(rows: Sequence[PriceRow]) -> Iterator[PriceDoubt]:
    for row in rows:
        cost, sell = row.price.cost, row.price.sell
        if sell < cost:
            sentence = (
                f"{_place(row)} sells for {format_amount(sell)} what costs {format_amount(cost)}."
            )
            yield PriceDoubt(row.line, "loss", row.provider, sentence)


def _repeated(ordered: Sequence[PriceRow]) -> Iterator[PriceDoubt]:
    for earlier, later in pairwise(ordered):
        if earlier.price == later.price:
            sentence = (
                f"{_place(later)} repeats line {earlier.line} from {later.valid_from} on: one of "
                "the two says nothing."
            )
            yield PriceDoubt(later.line, "overlap", later.provider, sentence)


def _later(book: PriceBook, first: PriceRow, on: datetime.date) -> Iterator[PriceDoubt]:
    """Where nothing is said of a place until its first row begins."""
    if first.valid_from <= on:
        return
    if first.mccmnc:
        before = book.quote_network(first.provider, first.mccmnc, first.category or "otp", on)
    else:
        before = book.quote(first.provider, first.prefix, first.category or "otp", on)
    if before is None:
        sentence = f"{_place(first)} has no price before {first.valid_from}."
        yield PriceDoubt(first.line, "gap", first.provider, sentence)


def _place(row: PriceRow) -> str:
    where = f"network {row.mccmnc}" if row.mccmnc else f"prefix {row.prefix}" if row.prefix else ""
    return ", ".join(part for part in (row.provider, where or "every phone", row.category) if part)
