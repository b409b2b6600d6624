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
    """What to write into. A file takes its name when all is written, over one that has it. Raises
    UsageFault of one that cannot be there, and of what is no text where that is a terminal."""
    if path is None:
        if binary and sys.stdout.isatty():
            raise UsageFault("This is no text for a terminal: name a file with --out.")
        yield sys.stdout.buffer
        return
    if path.is_dir():
        raise UsageFault(f"--out {path} is a folder: name a file in it.")
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        file = unfinished.open("wb")
    except OSError as error:
        raise UsageFault(
            f"--out {path} cannot be written ({error.strerror}): name a file in a folder that is "
            "there and that you may write to."
        ) from None
    try:
        with file:
            yield file
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
