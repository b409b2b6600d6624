"""The Redis client on asyncio and uvloop: sockets, timers and the reconnecting task.

What a client promises is in `client`, how it keeps that on any loop in `multiplexed` and `cluster`.

Writes of one loop iteration leave in one piece. There is one future a call, one timer a connection
and no task but the reconnector.

Measured 2026-11-21 on two busy cores, CPU of the client, uvloop, unix socket, 220-byte values:

    a call of 1 command, alone         10 to 39 µs (mostly waking up)   redis.asyncio 8.1: 52 to 65
    a call of 1 command, 32 callers    2.8 to 5.2 µs                                       34 to 37
    a command, in calls of 200         0.5 to 1.1 µs                                     9.6 to 9.8

Handing each call's bytes to uvloop at once instead of joining them here costs twice as much with 32
callers (5.5 against 2.8 µs) and saves 1 µs alone.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, cast

from gateway.redis.address import Endpoint, parse_address
from gateway.redis.client import LIMITS_DEFAULT, Limits, RedisClient
from gateway.redis.cluster import make_client
from gateway.redis.connection import Connection, Future

T = TypeVar("T")

CLOSE_WAIT_S = 1.0
COMMAND_LIMITS = Limits(down_wait_s=LIMITS_DEFAULT.connect_timeout_s)


def run(url: str, work: Callable[[RedisClient], Awaitable[T]]) -> T:
    """Does one piece of work with a client, on a loop of its own: for commands, which have none.

    Waits for Redis as long as a connection may take to be made. Raises as `open_client` and as the
    work; KeyboardInterrupt once the client is closed.
    """

    async def main() -> T:
        async with open_client(url, COMMAND_LIMITS) as client:
            return await work(client)

    return asyncio.run(main())


async def sleep(seconds: float) -> None:
    """Waits, in the work that `run` does."""
    await asyncio.sleep(seconds)


@asynccontextmanager
async def open_client(url: str, limits: Limits = LIMITS_DEFAULT) -> AsyncIterator[RedisClient]:
    """A client that lives as long as the block.

    It connects in the background and does not wait for Redis: a call does. Raises AddressError for
    a faulty URL; what the block raises passes unchanged.
    """
    address = parse_address(url)
    driver = _Driver(address.tls_context())
    fault: BaseException | None = None
    running: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as tasks:

        def start(run: Callable[[], Awaitable[None]]) -> None:
            task = tasks.create_task(_awaited(run), name="redis-client")
            running.add(task)
            task.add_done_callback(running.discard)

        client = make_client(address, limits, driver, start)
        try:
            yield client
        except BaseException as raised:
            # Kept out of the group, which would wrap it.
            fault = raised
        for task in running:
            task.cancel()
        await client.aclose()
    if fault is not None:
        raise fault


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()


class _Transport(asyncio.Protocol):
    """One socket: what uvloop calls on one side, what a connection calls on the other."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: Connection,
        opened: set[asyncio.Future[None]],
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._stream: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._open = opened
        self._closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream = cast("asyncio.Transport", transport)
        self._open.add(self._closed)

    def data_received(self, data: bytes) -> None:
        self._connection.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.drop(str(exc) if exc is not None else "the server closed it")
        self._open.discard(self._closed)
        if not self._closed.done():
            self._closed.set_result(None)

    def write(self, data: bytes) -> None:
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)

    def _flush(self) -> None:
        unsent = self._unsent
        if unsent and self._stream is not None:
            self._stream.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))
            unsent.clear()

    def watch(self, deadline: float) -> None:
        self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._connection.expire(self._loop.time())

    def close(self) -> int:
        unsent = len(self._unsent)
        self._unsent.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._stream is not None:
            self._stream.abort()
        return unsent


class _Semaphore:
    def __init__(self, count: int) -> None:
        self._semaphore = asyncio.Semaphore(count)

    async def acquire(self, seconds: float) -> None:
        if self._semaphore.locked():
            async with asyncio.timeout(seconds):
                await self._semaphore.acquire()
        else:
            await self._semaphore.acquire()

    def release(self) -> None:
        self._semaphore.release()


class _Driver:
    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._open: set[asyncio.Future[None]] = set()

    def now(self) -> float:
        return self._loop.time()

    def new_future(self) -> Future:
        return self._loop.create_future()

    def semaphore(self, count: int) -> _Semaphore:
        return _Semaphore(count)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, future: Future, seconds: float) -> bool:
        done, _ = await asyncio.wait([cast("asyncio.Future[object]", future)], timeout=seconds)
        return bool(done)

    async def within(self, seconds: float, step: Callable[[], Awaitable[T]]) -> T:
        async with asyncio.timeout(seconds):
            return await step()

    async def connect(self, endpoint: Endpoint, connection: Connection) -> None:
        transport = _Transport(self._loop, connection, self._open)
        connection.transport = transport
        if endpoint.path is not None:
            await self._loop.create_unix_connection(lambda: transport, endpoint.path)
            return
        stream, _ = await self._loop.create_connection(
            lambda: transport, endpoint.host, endpoint.port, ssl=self._tls
        )
        # Finds out in the end that an idle connection's peer is gone without a word.
        stream.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def wait_closed(self) -> None:
        if self._open:
            await asyncio.wait(set(self._open), timeout=CLOSE_WAIT_S)
