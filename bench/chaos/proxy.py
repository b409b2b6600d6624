"""TCP proxies in a process of their own: between every role and Redis, dispatchers and providers,
and the provider and ingress.

Started with one line of JSON on stdin, name -> list of targets ("host:port" or "unix:/path"; each
new connection takes the next). Answers with one line, name -> port. From then on each line on stdin
sets the mode of the proxies whose name begins with `name`:

    pass      bytes go through
    cut       connections are closed at once, new ones are closed too
    hang      bytes stop, and go on when the mode changes
    delay     each piece of bytes waits `ms`
    truncate  a fifth of the pieces are cut in half and the connection is closed, either way
    kill      process `pid` is killed when bytes that hold `mark` have been passed on, the `times`th
              time: those that it sent, or with `down` those that it was sent; from then on nothing
              is passed on

It ends when stdin closes. Bytes pass unread.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import sys
from typing import Any

PIECE_BYTES = 65_536
TRUNCATED_SHARE = 0.2


class Proxy:
    """One listening port and its connections."""

    def __init__(self, targets: list[str], seed: str) -> None:
        self._targets = itertools.cycle(targets)
        self._random = random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()
        self.mode: dict[str, Any] = {"mode": "pass"}
        self._marks = 0  # met so far

    async def listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def turn(self, mode: dict[str, Any]) -> None:
        self.mode = mode
        self._marks = 0
        self._changed.set()
        self._changed = asyncio.Event()
        if mode["mode"] == "cut":
            for writer in list(self._writers):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode["mode"] == "cut":
            writer.transport.abort()
            return
        target = next(self._targets)
        try:
            if target.startswith("unix:"):
                there = await asyncio.open_unix_connection(target[5:])
            else:
                host, _, port = target.rpartition(":")
                there = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        both = {writer, there[1]}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, there[1], both, up=True))
                group.create_task(self._pump(there[0], writer, both, up=False))
        finally:
            self._writers -= both
            for each in both:
                each.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        both: set[asyncio.StreamWriter],
        *,
        up: bool,
    ) -> None:
        try:
            while piece := await reader.read(PIECE_BYTES):
                while self.mode["mode"] == "hang":
                    await self._changed.wait()
                mode = self.mode
                if mode["mode"] == "delay":
                    await asyncio.sleep(mode["ms"] / 1000)
                elif mode["mode"] == "truncate" and self._random.random() < TRUNCATED_SHARE:
                    writer.write(piece[: len(piece) // 2])
                    await writer.drain()
                    break
                elif mode["mode"] == "kill" and self._marks >= mode["times"]:
                    break  # whoever it was for is dead
                writer.write(piece)
                if mode["mode"] == "kill" and up != mode["down"] and _mark(mode) in piece:
                    self._marks += 1
                    if self._marks == mode["times"]:
                        os.kill(mode["pid"], signal.SIGKILL)
                await writer.drain()
            if reader.at_eof() and not writer.transport.is_closing():
                writer.write_eof()
                return
        except OSError:
            pass  # one side is gone, so the other goes too
        for each in both:
            each.transport.abort()


def _mark(mode: dict[str, Any]) -> bytes:
    mark: str = mode["mark"]
    return mark.encode("latin-1")


async def main() -> None:
    loop = asyncio.get_running_loop()
    stdin = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    wanted = json.loads(await stdin.readline())
    proxies = {name: Proxy(targets, name) for name, targets in wanted.items()}
    ports = {name: await proxy.listen() for name, proxy in proxies.items()}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    while line := await stdin.readline():
        said = json.loads(line)
        for name, proxy in proxies.items():
            if name.startswith(said["name"]):
                proxy.turn(said)
    os._exit(0)  # nobody is left who could want a clean end of every connection


if __name__ == "__main__":
    asyncio.run(main())
