"""Lines of any number, put down in a temporary file and read back sorted: memory stays the same.

SQLite sorts them outside of memory. The file goes with the object. A disk that is full raises
`sqlite3.OperationalError`.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from enum import IntEnum, auto
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

ROWS_A_WRITE = 10_000
CACHE_KIB = 65_536

T = TypeVar("T", bound=msgspec.Struct)


class Shelf(IntEnum):
    """Where lines lie together."""

    OURS = auto()
    THEIRS = auto()
    OUR_REST = auto()
    THEIR_REST = auto()
    OUR_LAST = auto()
    THEIR_LAST = auto()
    THEIR_ROUNDED = auto()
    OUR_WHOLE = auto()
    THEIR_PARTS = auto()
    NEAR_OTHERS = auto()
    ITEMS = auto()


class SortedLines(AbstractContextManager["SortedLines"]):
    """Lines on shelves."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="kaskad-")
        self._file = sqlite3.connect(Path(self._folder.name) / "lines", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
            self._file.execute(f"PRAGMA {pragma}")
        self._file.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._file.execute("CREATE TABLE lines (shelf INT, first TEXT, then_ INT, line BLOB)")
        self._encode = msgspec.msgpack.Encoder().encode
        self._waiting: list[tuple[int, str, int, bytes]] = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._folder.cleanup()

    def put(self, shelf: Shelf, first: str, then: int, line: msgspec.Struct) -> None:
        """Adds a line, which is sorted by `first` and then by `then`."""
        self._waiting.append((int(shelf), first, then, self._encode(line)))
        if len(self._waiting) == ROWS_A_WRITE:
            self._write()

    def _write(self) -> None:
        self._file.execute("BEGIN")
        self._file.executemany("INSERT INTO lines VALUES (?, ?, ?, ?)", self._waiting)
        self._file.execute("COMMIT")
        self._waiting.clear()

    def read(self, shelf: Shelf, kind: type[T]) -> Iterator[T]:
        """The lines of a shelf, sorted; what is put down meanwhile is not among them."""
        self._write()
        decode = msgspec.msgpack.Decoder(kind).decode
        asked = "SELECT line FROM lines WHERE shelf = ? ORDER BY first, then_, rowid"
        for (line,) in self._file.execute(asked, (int(shelf),)):
            yield decode(line)
