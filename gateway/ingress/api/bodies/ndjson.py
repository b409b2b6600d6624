"""A stream of bytes as lines, with a bound on the memory a line can take. Pure.

A line that is longer than the limit becomes `TooLong` as soon as that is known, and its bytes are
dropped as they come.
"""

from __future__ import annotations

from typing import Final


class TooLong:
    """Stands for a line that was not kept."""


TOO_LONG: Final = TooLong()
NdjsonLine = bytes | TooLong


class LineSplitter:
    """Feed it chunks, take lines; `pending` says that a line has begun and not ended."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._rest = b""
        self._skipping = False

    @property
    def pending(self) -> bool:
        return bool(self._rest) or self._skipping

    def feed(self, chunk: bytes) -> list[NdjsonLine]:
        """The lines that end in this chunk, and one that is now known to be too long."""
        parts = chunk.split(b"\n")
        if len(parts) == 1:
            return self._grow(chunk)
        lines: list[NdjsonLine] = []
        if self._skipping:
            self._skipping = False
        else:
            lines.append(self._checked(self._rest + parts[0]))
        lines.extend(self._checked(part) for part in parts[1:-1])
        self._rest = b""
        lines.extend(self._grow(parts[-1]))
        return lines

    def end(self) -> list[NdjsonLine]:
        """The last line, if the stream did not end with a newline."""
        rest, self._rest = self._rest, b""
        self._skipping = False
        return [rest] if rest else []

    def _grow(self, part: bytes) -> list[NdjsonLine]:
        if self._skipping:
            return []
        if len(self._rest) + len(part) <= self._bytes_max:
            self._rest += part
            return []
        self._rest = b""
        self._skipping = True
        return [TOO_LONG]

    def _checked(self, line: bytes) -> NdjsonLine:
        return line if len(line) <= self._bytes_max else TOO_LONG
