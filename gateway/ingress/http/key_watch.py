"""What stays open under a key ends once that key opens nothing any more.

A request is asked for its key once, and a stream lives for days: so each key under which one is
open is asked about again every LOOK_S. A key that was revoked, has expired, or lost the scope that
it was asked for, ends all that is open under it. While Redis is unavailable nothing is ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from gateway.ingress.http.auth import Authority, Principal
from gateway.redis.errors import RedisError
from gateway.store.installation.api_keys import Scope

LOOK_S = 1.0

EndStream = Callable[[], None]

_log = structlog.get_logger("ingress")


class KeyWatch:
    """One worker's; `keep_looking` must run beside it."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._open: dict[tuple[Principal, Scope], set[EndStream]] = {}

    @contextmanager
    def watching(self, principal: Principal, scope: Scope, end: EndStream) -> Iterator[None]:
        """Calls `end`, within the block, when the key may no longer do what `scope` says."""
        ends = self._open.setdefault((principal, scope), set())
        ends.add(end)
        try:
            yield
        finally:
            ends.discard(end)
            if not ends:
                self._open.pop((principal, scope), None)

    async def keep_looking(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Asks once about each key under which something is open."""
        for principal, scope in list(self._open):
            try:
                holds = await self._authority.holds(principal, scope)
            except RedisError:
                return
            ends = self._open.get((principal, scope), ())
            if not holds and ends:
                _log.info("key_ended", app=principal.app, scope=scope, streams=len(ends))
                for end in list(ends):
                    end()
