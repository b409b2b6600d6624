"""Makes the wall clock of one process wrong by CHAOS_CLOCK_OFFSET_MS, as if it were on a machine
whose clock is. Python imports this by itself where the folder is on PYTHONPATH; the product has no
such setting.
"""

import os
import time

_OFFSET_NS = int(os.environ.get("CHAOS_CLOCK_OFFSET_MS", "0")) * 1_000_000
_TIME_NS = time.time_ns


def _time_ns() -> int:
    return _TIME_NS() + _OFFSET_NS


def _time() -> float:
    return _time_ns() / 1e9


time.time_ns = _time_ns
time.time = _time
