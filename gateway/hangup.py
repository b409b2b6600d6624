"""SIGHUP asks a role to read its configuration again.

By itself the signal ends a process, so it is held back from a role's first moment until somebody
listens; one that came meanwhile is heard then. Held in a thread, it is held in what is started from
there too.
"""

from __future__ import annotations

import signal


def hold() -> None:
    """SIGHUP waits."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def release() -> None:
    """Somebody listens now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
