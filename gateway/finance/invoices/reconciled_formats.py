"""A reconciled invoice as JSON, as CSV and as words. Every amount is a decimal string, none is
rounded. Items are written one by one: there may be millions.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

from gateway.core.money.money import format_amount
from gateway.core.money.reconciliation import (
    MINUTE_MS,
    PICOS,
    PICOS_A_MICRO,
    ClassSums,
    ReconciledLine,
)
from gateway.core.views.words import rfc3339
from gateway.finance.invoices.acceptance import InvoiceAcceptance
from gateway.finance.invoices.reconcile import Reconciled
from gateway.finance.reports.formats import harmless

COLUMNS: Final = (
    *("class", "line", "id", "message", "step", "to", "at"),
    *("our_parts", "their_parts", "our_network", "their_network", "ours", "theirs", "difference"),
)
AMOUNTS: Final = ("ours", "theirs", "difference")


def amount(picos: int) -> str:
    """In currency units: four decimals at least, and as many as it has."""
    if picos % PICOS_A_MICRO == 0:
        return format_amount(picos // PICOS_A_MICRO)
    whole, fraction = divmod(abs(picos), PICOS)
    return f"{'-' if picos < 0 else ''}{whole}.{f'{fraction:012d}'.rstrip('0')}"


def item_row(item: ReconciledLine) -> dict[str, Any]:
    """One line by COLUMNS; None where a side does not say."""
    ours, theirs = item.ours, item.theirs
    at_ms = ours.at_ms if ours is not None else None if theirs is None else theirs.at_ms
    return {
        "class": item.kind,
        "line": None if theirs is None else theirs.line,
        "id": (theirs.id if theirs is not None else None) or (ours.id if ours else None),
        "message": None if ours is None else ours.message,
        "step": None if ours is None else ours.step,
        "to": (ours.to if ours else None) or (theirs.to if theirs else None),
        "at": None if at_ms is None else rfc3339(at_ms),
        "our_parts": None if ours is None else ours.parts,
        "their_parts": None if theirs is None else theirs.parts,
        "our_network": None if ours is None else ours.network,
        "their_network": None if theirs is None else theirs.network,
        "ours": amount(item.our_amount),
        "theirs": amount(item.their_amount),
        "difference": amount(item.difference),
    }


def sums_row(sums: ClassSums) -> dict[str, Any]:
    """What lines come to."""
    return {
        "lines": sums.lines,
        "ours": amount(sums.ours),
        "theirs": amount(sums.theirs),
        "difference": amount(sums.difference),
    }


def to_json(
    result: Reconciled, items: Iterable[ReconciledLine], accepted: InvoiceAcceptance | None
) -> Iterator[bytes]:
    """As CONTRACT.md section 12 fixed it, in pieces; `accepted` where it was."""
    head = {
        "provider": result.question.provider,
        "from": result.days.first,
        "to": result.days.last,
        "currency": result.question.currency,
        "shift": shift_text(result.shift_ms),
        "classes": {kind: sums_row(sums) for kind, sums in result.classes.items()},
        "total": sums_row(result.total),
        "carried": sums_row(result.carried),
        "outside": result.outside,
    }
    if accepted is not None:
        head["accepted"] = {
            "lines": accepted.lines,
            "booked": format_amount(accepted.amount),
        }
    yield orjson.dumps(head)[:-1] + b',"items":['
    comma = b""
    for item in items:
        yield comma + orjson.dumps(item_row(item))
        comma = b","
    yield b"]}\n"


def to_csv(items: Iterable[ReconciledLine]) -> Iterator[bytes]:
    """The items under a header; a null is an empty cell."""
    yield _csv_line(COLUMNS)
    for item in items:
        yield _csv_line([harmless(cell) for cell in item_row(item).values()])


def _csv_line(cells: Iterable[object]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode()


def shift_text(shift_ms: int) -> str:
    """As +03:00."""
    hours, minutes = divmod(abs(shift_ms) // MINUTE_MS, 60)
    return f"{'-' if shift_ms < 0 else '+'}{hours:02d}:{minutes:02d}"


def notes(result: Reconciled, accepted: InvoiceAcceptance | None) -> list[str]:
    """What is to be said beside the classes, in sentences."""
    told = []
    if accepted is not None:
        told.append(
            f"Accepted: {accepted.lines} lines of ours were adjusted, our cost changed by "
            f"{format_amount(accepted.amount)} and is now what the invoice asks for."
        )
    if result.shift_ms:
        told.append(
            f"The invoice's clock is {shift_text(result.shift_ms)} from {result.question.zone}, by "
            "most of its lines: name its zone in the map."
        )
    if result.carried.lines:
        told.append(
            f"{result.carried.lines} lines of ours at the edges of these days "
            f"({amount(result.carried.ours)}) may stand on the invoice before or after."
        )
    if result.outside:
        told.append(f"{result.outside} lines of the invoice are not of these days.")
    return told


WORDS: Mapping[str, str] = {
    "duplicate_line": "On the invoice twice",
    "unknown_to_us": "Unknown to us",
    "missing_on_invoice": "Missing on the invoice",
    "not_delivered_billed": "Billed, not delivered",
    "network": "Another network",
    "parts": "Other parts",
    "price": "Another price",
    "rounding": "Rounding",
    "matched": "Matched",
}
