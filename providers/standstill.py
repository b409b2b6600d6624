"""A process that stood still (stopped, without CPU) finds its waits over and what came meanwhile
unread. It is read before anybody judges that it did not come.

trio ends waits whose time is over before what came is read: of an answer by TLS, its first record
is (measured 2026-11-30).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

LATE_BY_S: Final = 0.5  # a wait that ends so much late: this process stood still
READ_ON_S: Final = 1.0  # for so long what came is read


def stood_still(until: float) -> bool:
    """Asked when a wait until that moment is over."""
    return trio.current_time() >= until + LATE_BY_S


async def read_on(read: Callable[[], Awaitable[None]], until: float) -> None:
    """Calls `read` until the moment at which the caller's scope cancels it, and where that comes
    late once more. It must go on where it was cancelled."""
    try:
        await read()
    except trio.Cancelled:
        if not stood_still(until):
            raise
        with trio.move_on_after(READ_ON_S, shield=True):
            await read()
            return
        raise
