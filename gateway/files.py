"""Files that are whole or not there, also after a power cut."""

from __future__ import annotations

import glob
import os
import secrets
from pathlib import Path

UNFINISHED = ".unfinished"


def write_new(path: Path, octets: bytes) -> bool:
    """Writes a file where there is none of its name; False where there is one, which stays as it
    is. What a writer that died left behind is removed. Raises OSError."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{UNFINISHED}"):
        left.unlink(missing_ok=True)
    if path.exists():
        return False
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with unfinished.open("xb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        os.link(unfinished, path)  # a rename would put it in the place of another
    except FileExistsError:
        return False
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
