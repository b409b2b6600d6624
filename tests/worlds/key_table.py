"""The tables of keys of `gateway.store`, as what a Redis holds can be held against them."""

from __future__ import annotations

import re

import msgspec

from gateway.store import keys, shared_keys

COLUMNS = re.compile(r"\s{2,}")
NAMES = re.compile(r"<[^>]+>")
# How the column "lives until" begins where Redis itself ends the key.
LAPSES = re.compile(r"[0-9]|the lease|a few seconds|nothing held|the same|the claim|its end")
ONCE_CLOSED = "retention, once it is closed"


class Row(msgspec.Struct, frozen=True):
    name: str
    kind: str
    until: str

    @property
    def pattern(self) -> re.Pattern[str]:
        text = ".+".join(re.escape(part) for part in NAMES.split(self.name))
        return re.compile(text.replace(re.escape("{kN}"), r"\{k[0-9]+\}"), re.DOTALL)

    def lapses(self) -> bool:
        return LAPSES.match(self.until) is not None


def rows() -> list[Row]:
    pages = (keys.__doc__ or "") + (shared_keys.__doc__ or "")
    lines = [line.strip() for line in pages.splitlines()]
    cells = [COLUMNS.split(line) for line in lines if line.startswith("{")]
    return [Row(*row[:3]) for row in cells]


TABLE = rows()
PATTERNS = [(row, row.pattern) for row in TABLE]


def row_of(key: str) -> Row | None:
    """The row of a key; None where it is in none, or in several."""
    found = [row for row, pattern in PATTERNS if pattern.fullmatch(key)]
    return found[0] if len(found) == 1 else None


def fault_of(key: str, kind: str, *, lapses: bool) -> str | None:
    """What is wrong with a key: it is in no row, of another type, or has no end where it must have
    one. A message's record lapses once it is closed, which the caller sees to."""
    row = row_of(key)
    if row is None:
        return f"{key} is not in exactly one row"
    if row.kind != kind:
        return f"{key} is a {kind}, and the table says {row.kind}"
    if row.until != ONCE_CLOSED and row.lapses() != lapses:
        return f"{key} {'lapses' if lapses else 'never lapses'}, and the table says {row.until!r}"
    return None
