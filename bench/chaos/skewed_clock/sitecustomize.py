"""Makes the wall clock of one process wrong by the nanoseconds in the file CHAOS_CLOCK_FILE, as if
it were on a machine whose clock is, and lets it jump when the file changes. Python imports this by
itself where the folder is on PYTHONPATH; the product has no such setting.
"""

import mmap
import os
import struct
import time
from pathlib import Path

_TIME_NS = time.time_ns
_READ = struct.Struct("<q").unpack_from

with Path(os.environ["CHAOS_CLOCK_FILE"]).open("rb") as _file:
    _OFFSET = mmap.mmap(_file.fileno(), 8, access=mmap.ACCESS_READ)


def _time_ns() -> int:
    offset: int = _READ(_OFFSET)[0]
    return _TIME_NS() + offset


def _time() -> float:
    return _time_ns() / 1e9


time.time_ns = _time_ns
time.time = _time
