"""`/healthz`, `/readyz` and `/metrics`: how this installation is, for machines that watch it.

Owns what those three say. Alive means that the loop turns; ready, that Redis can be reached: no
request could be served without it. Paused providers and the count of dispatchers are told, but do
not make a worker unready, because it still accepts what can be sent later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway import telemetry
from gateway.ingress.api.results import Time
from gateway.ingress.http.asgi import rfc3339, to_json
from gateway.redis.client import Link
from gateway.redis.errors import StoreError
from gateway.store import pauses


class Health(msgspec.Struct, frozen=True):
    """This process answers."""

    status: Literal["ok"] = "ok"


class Pause(msgspec.Struct, frozen=True):
    """A provider that dispatch does not use for now: since when, and when it is tried again."""

    provider: str
    code: str
    detail: str
    since: Time
    until: Time


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests can be served, and what an operator should look at."""

    ready: bool
    redis: Literal["ok", "away"]
    dispatchers: int | None
    paused: list[Pause]


class StateEndpoints:
    """Answers for machines that watch."""

    def __init__(
        self,
        link: Link,
        collect: Callable[[list[bytes]], bytes],
        now_ms: Callable[[], int],
    ) -> None:
        self._link = link
        self._collect = collect
        self._now_ms = now_ms

    async def healthz(self, _request: Request) -> Response:
        return Response(to_json(Health()), media_type="application/json")

    async def readyz(self, _request: Request) -> Response:
        readiness = await self._readiness()
        status = 200 if readiness.ready else 503
        return Response(to_json(readiness), status, media_type="application/json")

    async def metrics(self, _request: Request) -> Response:
        try:
            snapshots = await telemetry.gather(self._link, self._now_ms())
        except StoreError:
            snapshots = []
        return Response(self._collect(snapshots), headers={"content-type": telemetry.CONTENT_TYPE})

    async def _readiness(self) -> Readiness:
        try:
            names = await telemetry.processes(self._link, self._now_ms())
            paused = await pauses.read(self._link)
        except StoreError:
            return Readiness(ready=False, redis="away", dispatchers=None, paused=[])
        dispatchers = sum(telemetry.role_of(name) == "dispatch" for name in names)
        shown = [
            Pause(name, pause.code, pause.detail, rfc3339(pause.since), rfc3339(pause.until))
            for name, pause in sorted(paused.items())
        ]
        return Readiness(ready=True, redis="ok", dispatchers=dispatchers, paused=shown)
