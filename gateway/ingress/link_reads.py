"""Links as requests ask for them: who asks for one while it is being read shares its next read.

Nobody gets what a read found that began before he asked, so a change that was answered is seen by
whoever comes then. Of one link one read is under way at a time, in a storm on it as otherwise, and
a few of those who share it go on in one turn of the loop: each other request waits for no more than
these, at every step that it has to take.
"""

from __future__ import annotations

import asyncio

from gateway.store.reactions import links
from gateway.store.reactions.links import Link
from gateway.store.store import Store

ANSWERED_A_TURN = 8


class LinkReads:
    """One worker's."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked: dict[str, list[asyncio.Future[Link | Exception | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, code: str) -> Link | None:
        """The link of a code or slug; None where none is found. Raises as `links.find`."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Link | Exception | None] = loop.create_future()
        asked = self._asked.get(code)
        if asked is not None:
            asked.append(found)
        else:
            self._asked[code] = [found]
            task = loop.create_task(self._read(code))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        outcome = await found
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _read(self, code: str) -> None:
        """Reads the link as long as somebody asks for it."""
        store = self._store
        while asked := self._asked[code]:
            self._asked[code] = []
            outcome: Link | Exception | None
            try:
                outcome = await links.find(store.redis, store.links, store.shards, code)
            except Exception as error:
                outcome = error
            for begin in range(0, len(asked), ANSWERED_A_TURN):
                for found in asked[begin : begin + ANSWERED_A_TURN]:
                    if not found.done():  # its request may be over
                        found.set_result(outcome)
                await asyncio.sleep(0)
        del self._asked[code]
