"""What commands print: JSON for programs, and lists as plain lines under a header, whole, so that
what they name can be copied."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import msgspec

from gateway.cli.terminal import one_line
from gateway.core.views.words import rfc3339

_GAP = "  "


def moment(at_ms: int | None) -> str | None:
    """Epoch milliseconds as the API writes them; 0 and None are no moment."""
    return rfc3339(at_ms) if at_ms else None


def print_json(shape: object) -> None:
    """One line that a program reads."""
    sys.stdout.buffer.write(msgspec.json.encode(shape) + b"\n")


def print_list(
    key: str,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, object]],
    nothing: str,
    *,
    as_json: bool,
) -> None:
    """A list as JSON under `key`, or as a table."""
    if as_json:
        print_json({key: rows})
    else:
        print_table(columns, rows, nothing)


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, object]], nothing: str) -> None:
    """A line a row, each column as wide as its widest cell; `nothing` where there is no row."""
    if not rows:
        sys.stdout.write(f"{nothing}\n")
        return
    header = [name.removesuffix("_at").replace("_", " ").upper() for name in columns]
    lines = [header, *([_cell(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(_GAP.join(padded).rstrip() + "\n")


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return one_line(",".join(map(str, value)))
    return "-" if value in (None, "") else one_line(str(value))
