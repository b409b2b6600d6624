"""`POST /v1/messages` as a stream: each line is a message.

A full lane stops the reading until it has room again, and ends the stream when it stays full for
`request_timeout`; an app's rate that is spent stops it for as long. While the installation drains a
stream ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from gateway.core.records.request import Answer, MessageRequest
from gateway.ingress.api.bodies.stream import LineStream, PendingLine
from gateway.ingress.api.results import refusal_of, result_of
from gateway.ingress.http.problems import Problem
from gateway.ingress.http.request import Request
from gateway.ingress.intake.admission_queue import AdmissionQueue
from gateway.ingress.intake.batcher import QueueFull
from gateway.ingress.intake.quotas import ItemAnswer, StreamQuota
from gateway.redis.errors import RedisUnavailable
from gateway.settings.tables import Server


class MessageStream(LineStream):
    """Line n of it has the idempotency key `key#n`."""

    def __init__(
        self, request: Request, queue: AdmissionQueue, limits: Server, key: str | None
    ) -> None:
        super().__init__(request, limits)
        self._queue = queue
        self._key = key
        self._app = request.principal.app
        self._traceparent = request.header(b"traceparent")
        self._quota: StreamQuota | None = None

    async def take_line(self, line: bytes) -> None:
        closed = self._queue.closed()
        if closed is not None:
            self.answer_at_once(closed, ends=True)
            return
        key = f"{self._key}#{self.next_line}" if self._key is not None else None
        traces = self._queue.store.traces
        if traces is None or not traces.asked(self._traceparent):
            message = await self._queue.prepare(line, self._app, key)
        else:
            with traces.accepting(self._traceparent, self._app) as trace:
                message = await self._queue.prepare(line, self._app, key, trace)
        if not isinstance(message, MessageRequest):
            self._answer(self.begin_line(), message)
            return
        crowded = self._queue.crowded(message)
        if crowded is not None:
            crowded = await self._when_lane_has_room(message, crowded)
            if self.over():
                return
            if crowded is not None:
                self.answer_at_once(crowded, ends=True)
                return
        quota = self._quota_now()
        if quota is None:
            await self._submit(message, len(line), self._answer)
        else:
            await self._pay_and_submit(message, len(line), quota)

    def _quota_now(self) -> StreamQuota | None:
        """What the app's quotas allow this stream; None where it has none (any more)."""
        app = self._queue.quotas.of(self._app)
        if app is None:
            return None
        if self._quota is None:
            self._quota = StreamQuota(app)
        self._quota.go_by(app)
        return self._quota

    async def _submit(
        self,
        message: MessageRequest,
        size: int,
        done: Callable[[PendingLine, Answer | Exception], None],
    ) -> None:
        pending = self.begin_line(size)
        await self.offer(pending, lambda: self._queue.submit(message, partial(done, pending)))

    async def _pay_and_submit(self, message: MessageRequest, size: int, quota: StreamQuota) -> None:
        """The same where the app has quotas: waits while its rate is spent."""
        try:
            message = await quota.pay(message)
        except RedisUnavailable as error:
            self.answer_at_once(refusal_of(error).problem, ends=True)
            return

        day = quota.day

        def answered(line: PendingLine, answer: Answer | Exception) -> None:
            quota.note(answer, message, day)
            self._answer(line, answer)

        if self.over():
            quota.note(QueueFull(), message, day)
            return
        try:
            await self._submit(message, size, answered)
        except BaseException:  # it broke off before there was room: nobody will answer
            quota.note(QueueFull(), message, day)
            raise

    async def _when_lane_has_room(
        self, message: MessageRequest, crowded: Problem | None
    ) -> Problem | None:
        """Waits while the message's lane is full; the problem when it stays so."""
        try:
            async with asyncio.timeout(self.timeout_s):
                while crowded is not None:
                    await self._queue.backlog.next_sample()
                    crowded = self._queue.crowded(message)
        except TimeoutError:
            return crowded
        return None

    async def settle(self) -> None:
        """What was spent of the app's quota and not used goes back."""
        await super().settle()
        if self._quota is not None:
            await self._quota.close()

    def _answer(self, line: PendingLine, answer: ItemAnswer) -> None:
        result = result_of(answer)
        self.finish(line, result, ends=result.outcome == "error")
