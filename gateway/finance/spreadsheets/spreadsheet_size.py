"""How much a spreadsheet takes, looked at before a library opens it whole.

python-calamine (0.9) keeps every string and a place for every cell from the first to the last: 31
bytes each, so that one stray cell in column CV of the last row took 3.2 GB out of a file of 5 KB,
and one in the last column ended the process (2026-11-30). Neither bound is met by what providers
send: a sheet has up to 2**20 rows, which of 64 columns are as many cells as are taken.
"""

from __future__ import annotations

import lzma
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

OPENED_MAX = 2**31  # bytes, of all its parts together
CELLS_MAX = 2**26
READ_BYTES = 2**20

# A cell that holds something; of its tag each byte is looked at once.
_cells = re.compile(
    rb"<(?:[\w.-]{1,64}:)?c\s(?>[^<>]*?\br=[\"']([A-Za-z]{1,7})([0-9]{1,20})[\"'])[^<>]*+(?<!/)>"
).findall


class Unfit(ValueError):
    """It is not opened; the sentence says why."""


def check_size(path: Path) -> None:
    """Raises Unfit for what is too large, or no zip that can be read."""
    try:
        with zipfile.ZipFile(path) as book:
            _check(_tags(book))
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError) as why:
        raise Unfit(str(why)) from None


def _check(pieces: Iterable[bytes]) -> None:
    columns = rows = 0
    for piece in pieces:
        if found := _cells(piece):
            columns = max(columns, *map(_column, {column for column, _ in found}))
            rows = max(rows, *(int(row) for _, row in found))
            if rows * columns > CELLS_MAX:
                raise Unfit(f"{rows} rows of {columns} columns are over {CELLS_MAX} cells")


def _tags(book: zipfile.ZipFile) -> Iterator[bytes]:
    """All that it opens to, in pieces that part no tag."""
    opened = 0
    for part in book.infolist():
        part.file_size = OPENED_MAX + 1  # what it says of itself need not be true
        rest = b""
        with book.open(part) as file:
            while data := file.read(READ_BYTES):
                opened += len(data)
                if opened > OPENED_MAX:
                    raise Unfit(f"it opens to over {OPENED_MAX} bytes")
                data = rest + data
                begun = data.rfind(b"<")
                rest = data[begun:] if len(data) - begun <= READ_BYTES else b""
                yield data[: len(data) - len(rest)]
        yield rest


def _column(name: bytes) -> int:
    """Its number: A is 1."""
    number = 0
    for letter in name.upper():
        number = number * 26 + letter - ord("A") + 1
    return number
