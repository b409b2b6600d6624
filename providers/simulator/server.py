"""Starts and stops the simulator on a port: uvicorn with uvloop and httptools, in this process.

`child` starts the same in a process of its own. Raises OSError when the address cannot be bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from providers.simulator.app import TRANSPORT, Simulator
from providers.simulator.bookfile import BookFault, BookFile
from providers.simulator.knobs import Knobs, check
from providers.simulator.mail import certificate
from providers.simulator.mail.server import MailDoor
from providers.simulator.runtime import Runtime
from providers.simulator.smsc.door import SmscDoor

BACKLOG: Final = 2_048
STOP_S_MAX: Final = 1  # how long requests under way may take once it is told to stop
KEEP_ALIVE_S: Final = 75
# Full collections cost more than they find: book entries are not tracked, nothing is cyclic.
GC_THRESHOLD: Final = (50_000, 50, 100)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the simulator is started with; the knobs can be changed while it runs.

    `book` is the path of a durable book, empty for none: messages, bill and receipts due survive a
    kill of the process. Knobs and counts of requests do not; a report may then come twice.
    `smtp_port` is where mails are taken and `smpp_port` where SMPP is spoken; 0: nowhere.
    `smtp_tls` is the folder of a certificate: mails are then taken under TLS alone, by STARTTLS, or
    on `smtps_port` from the start. Empty: without TLS.
    """

    api_key: str = "simulator"
    knobs: Knobs = Knobs()
    book: str = ""
    smtp_port: int = 0
    smpp_port: int = 0
    smtps_port: int = 0
    smtp_tls: str = ""


class _Protocol(HttpToolsProtocol):
    """Hands the transport to the application, which cannot cut a connection otherwise."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[TRANSPORT] = self.transport  # type: ignore[typeddict-unknown-key]


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to `run`: as part of another program they are not ours."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()


async def serve(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ready: Callable[[int], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serves until `stop` is set (or the task is cancelled); calls `ready` with the bound port.

    Port 0 takes a free one. Raises OSError when the address cannot be bound, KnobFault for a bad
    knob, BookFault for a durable book that cannot be used, CertificateFault for a certificate.
    """
    check(settings.knobs)
    tls = certificate.of_folder(settings.smtp_tls, settings.smtps_port, host)
    listener = _listen(host, port)
    bound = listener.getsockname()[1]
    try:
        runtime = _runtime(settings)
    except BookFault:
        listener.close()
        raise
    app: Any = Simulator(runtime, settings.api_key)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S_MAX,
    )
    server = _Server(config, lambda: ready(bound) if ready is not None else None)
    watcher = asyncio.ensure_future(_stop_on(stop, server)) if stop is not None else None
    try:
        mails = MailDoor(runtime, settings.api_key, tls)
        smsc = SmscDoor(runtime, settings.api_key)
        async with (
            _opened(mails, host, settings.smtp_port),
            _opened(mails, host, settings.smtps_port, tls),
            _opened(smsc, host, settings.smpp_port),
        ):
            await server.serve(sockets=[listener])
    finally:
        if watcher is not None:
            watcher.cancel()
        await runtime.close()
        listener.close()


@contextlib.asynccontextmanager
async def _opened(
    door: MailDoor | SmscDoor, host: str, port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Lets clients in by this door for the length of the block; by none at port 0."""
    if not port:
        yield
        return
    server = await asyncio.start_server(door, host, port, backlog=BACKLOG, ssl=tls)
    try:
        yield
    finally:
        server.close()
        door.close()


def _runtime(settings: Settings) -> Runtime:
    """Raises BookFault."""
    if not settings.book:
        return Runtime(settings.knobs, api_key=settings.api_key)
    book = BookFile(Path(settings.book))
    try:
        runtime = Runtime(settings.knobs, book, settings.api_key)
    except BookFault:
        book.close()
        raise
    runtime.begin()
    return runtime


def run(
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 0,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serves in this thread on a uvloop of its own until SIGINT or SIGTERM."""
    gc.set_threshold(*GC_THRESHOLD)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signalled(settings, host, port, ready))


async def _until_signalled(
    settings: Settings, host: str, port: int, ready: Callable[[int], None] | None
) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    await serve(settings, host=host, port=port, ready=ready, stop=stop)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Sets `stop` on SIGINT and SIGTERM; in any thread but the main one signals cannot be had."""
    if threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)


async def _stop_on(stop: asyncio.Event, server: uvicorn.Server) -> None:
    await stop.wait()
    server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
