"""The durable book: a file that a killed simulator reads back, so that its bill stays whole.

One JSON line after another, appended and never changed, each on its way to the disk before what it
says is answered or reported: it survives the process, and the machine as far as the system has
written it. A last line that was cut short was never answered and is cut off. What a line means is
in `lines`. Raises BookFault when the file cannot be used, OSError when a line cannot be written.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from providers.simulator.lines import Line

BYTES_MAX: Final = 4 * 2**30  # beyond, no send is taken any more
READ_BYTES: Final = 2**20
LINE_BYTES_MAX: Final = 2**20  # the longest line there is holds one message
HEADER: Final = b'{"kaskad simulator book":2}\n'

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class BookFault(ValueError):
    """The file is no book, or another simulator's; the sentence says what to do."""


class BookFile:
    """An open book; one process at a time has it. `size` is in bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise BookFault(f"The book {path} cannot be opened ({fault.strerror}).") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.size = os.fstat(self._fd).st_size
            if self.size < len(HEADER) and HEADER.startswith(os.pread(self._fd, len(HEADER), 0)):
                self.clear()  # new, or killed while it was made
        except BlockingIOError:
            self.close()
            raise BookFault(f"Another simulator has the book {path}: name another file.") from None
        except OSError as fault:
            self.close()
            raise BookFault(f"The book {path} cannot be written ({fault.strerror}).") from None

    @property
    def full(self) -> bool:
        """Whether no further message may be accepted."""
        return self.size >= BYTES_MAX

    def lines(self) -> Iterator[Line]:
        """Every line from the first; cuts off a last one that is not whole. Raises BookFault."""
        number, position = 1, 0
        for raw in self._raw_lines():
            position += len(raw)
            if number == 1:
                if raw != HEADER:
                    raise BookFault(f"{self._path} is no book of this simulator: name another.")
            else:
                try:
                    yield _decode(raw)
                except msgspec.MsgspecError as fault:
                    raise self.fault(number, str(fault)) from None
            number += 1
        if position < self.size:
            os.ftruncate(self._fd, position)
            self.size = position

    def fault(self, number: int, reason: str) -> BookFault:
        """What is wrong with line `number`."""
        return BookFault(
            f"The book {self._path} is damaged in line {number}: {reason}. Restore it from a copy, "
            "or name another file."
        )

    def write(self, lines: Iterable[Line]) -> None:
        """Appends; returns when the system has them. Raises OSError: the book lacks a part then."""
        view = memoryview(b"".join(_encode(line) + b"\n" for line in lines))
        self._append(view)

    def clear(self) -> None:
        """Makes it an empty book."""
        os.ftruncate(self._fd, 0)
        self.size = 0
        self._append(memoryview(HEADER))

    def close(self) -> None:
        os.close(self._fd)

    def _append(self, view: memoryview) -> None:
        while view:
            written = os.write(self._fd, view)
            self.size += written
            view = view[written:]

    def _raw_lines(self) -> Iterator[bytes]:
        """Whole lines with their ends, without holding the file in memory."""
        position, rest = 0, b""
        while piece := os.pread(self._fd, READ_BYTES, position):
            position += len(piece)
            whole, end, rest = (rest + piece).rpartition(b"\n")
            yield from (whole + end).splitlines(keepends=True)
            if len(rest) > LINE_BYTES_MAX:
                raise BookFault(f"{self._path} is no book of this simulator: name another.")
