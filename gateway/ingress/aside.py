"""Where a worker computes what takes long, such as a report of many rows: one thread beside the
loop, so that the loop goes on taking messages. What is asked meanwhile takes turns, step by
step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class OneThread:
    """A `gateway.store.money.totals.Aside` for asyncio."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "aside")

    async def __call__(self, compute: Callable[[], T], /) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, compute)

    def close(self) -> None:
        """What was not begun is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)
