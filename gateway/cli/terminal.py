"""What is printed is printed whole; what a terminal cannot show is shown in plainer characters, and
never ends a command.

A table has dashes and names of any script, and a terminal may be ASCII, Latin-1 or a code page.
JSON and CSV go around this, as bytes in UTF-8. Words of others, such as a provider's reason or the
cells of its invoice, may hold what a terminal obeys: that is no character at all.
"""

from __future__ import annotations

import codecs
import io
import re
from typing import TextIO

_ERRORS = "kaskad-plainer"
_PLAINER = {"–": "-", "—": "-", "─": "-", "━": "=", "│": "|", "…": "...", "•": "*", "\u00a0": " "}
_controls = re.compile(r"[\x00-\x1f\x7f-\x9f]").sub


def one_line(text: str) -> str:
    """Words of others, of which a terminal obeys nothing."""
    return _controls("?", text)


def whole(stream: TextIO) -> TextIO:
    """The stream, or one in its place that writes all or fails: where Python is told to buffer
    nothing (PYTHONUNBUFFERED, as in our image) it writes what there is room for, and of the rest
    nobody hears. Of 896,819 bytes a ledger export wrote 65,536 to a disk that was full then, and
    ended with 0 (2026-12-01)."""
    raw = getattr(stream, "buffer", None)
    if not isinstance(stream, io.TextIOWrapper) or not isinstance(raw, io.RawIOBase):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=True,
    )


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
