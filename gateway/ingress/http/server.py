"""The ingress role as processes: one worker here, or several below a process that watches them.

With several workers each has listening sockets of its own (SO_REUSEPORT, so the kernel spreads
connections evenly), which the watching process opened before and keeps open: while a worker is gone
its callers wait in the socket's queue, and its successor serves them. A second one is for operators
where `server.admin_port` says so.

SIGHUP: every worker reads the configuration again. SIGTERM or SIGINT: no new connections, event
streams and NDJSON streams end, requests finish, what was taken becomes durable; after
`server.stop_within` what is left is cut off. A worker that dies or hangs is started again, for
ever, with a growing, bounded delay. Workers end when the process that watches them does. An address
that cannot be bound is a ConfigurationError.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial

import structlog
import uvicorn
import uvloop
from msgspec.structs import replace

from gateway import hangup, memory, telemetry
from gateway.errors import ConfigurationError
from gateway.ingress.http.app import Ingress, open_ingress
from gateway.ingress.http.protocol import keep_looking, limited, limits_of
from gateway.ingress.http.workers import Workers
from gateway.redis.asyncio_driver import open_client
from gateway.redis.client import LIMITS_DEFAULT, RedisClient
from gateway.settings.bootstrap import load_prices, policy_of, retention_of
from gateway.settings.changes import Configuration
from gateway.settings.file import Settings
from gateway.store.redis_clock import RedisClock
from gateway.store.store import Store
from gateway.supervisor import BEAT_S
from gateway.traces import open_traces

LISTEN_BACKLOG = 2_048  # connections the kernel keeps until they are accepted
SESSIONS_A_SHARD = 4  # two of admission, two for receipts and cancels
SESSIONS_MAX = 128

_log = structlog.get_logger("ingress")


def run(
    settings: Settings,
    *,
    ready: Callable[[str, int], None] | None = None,
    beat: Callable[[], None] | None = None,
    read: Callable[[], Settings] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT. `ready(host, port)` is called once, when all workers serve,
    `beat` every BEAT_S while this process works. On SIGHUP `read` gives the settings as they are
    now; None: they never change.

    Raises ConfigurationError: no `redis.url` (an embedded Redis is started by the caller, who then
    gives its URL), an unusable price file, or an address that cannot be bound.
    """
    if not settings.redis.url:
        raise ConfigurationError(
            "redis.url is empty and this command starts no Redis: set redis.url or "
            "KASKAD_REDIS_URL, or use `kaskad up`."
        )
    prices = load_prices(settings)
    policy = policy_of(settings, prices)
    configuration = Configuration(settings, policy, read or (lambda: settings), prices)
    table = settings.server
    sockets = listen(table.host, table.port, table.workers)
    admin: list[socket.socket] = []
    if table.admin_port:
        admin = listen(table.host, table.admin_port, table.workers, "server.admin_port")
    host, port = sockets[0].getsockname()[:2]

    def up() -> None:
        if ready is not None:
            ready(host, port)

    server = telemetry.server_name(time.time_ns() // 1_000_000)
    # Of each address every worker has a socket of its own.
    of_worker = list(zip(sockets, admin, strict=True)) if admin else [(sock,) for sock in sockets]
    if len(sockets) == 1:
        told_up = False

        def work_on() -> None:
            nonlocal told_up
            if not told_up:
                told_up = True
                up()
            if beat is not None:
                beat()

        uvloop.run(serve(configuration, of_worker[0], server, work_on))
        return

    def worker(index: int, worker_beat: Callable[[], None]) -> None:
        _close(of_worker[:index])
        _close(of_worker[index + 1 :])
        uvloop.run(serve(configuration, of_worker[index], server, worker_beat))

    stop_within_s = table.stop_within_ms / 1000
    # The process that watches takes a change over too: what it forks later begins with it.
    watching = Workers(
        len(sockets),
        worker,
        stop_within_s,
        configuration.take_over,
        beat,
        # Else the kernel would go on taking connections that no worker comes to serve.
        partial(_close, of_worker),
    )
    watching.run(up)


def _close(of_workers: Sequence[Sequence[socket.socket]]) -> None:
    for sockets in of_workers:
        for sock in sockets:
            sock.close()


def listen(host: str, port: int, count: int, key: str = "server.port") -> list[socket.socket]:
    """`count` listening sockets on one address; port 0: the one that the first is given. `key` is
    the setting that says so.

    Raises ConfigurationError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets: list[socket.socket] = []
    for _ in range(count):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if count > 1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            sock.bind((host, port))
            sock.listen(LISTEN_BACKLOG)
        except (OSError, OverflowError) as error:
            for opened in sockets:
                opened.close()
            raise ConfigurationError(
                f"{host}:{port} cannot be listened on ({error}): correct server.host and "
                f"{key}, or stop what uses the port."
            ) from None
        sock.setblocking(False)
        port = sock.getsockname()[1]
    return sockets


async def serve(
    configuration: Configuration,
    sockets: Sequence[socket.socket],
    server: str,
    beat: Callable[[], None],
) -> None:
    """One worker of a server, on its port and its admin port, until SIGTERM or SIGINT, or until its
    parent is gone."""
    settings, policy = configuration.settings, configuration.policy
    shards = settings.redis.shards
    sessions = min(SESSIONS_A_SHARD * shards + SESSIONS_A_SHARD, SESSIONS_MAX)
    limits = replace(LIMITS_DEFAULT, sessions_max=max(sessions, LIMITS_DEFAULT.sessions_max))
    process = telemetry.process_name("ingress")
    async with open_client(settings.redis.url, limits) as redis, _clock_of(redis) as clock:
        store = Store(
            redis,
            policy,
            shards=shards,
            retention=retention_of(settings),
            log_messages=settings.log.messages,
        )
        with open_traces(settings.traces.endpoint, settings.traces.sample, "ingress") as traces:
            store.traces = traces
            async with open_ingress(
                settings, store, now_ms=clock.now_ms, process=process, server=server
            ) as app:
                memory.freeze()
                await _serve_http(app, configuration, sockets, beat)


@asynccontextmanager
async def _clock_of(redis: RedisClient) -> AsyncIterator[RedisClock]:
    """The time by Redis' clock, for as long as the block."""
    clock = RedisClock()
    await clock.try_to_look(redis)
    looking = asyncio.create_task(clock.keep_looking(redis, asyncio.sleep))
    try:
        yield clock
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def _serve_http(
    app: Ingress,
    configuration: Configuration,
    sockets: Sequence[socket.socket],
    beat: Callable[[], None],
) -> None:
    up = asyncio.Event()
    limits = configuration.settings.server
    server = _Server(
        uvicorn.Config(
            app,
            http=limited(limits_of(limits), app.waiting, app.ids),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=max(limits.stop_within_ms // 1000, 1),
        ),
        up.set,
    )

    def stop() -> None:
        server.should_exit = True
        app.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    hung_up = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    hangup.release()
    watchers = [
        asyncio.create_task(_keep_configured(app, configuration, hung_up)),
        asyncio.create_task(keep_looking(server.server_state)),
        asyncio.create_task(_keep_beating(up, beat, stop)),
    ]
    try:
        await server.serve(sockets=list(sockets))
    finally:
        hangup.hold()
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)


async def _keep_configured(
    app: Ingress, configuration: Configuration, hung_up: asyncio.Event
) -> None:
    """Takes changes over until it is cancelled."""
    while True:
        await hung_up.wait()
        hung_up.clear()
        if await asyncio.to_thread(configuration.take_over):
            app.take_over(configuration.settings, configuration.policy)
            _log.info("configuration_taken_over")


class _Server(uvicorn.Server):
    """Uvicorn's server; the signals are ours, and `up` is called once it serves."""

    def __init__(self, config: uvicorn.Config, up: Callable[[], None]) -> None:
        super().__init__(config)
        self._up = up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._up()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with nullcontext():
            yield


async def _keep_beating(
    up: asyncio.Event, beat: Callable[[], None], stop: Callable[[], None]
) -> None:
    """Says that this worker works once it is up, and again and again then."""
    await up.wait()
    try:
        while True:
            beat()
            await asyncio.sleep(BEAT_S)
    except BrokenPipeError:
        _log.warning("parent_gone", advice="the worker stops")
        stop()
