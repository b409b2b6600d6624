"""What is printed is printed whole; what a terminal cannot show is shown in plainer characters, and
never ends a command, nor does a log that cannot be written.

A table has dashes and names of any script, and a terminal may be ASCII, Latin-1 or a code page.
JSON and CSV go around this, as bytes in UTF-8. Words of others, such as a provider's reason or the
cells of its invoice, may hold what a terminal obeys: that is no character at all.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from typing import Any, TextIO

_ERRORS = "kaskad-plainer"
_PLAINER = {"–": "-", "—": "-", "─": "-", "━": "=", "│": "|", "…": "...", "•": "*", "\u00a0": " "}
_controls = re.compile(r"[\x00-\x1f\x7f-\x9f]").sub


def one_line(text: str) -> str:
    """Words of others, of which a terminal obeys nothing."""
    return _controls("?", text)


class _Unfailing(io.FileIO):
    """What cannot be written is lost: there is no other place to say so."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or len(data)
        except OSError:
            return len(data)


def open_closed() -> None:
    """Gives a process that was started without them its three streams: nothing to read, a stdout
    that refuses, since what a command prints must not get lost, and a stderr that nobody reads.
    Otherwise the next file or connection would be in their place."""
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
            os.set_inheritable(number, True)
    if sys.stdout is None:
        sys.stdout = _text(io.FileIO(1, "w", closefd=False), "utf-8", "strict")
    if sys.stderr is None:
        sys.stderr = _text(io.FileIO(2, "w", closefd=False), "utf-8", "strict")


def unfailing(stderr: TextIO) -> TextIO:
    """A stderr that loses what it cannot write. It has the log too, and a dispatcher whose log's
    disk was full ended between a provider's answer and its record (2026-12-01)."""
    if not isinstance(stderr, io.TextIOWrapper):
        return stderr
    return _text(_Unfailing(stderr.fileno(), "w", closefd=False), stderr.encoding, stderr.errors)


def leave_stdout() -> None:
    """Nothing more can be printed: what is left goes nowhere, and fails no more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def mention(words: str) -> None:
    """Prints what nobody misses who cannot read it."""
    try:
        sys.stdout.write(words)
        sys.stdout.flush()
    except OSError:
        leave_stdout()


def whole(stream: TextIO) -> TextIO:
    """The stream, or one in its place that writes all or fails: where Python is told to buffer
    nothing (PYTHONUNBUFFERED, as in our image) it writes what there is room for, and of the rest
    nobody hears. Of 896,819 bytes a ledger export wrote 65,536 to a disk that was full then, and
    ended with 0 (2026-12-01)."""
    raw = getattr(stream, "buffer", None)
    if not isinstance(stream, io.TextIOWrapper) or not isinstance(raw, io.RawIOBase):
        return stream
    return _text(raw, stream.encoding, stream.errors)


def _text(raw: io.RawIOBase, encoding: str, errors: str | None) -> TextIO:
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=True)


def show_anyway(*streams: TextIO) -> None:
    """Makes the streams take any text."""
    codecs.register_error(_ERRORS, _plainer)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def _plainer(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError), "only what is written comes here"
    unknown = error.object[error.start : error.end]
    return "".join(_PLAINER.get(character, "?") for character in unknown), error.end
