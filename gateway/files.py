"""Files that are whole or not there, also after a power cut; what is told where the system refuses
one."""

from __future__ import annotations

import errno
import glob
import os
import secrets
from pathlib import Path

UNFINISHED = ".unfinished"

_ROOM = ": make room there, and run it again."
_TO_DO = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: ": raise the limit for files (`ulimit -f`), and run it again.",
    errno.EMFILE: ": raise the limit for open files (`ulimit -n`), and run it again.",
    errno.EROFS: ": name a place that can be written.",
    errno.EBADF: ": stdout is closed, so nothing can be printed.",
}


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


def system_sentence(fault: OSError, place: str = "") -> str:
    """What the system refused, where (else at that place), and what to do, so far as that is
    known."""
    number = fault.errno or 0
    reason = os.strerror(number) if number in _TO_DO else fault.strerror or str(fault)
    where = fault.filename if fault.filename is not None else place
    return f"{reason}{f' ({where})' if where else ''}{_TO_DO.get(number, '.')}"
