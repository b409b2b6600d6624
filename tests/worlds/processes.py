"""Whether a process that nobody of ours waits for has ended."""

from __future__ import annotations

import os
import select


def gone(pid: int, within_s: float = 0) -> bool:
    """Whether it has ended with its last thread, collected or not (nothing may adopt orphans)."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], within_s)[0])
    finally:
        os.close(process)
