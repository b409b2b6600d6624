"""What its reader has to do about an error: change the request, reconfigure, or make room.

Each module derives its own errors from these bases and words the sentence. The boundaries map the
base, never the leaf: over HTTP 4xx, on the command line exit 2.
"""

from __future__ import annotations

import errno
import os

_ROOM = ": make room there, and run it again."
_TO_DO = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: ": raise the limit for files (`ulimit -f`), and run it again.",
    errno.EMFILE: ": raise the limit for open files (`ulimit -n`), and run it again.",
    errno.EROFS: ": name a place that can be written.",
    errno.EBADF: ": stdout is closed, so nothing can be printed.",
}


class CallerFault(Exception):
    """The request cannot be served as it is; the sentence says what its sender should change."""


class ConfigurationError(Exception):
    """Kaskad cannot run as it is configured; the sentence says what the operator should change."""


def system_sentence(fault: OSError, place: str = "") -> str:
    """What the system refused, where (else at that place), and what to do, so far as that is
    known."""
    number = fault.errno or 0
    reason = os.strerror(number) if number in _TO_DO else fault.strerror or str(fault)
    where = fault.filename if fault.filename is not None else place
    return f"{reason}{f' ({where})' if where else ''}{_TO_DO.get(number, '.')}"
