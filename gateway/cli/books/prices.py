"""`kaskad prices`: what is doubtful in the price list, and published lists turned into ours.

A list or a word that cannot be read is exit 2.
"""

from __future__ import annotations

import csv
import datetime
import io
import sys
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path

import msgspec

from gateway.cli.failures import DONE, FAILED, UsageFault
from gateway.cli.output import output
from gateway.cli.tables import print_json
from gateway.finance.prices.price_check import doubts
from gateway.finance.prices.published_prices import (
    PRICE_MAX,
    SHAPES,
    dearest,
    price_rows,
    read_published,
)
from gateway.settings.bootstrap import load_prices
from gateway.settings.file import Settings, load
from gateway.settings.price_file import COLUMNS, NETWORK


class ImportWish(msgspec.Struct, frozen=True):
    """The words of an import as they were written."""

    file: Path
    shape: str
    provider: str
    markup: str
    valid_from: str | None
    rate: str | None


def check(config: Path | None, environment: Mapping[str, str], *, as_json: bool) -> int:
    """Prints every doubt; 1 where there is one."""
    settings = load(config, environment, secrets_required=False)
    book = load_prices(settings)
    sending = [name for name, each in settings.providers.items() if not each.retired]
    found = doubts(book, sending, _today())
    if as_json:
        print_json({"file": str(settings.prices.file), "rows": len(book.rows), "doubts": found})
    else:
        lines = [
            f"{settings.prices.file}{f', line {d.line}' if d.line else ''}: {d.what}: {d.sentence}"
            for d in found
        ]
        end = f"{len(book.rows)} rows, {len(found)} doubts" if found else "nothing is doubtful"
        sys.stdout.write("\n".join([*lines, f"{settings.prices.file}: {end}."]) + "\n")
    return FAILED if found else DONE


def import_prices(
    config: Path | None, environment: Mapping[str, str], wish: ImportWish, out: Path | None
) -> int:
    """Writes a published list as a price file."""
    if wish.shape not in SHAPES:
        raise UsageFault(f"--from {wish.shape!r} is none: use {' or '.join(SHAPES)}.")
    settings = load(config, environment, secrets_required=False)
    _require_provider(settings, wish.provider)
    markup = _number("--markup", wish.markup)
    rate = None if wish.rate is None else _number("--rate", wish.rate)
    since = _today() if wish.valid_from is None else _day(wish.valid_from)
    try:
        text = wish.file.read_text("utf-8-sig")
    except OSError as error:
        raise UsageFault(f"{wish.file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageFault(f"{wish.file} is not UTF-8 text: save it as CSV in UTF-8.") from None
    prices, several = dearest(read_published(text, wish.shape))
    ours = settings.prices.currency
    rows = list(price_rows(prices, wish.provider, ours, markup, since, rate))
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\n").writerows([(*COLUMNS, NETWORK), *rows])
    with output(out, binary=False) as file:
        file.write(written.getvalue().encode())
    sys.stderr.writelines(f"{wish.file}: {sentence}.\n" for sentence in several)
    return DONE


def _require_provider(settings: Settings, name: str) -> None:
    if name not in settings.providers:
        known = ", ".join(sorted(settings.providers))
        raise UsageFault(f"No provider {name!r} is configured; there are: {known}.")


def _number(option: str, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not 0 <= number <= PRICE_MAX:
        raise UsageFault(f"{option} {text!r} is no number: write it as 20 or 0.93.")
    return number


def _day(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise UsageFault(f"{text!r} is no day: write it as in 2026-11-30.") from None


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
