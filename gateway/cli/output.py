"""What a command writes, and where: to a file that is whole or not there, or to stdout."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

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


class _Named(io.FileIO):
    """A file that is named when it cannot be written."""

    def __init__(self, path: Path, name: Path) -> None:
        super().__init__(path, "w")
        self._name = name

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._name)) from None


@contextmanager
def output(path: Path | None, *, binary: bool) -> Iterator[BinaryIO]:
    """What to write into. A file takes its name when all is written, over one that has it; what is
    no file, such as a device, is written into. Raises UsageFault of one that cannot be there, and
    of what is no text where that is a terminal."""
    if path is None:
        if binary and sys.stdout.isatty():
            raise UsageFault("This is no text for a terminal: name a file with --out.")
        yield sys.stdout.buffer
        return
    try:
        place, unfinished = _places(path)
        file = io.BufferedWriter(_Named(unfinished, path))
    except OSError as error:
        raise UsageFault(
            f"--out {path} cannot be written ({error.strerror}): name a file in a folder that is "
            "there and that you may write to."
        ) from None
    try:
        with file:
            yield file
        if unfinished != place:
            unfinished.replace(place)
    except BaseException:
        if unfinished != place:
            unfinished.unlink(missing_ok=True)
        raise


def _places(path: Path) -> tuple[Path, Path]:
    """Where it is in the end, which is behind a link, and until it is whole: there too, where that
    is no file, or the one that is our stdout. Raises OSError."""
    if path.is_dir():
        raise UsageFault(f"--out {path} is a folder: name a file in it.")
    if path.exists() and (not path.is_file() or os.path.samestat(path.stat(), os.fstat(1))):
        return path, path
    place = Path(os.path.realpath(path))
    return place, place.with_name(f"{place.name}.unfinished")
