"""Many small POSTs on kept connections, closed or open model.

Answers must carry Content-Length; anything else, and every lost connection, is a LoadFailed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from bench.load_spec import LoadFailed, Spec, Tally

TICK_S = 0.001  # the open model's arrivals are dealt out this often; they count from when due
ANSWER_BYTES_MAX = 1_048_576


class Connection(asyncio.Protocol):
    """One kept connection with at most one request under way."""

    def __init__(self, posts: Posts) -> None:
        self._posts = posts
        self._rest = b""
        self.due_s = 0.0
        self.transport: Any = None  # uvloop's are no asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._keep(data)
            return
        head = data[:end].lower() + b"\r\n"
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            self._posts.fail("An answer has no Content-Length.")
            return
        stop = end + 4 + int(head[at + 17 : head.find(b"\r\n", at + 2)])
        if len(data) < stop:
            self._keep(data)
            return
        self._rest = b""
        self._posts.answered(self, head[9:12], data[end + 4 : stop])

    def connection_lost(self, fault: Exception | None) -> None:
        self._posts.lost(fault)

    def _keep(self, data: bytes) -> None:
        if len(data) > ANSWER_BYTES_MAX:
            self._posts.fail(f"An answer is longer than {ANSWER_BYTES_MAX} bytes.")
        self._rest = data


class Posts:
    """`count` requests, request n being `request(n)`, over `spec.connections` connections."""

    def __init__(
        self, spec: Spec, request: Callable[[int], bytes], count: int, tally: Tally
    ) -> None:
        self._spec = spec
        self._request = request
        self._count = count
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._connections: list[Connection] = []
        self._idle: list[Connection] = []
        self._waiting: deque[float] = deque()
        self._posted = self._done = 0
        self._per_request = spec.per_request if spec.mode == "receipts" else 1

    async def connect(self) -> None:
        for _ in range(self._spec.connections):
            _, connection = await self._loop.create_connection(
                lambda: Connection(self), "127.0.0.1", self._spec.port
            )
            self._connections.append(connection)

    async def run(self) -> None:
        """Returns when all are answered. Raises LoadFailed."""
        try:
            if self._count and self._spec.rate:
                arrivals = asyncio.ensure_future(self._arrive())
                self._idle = list(self._connections)
                try:
                    await self._finished
                finally:
                    arrivals.cancel()
            elif self._count:
                for connection in self._connections:
                    self._post(connection, time.perf_counter())
                await self._finished
        finally:
            self._hang_up()

    def answered(self, connection: Connection, status: bytes, body: bytes) -> None:
        now_s = time.perf_counter()
        done = self._done
        messages = min(self._per_request, self._spec.messages - self._tally.answered)
        self._tally.count(status.decode(), now_s - connection.due_s, body, messages)
        self._done = done + 1
        if self._done == self._count and not self._finished.done():
            self._finished.set_result(None)
        elif not self._spec.rate:
            self._post(connection, now_s)
        elif self._waiting:
            self._post(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def fail(self, sentence: str) -> None:
        if not self._finished.done():
            self._finished.set_exception(LoadFailed(sentence))

    def lost(self, fault: Exception | None) -> None:
        self.fail(f"The server closed a connection ({fault or 'end of stream'}).")

    def _post(self, connection: Connection, due_s: float) -> None:
        if self._posted == self._count:
            return
        connection.due_s = due_s
        connection.transport.write(self._request(self._posted))
        self._posted += 1

    async def _arrive(self) -> None:
        """Deals out arrivals at a constant rate, whether the earlier ones are answered or not."""
        began_s, arrived = time.perf_counter(), 0
        while arrived < self._count:
            due = min(self._count, int((time.perf_counter() - began_s) * self._spec.rate) + 1)
            for number in range(arrived, due):
                due_s = began_s + number / self._spec.rate
                if self._idle:
                    self._post(self._idle.pop(), due_s)
                else:
                    self._waiting.append(due_s)
            arrived = due
            await asyncio.sleep(TICK_S)

    def _hang_up(self) -> None:
        if not self._finished.done():
            self._finished.cancel()
        for connection in self._connections:
            connection.transport.close()
