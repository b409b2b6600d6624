"""NDJSON streams: lines out in large writes, answer lines in, each timed from its write.

A line is written as soon as fewer than `window` lines of its connection are unanswered and the
socket takes it. A stream that ends early or answers another status is a LoadFailed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from typing import Any

import httptools

from bench.load_bodies import Messages
from bench.load_spec import LoadFailed, Spec, Tally

_OUTCOMES = ("accepted", "duplicate", "suppressed", "rejected", "error")
_MARKS = [(f'"outcome":"{outcome}"'.encode(), outcome) for outcome in _OUTCOMES]


class Streams:
    """Splits the messages over `spec.connections` streams."""

    def __init__(self, spec: Spec, messages: Messages, tally: Tally) -> None:
        self.spec = spec
        self.messages = messages
        self.tally = tally
        self.loop = asyncio.get_running_loop()
        self._streams: list[Stream] = []

    async def connect(self) -> None:
        count, total = self.spec.connections, self.spec.messages
        for number in range(count):
            begin, end = total * number // count, total * (number + 1) // count
            stream = Stream(self, begin, end)
            await self.loop.create_connection(partial(_same, stream), "127.0.0.1", self.spec.port)
            self._streams.append(stream)

    def fail(self, sentence: str) -> None:
        self._streams[0].fail(sentence)

    async def run(self) -> None:
        """Returns when all lines are answered. Raises LoadFailed."""
        for stream in self._streams:
            stream.begin()
        try:
            await asyncio.gather(*(stream.finished for stream in self._streams))
        finally:
            for stream in self._streams:
                stream.close()


def _same(stream: Stream) -> Stream:
    return stream


class Stream(asyncio.Protocol):
    """One request whose body goes on while its answer comes back."""

    def __init__(self, owner: Streams, begin: int, end: int) -> None:
        self.finished: asyncio.Future[None] = owner.loop.create_future()
        self._owner = owner
        self._next, self._end = begin, end
        self._written: deque[tuple[int, float]] = deque()  # lines of a write, and when
        self._unanswered = 0
        self._paused = False
        self._rest = b""
        self._transport: Any = None
        self._parser = httptools.HttpResponseParser(self)

    def begin(self) -> None:
        self._transport.write(self._owner.messages.stream_head)
        self._pump()

    def close(self) -> None:
        if not self.finished.done():
            self.finished.cancel()
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as fault:
            self.fail(f"An answer cannot be read: {fault}.")

    def connection_lost(self, fault: Exception | None) -> None:
        self.fail(f"The server closed a stream ({fault or 'end of stream'}).")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self.fail(f"A stream was answered with {status}.")

    def on_body(self, body: bytes) -> None:
        lines = (self._rest + body).split(b"\n")
        self._rest = lines.pop()
        now_s, tally = time.perf_counter(), self._owner.tally
        for line in lines:
            count, written_s = self._written[0]
            outcome = next((name for mark, name in _MARKS if mark in line), "unknown")
            tally.count(outcome, now_s - written_s, line)
            if count == 1:
                self._written.popleft()
            else:
                self._written[0] = (count - 1, written_s)
        self._unanswered -= len(lines)
        self._pump()

    def on_message_complete(self) -> None:
        if self._unanswered or self._next < self._end:
            self.fail(f"A stream ended with {self._unanswered} lines unanswered.")
        elif not self.finished.done():
            self.finished.set_result(None)

    def _pump(self) -> None:
        spec, line = self._owner.spec, self._owner.messages.line
        while not self._paused and self._next < self._end:
            room = min(spec.lines, spec.window - self._unanswered, self._end - self._next)
            # Half a write at least, unless little is left: else each answer would cost a write.
            if room < min(spec.lines, self._end - self._next):
                return
            lines = b"".join([line(n) for n in range(self._next, self._next + room)])
            self._written.append((room, time.perf_counter()))
            self._unanswered += room
            self._next += room
            self._transport.write(b"%x\r\n%b\r\n" % (len(lines), lines))
            if self._next == self._end:
                self._transport.write(b"0\r\n\r\n")

    def fail(self, sentence: str) -> None:
        """Ends the whole load, the other streams with it."""
        if not self.finished.done():
            self.finished.set_exception(LoadFailed(sentence))
