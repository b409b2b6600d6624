"""A body of application/x-ndjson: a stream of any length, answered line by line.

Reading and answering in order go on at the same time. A line is answered once what it asks for is
durable. Blank lines are counted and not answered. What a line is, and how it is taken, is the
resource's: it extends `LineStream`.

Back-pressure goes both ways. At most WINDOW lines, and WINDOW_BYTES of lines and answers, are
between being read and being answered: while the store is slow, or the client does not read, nothing
more is received and memory stays flat; and while all requests of the worker hold too much, a stream
reads on only once it has answered all.

How a stream ends before its input does: a line that cannot be taken for now (Redis unavailable, a
line that does not arrive within `request_timeout`, a key that was withdrawn meanwhile) is answered
`{"line", "outcome": "error", "error": {...}}` with the problem's status, nothing after it is read,
all lines read before it get their own answers, and the answer ends cleanly. What has no answer was
not taken: the client goes on from the first line that is unanswered or an error. While nothing is
written yet, a store that is unavailable is told as for any other request: 503 with Retry-After. A
client that does not read its answers for `request_timeout` is disconnected.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.ingress.api.bodies.ndjson import LineSplitter, NdjsonLine, TooLong
from gateway.ingress.api.bodies.turns import LoopTurns
from gateway.ingress.api.results import failure
from gateway.ingress.http.asgi import NDJSON, ClientGone, to_json
from gateway.ingress.http.key_watch import KeyWatch
from gateway.ingress.http.problems import Problem, Refusal, problem
from gateway.ingress.http.request import Request
from gateway.ingress.intake.batcher import QueueFull
from gateway.settings.tables import Server

WINDOW = 1_024  # lines between being read and being answered
WINDOW_BYTES = 1024 * 1024  # of such lines, and of their answers once they are made
ANSWER_BYTES_MAX = 64 * 1024  # of answers in one write
BUSY_WAIT_S = 0.01  # before a line is offered again to a full queue
START_WITHIN_S = 2.0  # the answer begins with the first line's, or then: some clients wait for it

_HEADERS = (NDJSON, (b"cache-control", b"no-store"))


class Streams:
    """The streams that are open in this worker."""

    def __init__(self, keys: KeyWatch) -> None:
        self._keys = keys
        self._open: set[LineStream] = set()

    async def answer(self, request: Request, stream: LineStream) -> None:
        """Answers one stream to its end. Raises Refusal."""
        request.refuse_encoded()
        request.leave_body_to_handler()
        self._open.add(stream)
        refused: Problem | None = None
        try:
            with self._keys.watching(request.principal, "send", stream.withdraw):
                async with asyncio.TaskGroup() as tasks:
                    reader = tasks.create_task(stream.read())
                    refused = await stream.write()
                    reader.cancel()
        except* (TimeoutError, ClientGone):
            # Only writing raises TimeoutError: nobody takes the answers.
            request.abort()
        finally:
            self._open.discard(stream)
            await stream.settle()
        if refused is not None:
            raise Refusal(refused)

    def stop(self) -> None:
        """Ends every stream after the lines that were read: the worker is about to stop."""
        for stream in self._open:
            stream.stop()


class LineAnswer(Protocol):
    """What a line is answered."""

    line: int | msgspec.UnsetType
    error: Problem | msgspec.UnsetType


class PendingLine:
    """One line on its way: `answer` is bytes once it may be written."""

    __slots__ = ("answer", "is_handed_over", "number", "size", "unavailable")

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size  # bytes, of the line
        self.is_handed_over = False  # somebody decides it, and will answer
        self.answer: bytes | None = None
        self.unavailable: Problem | None = None  # why it could not be taken, where that is a 503


class LineStream(ABC):
    """One stream: `take_line` is the resource's. It sees to it that each line which it begins is
    finished."""

    def __init__(self, request: Request, limits: Server) -> None:
        self._request = request
        self.timeout_s = limits.request_timeout_ms / 1000
        self._bytes_max = limits.line_bytes_max
        self._splitter = LineSplitter(limits.line_bytes_max)
        self._pending: deque[PendingLine] = deque()
        self._bytes = 0  # of lines and answers that are pending
        self._shared = 0  # ... as the request was told
        self._turns = LoopTurns()
        self._line = 0  # how many were begun
        self._handed_over = 0  # lines, and not answered yet
        self._ended = False  # nothing more is read
        self._answered = asyncio.Event()  # the first has its answer, or the last was read
        self._written = asyncio.Event()  # answers were, since it was cleared

    @abstractmethod
    async def take_line(self, line: bytes) -> None:
        """Takes a line that is not blank, or answers it."""

    async def settle(self) -> None:
        """The stream is over. Where it broke off, what was handed over until then is waited for:
        it is done, though nobody is told."""
        self.stop()
        while self._handed_over:
            self._answered.clear()
            await self._answered.wait()

    # --- reading ---

    async def read(self) -> None:
        """Takes lines until the input or the stream ends. Raises ClientGone.

        After each wait it looks whether the stream ended meanwhile: a line that the writer will not
        answer must not be taken.
        """
        while not self._ended:
            await self._share()
            chunk, more = await self._next_chunk()
            for line in self._splitter.feed(chunk):
                await self._take(line)
            if not more:
                for line in self._splitter.end():
                    await self._take(line)
                self.stop()

    def over(self) -> bool:
        """Whether the stream ended; asked again after each wait."""
        return self._ended

    async def _next_chunk(self) -> tuple[bytes, bool]:
        """The next bytes that bring a line on. A line has so long in all, not each of its bytes."""
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.timeout_s):
                while True:
                    body, more = await self._request.next_chunk()
                    chunks.append(body)
                    size += len(body)
                    if not more or b"\n" in body or size > self._bytes_max:
                        return b"".join(chunks), more
        except TimeoutError:
            seconds = f"{self.timeout_s:g} s"
            late = problem("timeout", f"No complete line arrived within {seconds}.")
            self.answer_at_once(late, ends=True)
            return b"", False

    async def _take(self, line: NdjsonLine) -> None:
        while len(self._pending) >= WINDOW or self._bytes >= WINDOW_BYTES:
            await self._next_written()
        await self._turns.give()
        if self.over():
            return
        if isinstance(line, TooLong):
            long = f"A line may have {self._bytes_max} bytes; this one was skipped."
            self.answer_at_once(problem("too-large", long))
            return
        if not line.strip():
            self._line += 1
            return
        await self.take_line(line)

    async def offer(self, line: PendingLine, submit: Callable[[], None]) -> None:
        """Hands a line to its batch, as soon as there is room."""
        while True:
            try:
                submit()
            except QueueFull:
                await asyncio.sleep(BUSY_WAIT_S)
            else:
                line.is_handed_over = True
                self._handed_over += 1
                return

    async def _share(self) -> None:
        """Counts what is held here among what all requests hold; while that is too much, it waits
        until all that was read is answered."""
        while True:
            self._request.hold(self._bytes - self._shared)
            self._shared = self._bytes
            if not (self._pending and self._request.crowded):
                return
            await self._next_written()

    async def _next_written(self) -> None:
        self._written.clear()
        await self._written.wait()

    def stop(self) -> None:
        """No more lines are taken: the writer ends once all that were have their answers."""
        self._ended = True
        self._answered.set()

    def withdraw(self) -> None:
        """The key opens nothing any more: what was read is answered, and nothing more is taken."""
        if not self._ended:
            self.answer_at_once(problem("unauthorized", "The API key was withdrawn."), ends=True)

    @property
    def next_line(self) -> int:
        """The number of the line that is read."""
        return self._line + 1

    # --- answering ---

    def begin_line(self, size: int = 0) -> PendingLine:
        self._line += 1
        line = PendingLine(self._line, size)
        self._pending.append(line)
        self._bytes += size
        return line

    def answer_at_once(self, why: Problem, *, ends: bool = False) -> None:
        """A line that is not taken; with `ends` it is the last that is read."""
        line = self.begin_line()
        result = failure(why)
        if ends:
            result.outcome = "error"
        self.finish(line, result, ends=ends)

    def finish(self, line: PendingLine, result: LineAnswer, *, ends: bool = False) -> None:
        """The line's answer may be written; with `ends` it is the last that is read."""
        self._ended = self._ended or ends
        self._handed_over -= line.is_handed_over
        result.line = line.number
        line.answer = to_json(result)
        self._bytes += len(line.answer) - line.size
        if isinstance(result.error, Problem) and result.error.status == 503:
            line.unavailable = result.error
        if line is self._pending[0] or self._ended:
            self._answered.set()

    async def write(self) -> Problem | None:
        """Writes answers in order until the last. Raises TimeoutError when nobody takes them.

        Where the store is unavailable for every line, nothing is written and why is returned."""
        refused = await self._refused_at_once()
        if refused is not None:
            return refused
        await self._request.begin(200, _HEADERS)
        while True:
            await self._answered.wait()
            self._answered.clear()
            answers = self._ready()
            while answers:
                body = b"\n".join(answers) + b"\n"
                async with asyncio.timeout(self.timeout_s):
                    await self._request.write(body)
                self._written.set()
                answers = self._ready()
            if self._ended and not self._pending:
                await self._request.end()
                return None

    async def _refused_at_once(self) -> Problem | None:
        """Waits for the first answer, and for all of them where the store is unavailable."""
        pending = self._pending
        try:
            async with asyncio.timeout(START_WITHIN_S):
                await self._answered.wait()
                while pending and pending[0].answer is None:  # the end of the input was told
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            return None
        while pending and pending[0].unavailable is not None:
            if all(line.answer is not None for line in pending):
                return pending[0].unavailable if all(line.unavailable for line in pending) else None
            self._answered.clear()
            await self._answered.wait()
        return None

    def _ready(self) -> list[bytes]:
        answers: list[bytes] = []
        size = 0
        pending = self._pending
        while pending and (answer := pending[0].answer) is not None and size < ANSWER_BYTES_MAX:
            answers.append(answer)
            size += len(answer)
            pending.popleft()
        self._bytes -= size
        return answers
