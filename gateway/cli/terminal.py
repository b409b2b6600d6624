"""What a terminal cannot show is shown in plainer characters, and never ends a command.

A table has dashes and names of any script, and a terminal may be ASCII, Latin-1 or a code page.
JSON and CSV go around this, as bytes in UTF-8.
"""

from __future__ import annotations

import codecs
import io
from typing import TextIO

_ERRORS = "kaskad-plainer"
_PLAINER = {"–": "-", "—": "-", "─": "-", "━": "=", "│": "|", "…": "...", "•": "*", "\u00a0": " "}


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
