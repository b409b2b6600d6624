"""`/healthz`, `/readyz` and `/metrics`: how this installation is, for machines that watch it.

Alive means that the loop turns; ready, that Redis can be reached: no request could be served
without it. Paused providers, full Redis servers and the count of dispatchers are told, but do not
make a worker unready, because it still accepts what can be sent later. None of the three fails with
Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from gateway import telemetry
from gateway.core.fullness import RefusedTraffic
from gateway.core.views.words import Time, rfc3339
from gateway.ingress.http.asgi import to_json
from gateway.ingress.http.problems import AGAIN_SOON
from gateway.ingress.http.request import Request
from gateway.ingress.intake.server_watch import ServerWatch, WatchedServer
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisError
from gateway.store.installation import snapshots
from gateway.store.providers import pauses
from gateway.store.providers.pauses import Pause
from gateway.version import VERSION


class Health(msgspec.Struct, frozen=True):
    """This process answers."""

    status: Literal["ok"] = "ok"
    version: str = VERSION


class PauseView(msgspec.Struct, frozen=True):
    """A provider that dispatch does not use for now: since when, and when it is tried again.

    `kind` is `account` (the provider refuses our account), `rejections` (nearly all messages are
    rejected for one reason), `outage` (it cannot be reached, fails, or its answers are lost) or
    `operator`: `by` whom, with the reason in `detail`, and it ends when somebody says so."""

    provider: str
    kind: str
    code: str
    detail: str
    since: Time
    until: Time | None
    by: str | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def of(cls, provider: str, pause: Pause) -> PauseView:
        return cls(
            provider,
            pause.kind,
            pause.code,
            pause.detail,
            rfc3339(pause.since),
            None if pause.ends_ms is None else rfc3339(pause.ends_ms),
            pause.by or msgspec.UNSET,
        )


class RedisServer(msgspec.Struct, frozen=True):
    """A Redis server, named by the first shard it serves. Null: it has no limit, or its disk is not
    this machine's. `refuses` says what is not taken for want of memory."""

    shard: int
    used_bytes: int
    limit_bytes: int | None
    used_percent: int | None
    fragmentation: float
    aof_bytes: int
    disk_free_bytes: int | None
    refuses: RefusedTraffic | None


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests can be served, and what an operator should look at."""

    ready: bool
    redis: Literal["ok", "away"]
    dispatchers: int | None
    paused: list[PauseView]
    redis_servers: list[RedisServer] = []


_METRICS_TYPE = (b"content-type", telemetry.CONTENT_TYPE.encode())


class HealthEndpoints:
    """Answers for machines that watch. `render` makes one text of the
    metrics that processes left; None: Redis is away."""

    def __init__(
        self,
        redis: RedisClient,
        former: Mapping[str, str],
        servers: ServerWatch,
        render: Callable[[list[bytes] | None], bytes],
        now_ms: Callable[[], int],
    ) -> None:
        self._redis = redis
        self._former = former
        self._servers = servers
        self._render = render
        self._now_ms = now_ms

    async def health(self, request: Request) -> None:
        await request.respond(200, to_json(Health()))

    async def readiness(self, request: Request) -> None:
        readiness = await self._readiness()
        if readiness.ready:
            await request.respond(200, to_json(readiness))
        else:
            await request.respond(503, to_json(readiness), (AGAIN_SOON,))

    async def metrics(self, request: Request) -> None:
        try:
            others: list[bytes] | None = await snapshots.gather(self._redis, self._now_ms())
        except RedisError:
            others = None
        await request.respond(200, self._render(others), content_type=_METRICS_TYPE)

    async def _readiness(self) -> Readiness:
        try:
            names = await snapshots.processes(self._redis, self._now_ms())
            paused = await pauses.read(self._redis, self._former)
        except RedisError:
            return Readiness(ready=False, redis="away", dispatchers=None, paused=[])
        dispatchers = sum(telemetry.role_of(name) == "dispatch" for name in names)
        shown = [PauseView.of(name, pause) for name, pause in sorted(paused.items())]
        servers = [server_shown(server) for server in self._servers.servers]
        return Readiness(True, "ok", dispatchers, shown, servers)


def server_shown(server: WatchedServer) -> RedisServer:
    state = server.state
    return RedisServer(
        shard=server.shard,
        used_bytes=state.used_bytes,
        limit_bytes=state.limit_bytes or None,
        used_percent=state.used_bytes * 100 // state.limit_bytes if state.limit_bytes else None,
        fragmentation=state.fragmentation,
        aof_bytes=state.aof_bytes,
        disk_free_bytes=server.disk_free,
        refuses=server.refuses,
    )
