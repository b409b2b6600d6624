"""Makes the wall clock of one process wrong by the nanoseconds in the file CHAOS_CLOCK_FILE, as if
it were on a machine whose clock is, and lets it jump when the file changes. Behind them stand those
by which Redis' clock is ahead for who asks it for the time, so that hours can pass. Python imports
this by itself where the folder is on PYTHONPATH; the product has no such setting.
"""

import importlib
import mmap
import os
import struct
import time
from pathlib import Path

_TIME_NS = time.time_ns
redis_clock = importlib.import_module("gateway.store.redis_clock")  # of the process that this is
_TOLD_IN = redis_clock.told_in
_READ = struct.Struct("<qq").unpack_from

with Path(os.environ["CHAOS_CLOCK_FILE"]).open("rb") as _file:
    _OFFSETS = mmap.mmap(_file.fileno(), 16, access=mmap.ACCESS_READ)


def _time_ns() -> int:
    offset: int = _READ(_OFFSETS)[0]
    return _TIME_NS() + offset


def _time() -> float:
    return _time_ns() / 1e9


def _told_in(reply: object) -> float:
    passed: int = _READ(_OFFSETS)[1]
    told: float = _TOLD_IN(reply)
    return told + passed / 1e9


time.time_ns = _time_ns
time.time = _time
vars(redis_clock).update(told_in=_told_in)
