"""What a long invoice takes: seconds, memory, and whether every planted fault is found.

    python -m tests.finance.invoices.long_invoice                  5 million lines, ten minutes
    python -m tests.finance.invoices.long_invoice --lines 20000    does it still run?
    python -m tests.finance.invoices.long_invoice --by-part        a line for each part of a message

A book of our lines is made by a seed, an invoice of it is written as CSV with faults of every kind
in it, and the two are reconciled in this process, as `kaskad reconcile` does once it has our lines.
One line a figure, Markdown; docs/invoices.md has them. A fault that is not found, or one too many,
ends with exit code 1.
"""

from __future__ import annotations

import argparse
import csv
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random

from gateway.core.money.reconciliation import PICOS, Ours
from gateway.core.views.words import rfc3339
from gateway.finance.invoices.invoices import Columns, InvoiceMap, read_invoice
from tests.worlds.planted import BY_PART, FROM_MS, QUESTION, Faults, Planter, book, reconcile

LINES = 5_000_000
FAULTS = 5_000  # planted, about
SEED = 7


def ours(lines: int) -> Iterator[Ours]:
    return book(Random(SEED), lines, FROM_MS)


def write_invoice(path: Path, lines: int, *, by_part: bool) -> Faults:
    """With a price a line; returns what was planted."""
    planter = Planter(Random(SEED + 1), FAULTS / lines, by_part=by_part)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Columns.__struct_fields__)
        for line in planter.lines(ours(lines)):
            price = Decimal(line.amount) / PICOS
            at = rfc3339(line.at_ms or 0)
            writer.writerow((line.id, line.to, at, line.parts, f"{price:f}", line.network, ""))
    return planter.faults


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lines", type=int, default=LINES, help="of ours")
    parser.add_argument("--by-part", action="store_true", help="a line is a part")
    asked = parser.parse_args(arguments)
    lines: int = asked.lines
    how = InvoiceMap(price_is="line", line_is="part" if asked.by_part else "message")
    question = BY_PART if asked.by_part else QUESTION
    with tempfile.TemporaryDirectory(prefix="kaskad-") as folder:
        path = Path(folder) / "invoice.csv"
        planted = write_invoice(path, lines, by_part=asked.by_part)
        begun = time.monotonic()
        theirs = read_invoice(path, how)
        result, found = reconcile(ours(lines), theirs, question=question)
        seconds = time.monotonic() - begun
        size = path.stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    _tell(f"- lines of the invoice: {result.total.lines:,}, {size / 1e6:,.0f} MB")
    _tell(f"- reconciled in {seconds:,.0f} s: {result.total.lines / seconds:,.0f} lines/s")
    _tell(f"- memory at most: {peak:,.0f} MiB")
    _tell(f"- faults planted: {planted.total():,}, found: {found.total():,}")
    if found != planted:
        _tell(f"not the same: {planted - found} missed, {found - planted} invented")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
