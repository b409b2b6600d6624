"""How full the Redis servers are, as far as a request needs to know it: may this message come in?

One task a worker asks them about once a second; a message is judged by the server of its person's
home, where it would be written. While one is away or does not tell, the last state stands.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from gateway.core.fullness import RefusedTraffic, refused, takes
from gateway.core.records.request import MessageRequest
from gateway.redis.errors import RedisError
from gateway.redis.server import binary
from gateway.settings.file import Settings
from gateway.store.installation.servers import ServerState, server_states
from gateway.store.store import Store

SAMPLE_EVERY_S = 1.0
ALL_SHARDS_EVERY = 30  # samples; between them each server is asked once, by one of its shards

_GIB = 2**30
_log = structlog.get_logger("ingress")


class WatchedServer(msgspec.Struct, frozen=True):
    """A server, the first shard it serves, and the free bytes of its disk where it is ours."""

    shard: int
    state: ServerState
    disk_free: int | None

    @property
    def refuses(self) -> RefusedTraffic | None:
        return refused(self.state.used_bytes, self.state.limit_bytes)


class ServerWatch:
    """The servers as they were a second ago. `disk_free` is of the embedded one's directory."""

    def __init__(self, store: Store, disk_free: Callable[[], int | None]) -> None:
        self._store = store
        self._disk_free = disk_free
        self._samples = 0
        self._first_shards: list[int] = []  # one of each server
        self._server_of: dict[int, int] = {}  # shard: the first that the same server serves
        self._full: dict[int, WatchedServer] = {}  # those that refuse something, by first shard
        self.servers: list[WatchedServer] = []

    def full(self, request: MessageRequest) -> str | None:
        """A sentence saying why this message may not come in now; None when it may."""
        if not self._full:
            return None
        server = self._full.get(self._server_of.get(self._store.shard_of_home(request.home), -1))
        if server is None or takes(request.category, server.refuses):
            return None
        used, limit = server.state.used_bytes, server.state.limit_bytes
        return (
            f"The store uses {used * 100 // limit}% of its memory ({used / _GIB:.2f} of "
            f"{limit / _GIB:.2f} GiB) and takes no new "
            f"{'marketing' if server.refuses == 'marketing' else 'messages'}. Send it again later."
        )

    async def keep_sampling(self) -> None:
        """Samples until it is cancelled."""
        while True:
            try:
                await self.sample()
            except RedisError as error:
                _log.debug("servers_not_sampled", reason=str(error))
            await asyncio.sleep(SAMPLE_EVERY_S)

    async def sample(self) -> None:
        """Asks every server. Raises RedisError."""
        every = self._samples % ALL_SHARDS_EVERY == 0
        asked = range(self._store.shards) if every else self._first_shards
        states = await server_states(self._store.redis, asked)
        self._samples += 1
        if not every and any(states[s.shard].run_id != s.state.run_id for s in self.servers):
            self._samples = 0  # others serve now: all are asked again
        if every:
            first: dict[str, int] = {}
            for shard, state in states.items():
                self._server_of[shard] = first.setdefault(state.run_id, shard)
            self._first_shards = list(first.values())
        free = self._disk_free()
        self.servers = [WatchedServer(shard, states[shard], free) for shard in self._first_shards]
        self._full = {s.shard: s for s in self.servers if s.refuses is not None}


def disk_free_of(settings: Settings) -> Callable[[], int | None]:
    """The free bytes under an embedded Redis' files; None of any other: its disk is not ours."""
    folder: Path = settings.redis.data_dir.absolute()
    ours = settings.redis.url == f"unix://{binary.socket_path(folder)}"

    def free() -> int | None:
        try:
            return shutil.disk_usage(folder).free if ours else None
        except OSError:
            return None

    return free
