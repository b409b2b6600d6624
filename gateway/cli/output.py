"""What a command writes, and where: to a file that is whole or not there, or to stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gateway.cli.failures import UsageFault
from gateway.finance.extras import archive_library

_LIBRARIES = {"parquet": "pyarrow", "xlsx": "xlsxwriter"}


def check_form(form: str, forms: Sequence[str]) -> None:
    """Raises UsageFault for a format that is none of these, MissingExtra for want of its
    library."""
    if form not in forms:
        raise UsageFault(f"--format {form!r} is none: use {', '.join(forms)}.")
    if form in _LIBRARIES:
        archive_library(_LIBRARIES[form])


@contextmanager
def output(path: Path | None, *, binary: bool) -> Iterator[BinaryIO]:
    """What to write into. A file takes its name when all is written, over one that has it. What is
    no text goes to no terminal: UsageFault."""
    if path is None:
        if binary and sys.stdout.isatty():
            raise UsageFault("This is no text for a terminal: name a file with --out.")
        yield sys.stdout.buffer
        return
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
