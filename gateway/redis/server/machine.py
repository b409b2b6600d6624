"""How much memory there is for a server that runs here: the machine's, or the container's where
that is less. What the system does not tell is left out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),  # version 2
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_bytes(limits: Iterable[Path] = CGROUP_LIMITS) -> int:
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in limits:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):
            continue  # there is none, or it says "max"
    return min(found)
