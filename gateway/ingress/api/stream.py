"""`POST /v1/messages` as application/x-ndjson: a stream of any length, answered line by line.

Reading and answering in order go on at the same time. A line is answered once its message is
durable. Blank lines are counted and not answered.

Back-pressure goes both ways. At most WINDOW lines, and WINDOW_BYTES of lines and answers, are
between being read and being answered: while the store is slow, or the client does not read, nothing
more is received and memory stays flat. A full lane stops the reading too, until it has room again,
and so does an app's rate that is spent; and while all requests of the worker hold too much, a
stream reads on only once it has answered all.

How a stream ends before its input does: a line that cannot be taken for now (Redis unavailable, a
lane that stays full for `request_timeout`, a line that does not arrive within it, a key that was
withdrawn meanwhile) is answered `{"line", "outcome": "error", "error": {...}}` with the problem's
status, nothing after it is read, all lines read before it get their own answers, and the answer
ends cleanly. What has no answer was
not taken: the client goes on from the first line that is unanswered or an error. While nothing is
written yet, a store that is unavailable is told as for any other request: 503 with Retry-After. A
client that does not read its answers for `request_timeout` is disconnected.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from gateway.core.records.request import Answer, MessageRequest
from gateway.ingress.admission_queue import AdmissionQueue
from gateway.ingress.api.ndjson import LineSplitter, NdjsonLine, TooLong
from gateway.ingress.api.results import Result, failure, refusal_of, result_of
from gateway.ingress.batcher import QueueFull
from gateway.ingress.http.asgi import NDJSON, ClientGone, to_json
from gateway.ingress.http.key_watch import KeyWatch
from gateway.ingress.http.problems import Problem, Refusal, problem
from gateway.ingress.http.request import Request
from gateway.ingress.quotas import StreamQuota
from gateway.redis.errors import RedisUnavailable
from gateway.settings.tables import Server

WINDOW = 1_024  # lines between being read and being answered
WINDOW_BYTES = 1024 * 1024  # of such lines, and of their answers once they are made
ANSWER_BYTES_MAX = 64 * 1024  # of answers in one write
BUSY_WAIT_S = 0.01  # before a line is offered again to a full queue
START_WITHIN_S = 2.0  # the answer begins with the first line's, or then: some clients wait for it

_HEADERS = (NDJSON, (b"cache-control", b"no-store"))


class StreamEndpoint:
    """Answers bodies that come as a stream."""

    def __init__(self, queue: AdmissionQueue, limits: Server, keys: KeyWatch) -> None:
        self._queue = queue
        self._limits = limits
        self._keys = keys
        self._open: set[_MessageStream] = set()

    async def send(self, request: Request, key: str | None) -> None:
        """Answers one stream; line n of it has the idempotency key `key#n`. Raises Refusal."""
        request.refuse_encoded()
        request.leave_body_to_handler()
        stream = _MessageStream(request, self._queue, self._limits, key)
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


class _PendingLine:
    """One line on its way: `answer` is bytes once it may be written."""

    __slots__ = ("answer", "number", "size", "unavailable")

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size  # bytes, of the line
        self.answer: bytes | None = None
        self.unavailable: Problem | None = None  # why it could not be taken, where that is a 503


class _MessageStream:
    def __init__(
        self, request: Request, queue: AdmissionQueue, limits: Server, key: str | None
    ) -> None:
        self._request = request
        self._queue = queue
        self._key = key
        self._timeout_s = limits.request_timeout_ms / 1000
        self._bytes_max = limits.line_bytes_max
        self._splitter = LineSplitter(limits.line_bytes_max)
        self._pending: deque[_PendingLine] = deque()
        self._bytes = 0  # of lines and answers that are pending
        self._shared = 0  # ... as the request was told
        self._line = 0
        self._ended = False  # nothing more is read
        self._answered = asyncio.Event()  # the first has its answer, or the last was read
        self._written = asyncio.Event()  # answers were, since it was cleared
        quota = queue.quotas.of(request.principal.app)
        self._quota = None if quota is None else StreamQuota(quota)

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

    def _over(self) -> bool:
        """Whether the stream ended; asked again after each wait."""
        return self._ended

    async def _next_chunk(self) -> tuple[bytes, bool]:
        """The next bytes that bring a line on. A line has so long in all, not each of its bytes."""
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    body, more = await self._request.next_chunk()
                    chunks.append(body)
                    size += len(body)
                    if not more or b"\n" in body or size > self._bytes_max:
                        return b"".join(chunks), more
        except TimeoutError:
            seconds = f"{self._timeout_s:g} s"
            late = problem("timeout", f"No complete line arrived within {seconds}.")
            self._answer_at_once(late, ends=True)
            return b"", False

    async def _take(self, line: NdjsonLine) -> None:
        while len(self._pending) >= WINDOW or self._bytes >= WINDOW_BYTES:
            await self._next_written()
        if self._over():
            return
        if isinstance(line, TooLong):
            long = f"A line may have {self._bytes_max} bytes; this one was skipped."
            self._answer_at_once(problem("too-large", long))
            return
        if not line.strip():
            self._line += 1
            return
        key = f"{self._key}#{self._line + 1}" if self._key is not None else None
        message = self._queue.prepare(line, self._request.principal.app, key)
        if isinstance(message, Problem):
            self._answer_at_once(message)
            return
        crowded = self._queue.crowded(message)
        if crowded is not None:
            crowded = await self._when_lane_has_room(message, crowded)
            if self._over():
                return
            if crowded is not None:
                self._answer_at_once(crowded, ends=True)
                return
        if self._quota is None:
            await self._submit(message, len(line), self._answer)
        else:
            await self._pay_and_submit(message, len(line), self._quota)

    async def _submit(
        self,
        message: MessageRequest,
        size: int,
        done: Callable[[_PendingLine, Answer | Exception], None],
    ) -> None:
        pending = self._begin_line(size)
        while True:
            try:
                self._queue.submit(message, partial(done, pending))
            except QueueFull:
                await asyncio.sleep(BUSY_WAIT_S)
            else:
                return

    async def _pay_and_submit(self, message: MessageRequest, size: int, quota: StreamQuota) -> None:
        """The same where the app has quotas: waits while its rate is spent."""
        try:
            message = await quota.pay(message)
        except RedisUnavailable as error:
            self._answer_at_once(refusal_of(error).problem, ends=True)
            return

        def answered(line: _PendingLine, answer: Answer | Exception) -> None:
            quota.note(answer, message)
            self._answer(line, answer)

        if self._over():
            quota.note(QueueFull(), message)
            return
        await self._submit(message, size, answered)

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

    async def _when_lane_has_room(
        self, message: MessageRequest, crowded: Problem | None
    ) -> Problem | None:
        """Waits while the message's lane is full; the problem when it stays so."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while crowded is not None:
                    await self._queue.backlog.next_sample()
                    crowded = self._queue.crowded(message)
        except TimeoutError:
            return crowded
        return None

    async def settle(self) -> None:
        """What was spent of the app's quota and not used goes back."""
        if self._quota is not None:
            await self._quota.close()

    def stop(self) -> None:
        """No more lines are taken: the writer ends once all that were have their answers."""
        self._ended = True
        self._answered.set()

    def withdraw(self) -> None:
        """The key opens nothing any more: what was read is answered, and nothing more is taken."""
        if not self._ended:
            self._answer_at_once(problem("unauthorized", "The API key was withdrawn."), ends=True)

    # --- answering ---

    def _begin_line(self, size: int = 0) -> _PendingLine:
        self._line += 1
        line = _PendingLine(self._line, size)
        self._pending.append(line)
        self._bytes += size
        return line

    def _answer_at_once(self, why: Problem, *, ends: bool = False) -> None:
        line = self._begin_line()
        result = failure(why)
        if ends:
            result.outcome = "error"
        self._finish(line, result)
        self._ended = self._ended or ends

    def _answer(self, line: _PendingLine, answer: Answer | Exception) -> None:
        result = result_of(answer)
        if result.outcome == "error":
            self._ended = True
        self._finish(line, result)

    def _finish(self, line: _PendingLine, result: Result) -> None:
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
                async with asyncio.timeout(self._timeout_s):
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
