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
from gateway.store import reads, snapshots


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


class _Paused(msgspec.Struct, frozen=True):
    """As dispatch writes it; times in epoch milliseconds."""

    code: str
    detail: str
    since: int
    until: int


_decode = msgspec.json.Decoder(_Paused).decode


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
            others = await snapshots.gather(self._link, self._now_ms())
        except StoreError:
            others = []
        return Response(self._collect(others), headers={"content-type": telemetry.CONTENT_TYPE})

    async def _readiness(self) -> Readiness:
        try:
            names = await snapshots.processes(self._link, self._now_ms())
            paused = await reads.paused(self._link)
        except StoreError:
            return Readiness(ready=False, redis="away", dispatchers=None, paused=[])
        dispatchers = sum(telemetry.role_of(name) == "dispatch" for name in names)
        pauses = [_pause(name, value) for name, value in sorted(paused.items())]
        return Readiness(ready=True, redis="ok", dispatchers=dispatchers, paused=pauses)


def _pause(provider: str, value: bytes) -> Pause:
    try:
        read = _decode(value)
    except msgspec.DecodeError:
        # Another version wrote it. That the provider is paused is what counts.
        read = _Paused("unknown", "The reason cannot be read by this version.", 0, 0)
    return Pause(provider, read.code, read.detail, rfc3339(read.since), rfc3339(read.until))
