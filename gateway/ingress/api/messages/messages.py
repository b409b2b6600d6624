"""Messages: `POST /v1/messages`, and what is asked of one: `GET` and `DELETE /v1/messages/{id}`,
`GET /v1/messages/{id}/timeline` and `/explain`.

A body is one message, an array of them, or a stream, which `message_stream` answers. Invalid items
never fail their neighbours. When all items failed for one passing reason (Redis unavailable, a lane
too full), or the store is too full for one of them, the answer is that problem as a whole, so that
a client may simply send it again. Another app's message does not exist for the asker (404).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from urllib.parse import parse_qsl

from gateway.core.events import Cancelled
from gateway.core.explain import explain_message
from gateway.core.records.message import MESSAGE_NAMES, Message
from gateway.core.records.request import Answer, MessageRequest
from gateway.core.views.message import timeline_of
from gateway.ingress.api.bodies.array_items import array_items, in_turns, is_array
from gateway.ingress.api.bodies.stream import Streams
from gateway.ingress.api.messages.explain_view import dry_result, explain_view
from gateway.ingress.api.messages.message_stream import MessageStream
from gateway.ingress.api.messages.requests import key_fault
from gateway.ingress.api.messages.shown import shown
from gateway.ingress.api.results import Result, conflict, message_after, no_message, result_of
from gateway.ingress.archived import ArchiveReader, message_anywhere
from gateway.ingress.http.asgi import to_json
from gateway.ingress.http.problems import Problem, Refusal, refuse
from gateway.ingress.http.request import Request
from gateway.ingress.intake.admission_queue import AdmissionQueue, Prepared
from gateway.ingress.intake.batcher import QueueFull
from gateway.ingress.intake.quotas import ItemAnswer, is_over
from gateway.settings.tables import Server
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.messages.apply import Item
from gateway.store.requests.dry_run import DryAnswer
from gateway.store.store import Store

OR_STREAM = ", or stream them as application/x-ndjson"
REPLAYED = (b"idempotent-replayed", b"true")
_AS_IT_IS = (400, 413, 422)
_STATUS = {"accepted": 202, "duplicate": 200, "suppressed": 200}


class SendEndpoint:
    """Takes messages."""

    def __init__(self, queue: AdmissionQueue, streams: Streams, limits: Server) -> None:
        self._queue = queue
        self._streams = streams
        self._limits = limits

    async def send(self, request: Request) -> None:
        kind = request.media_type
        if kind not in ("application/json", "application/x-ndjson"):
            raise refuse(
                "media-type",
                "Send application/json (one message or an array) or application/x-ndjson.",
            )
        key = idempotency_key(request.header(b"idempotency-key"))
        dry_run = bool(request.query) and is_dry_run(request.query)
        closed = self._queue.closed()
        if closed is not None:
            raise Refusal(closed)
        if dry_run:
            await self._dry_run(request, key)
            return
        if kind == "application/x-ndjson":
            stream = MessageStream(request, self._queue, self._limits, key)
            await self._streams.answer(request, stream)
            return
        traces, given = self._queue.store.traces, request.header(b"traceparent")
        if traces is None or not traces.asked(given):
            await self._take(request, key, "")
            return
        with traces.accepting(given, request.principal.app) as trace:
            await self._take(request, key, trace)

    async def _take(self, request: Request, key: str | None, trace: str) -> None:
        """One message, or an array of them, in the context of `trace`."""
        body = await request.body(self._limits.body_bytes_max)
        if is_array(body):
            await self._many(request, body, key, trace)
        else:
            await self._one(request, body, key, trace)

    async def _one(self, request: Request, body: bytes, key: str | None, trace: str) -> None:
        message = await self._prepare_one(request, body, key, trace)
        quota = self._queue.quotas.of(request.principal.app)
        if isinstance(message, Answer):
            answer = message
        elif quota is None:
            answer = await self._queue.ask(message)
        else:
            answer = await quota.ask_one(message, self._queue.ask)
        result = result_of(answer)
        if isinstance(result.error, Problem):
            raise Refusal(result.error)
        headers = (REPLAYED,) if answer.replayed else ()
        await request.respond(_STATUS[result.outcome], to_json(result), headers)

    async def _prepare_one(
        self, request: Request, body: bytes, key: str | None, trace: str = ""
    ) -> MessageRequest | Answer:
        """The one message of a body, or its first answer. Raises Refusal."""
        message = await self._queue.prepare(body, request.principal.app, key, trace)
        if isinstance(message, Problem):
            raise Refusal(message)
        if isinstance(message, Answer):
            return message
        crowded = self._queue.crowded(message)
        if crowded is not None:
            raise Refusal(crowded)
        return message

    async def _dry_run(self, request: Request, key: str | None) -> None:
        """What the message would come to, and why; what is asked of others is refused."""
        body = await request.body(self._limits.body_bytes_max)
        if request.media_type != "application/json" or is_array(body):
            raise refuse("query", "A dry run takes one message: send one object as JSON.")
        message = await self._prepare_one(request, body, key)
        quota = self._queue.quotas.of(request.principal.app)
        if isinstance(message, Answer):
            told = DryAnswer(message)
        else:
            if quota is not None:
                message = await quota.look(message)
            told = await self._queue.dry_run(message)
        if quota is not None and told.answer.outcome == "over_quota":
            raise quota.refusal_of_day(told.answer)
        result = dry_result(told.answer, told.explanation, self._queue.store.policy.currency)
        if isinstance(result.error, Problem) and told.answer.outcome != "rejected":
            raise Refusal(result.error)
        headers = (REPLAYED,) if told.answer.replayed else ()
        await request.respond(200, to_json(result), headers)

    async def _many(self, request: Request, body: bytes, key: str | None, trace: str) -> None:
        items = await array_items(body, self._limits.batch_items_max, "message", OR_STREAM)
        prepared: list[Prepared] = []
        async for raw in in_turns(items):
            own = None if key is None else f"{key}#{len(prepared)}"
            prepared.append(await self._queue.prepare(raw, request.principal.app, own, trace))
        messages = [each for each in prepared if isinstance(each, MessageRequest)]
        self._refuse_if_full(messages)
        quota = self._queue.quotas.of(request.principal.app)
        if quota is None or not messages:
            answers = await self._ask_all(messages)
        else:
            answers = await quota.ask_many(messages, self._ask_all)
        asked = iter(answers)
        found = [next(asked) if isinstance(each, MessageRequest) else each for each in prepared]
        if quota is not None and all(map(is_over, found)):
            raise quota.refusal_of_day(found[0])
        results = [result_of(each) for each in found]
        _refuse_if_all_failed(results, key)
        for index, result in enumerate(results):
            result.index = index
        await request.respond(200, to_json(results), (REPLAYED,) if _replayed(found) else ())

    async def _ask_all(self, messages: Sequence[MessageRequest]) -> list[ItemAnswer]:
        """What each came to, in order."""
        answers: list[ItemAnswer | None] = [None] * len(messages)
        left = len(messages)
        all_answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answer_item(index: int, answer: ItemAnswer) -> None:
            nonlocal left
            answers[index] = answer
            left -= 1
            if left == 0 and not all_answered.done():
                all_answered.set_result(None)

        for index, message in enumerate(messages):
            self._one_of_many(message, index, answer_item)
        if messages:
            await all_answered
        return [answer for answer in answers if answer is not None]

    def _refuse_if_full(self, messages: Sequence[MessageRequest]) -> None:
        """Raises Refusal of all where the store is too full for one: nothing was taken yet, so all
        of it can be sent again."""
        for message in messages:
            full = self._queue.memory_problem(message)
            if full is not None:
                raise Refusal(full)

    def _one_of_many(
        self,
        message: MessageRequest,
        index: int,
        answer_item: Callable[[int, ItemAnswer], None],
    ) -> None:
        crowded = self._queue.backlog_problem(message)
        if crowded is not None:
            answer_item(index, crowded)
            return
        try:
            self._queue.submit(message, lambda answer: answer_item(index, answer))
        except QueueFull as full:
            answer_item(index, full)


class MessageEndpoints:
    """Shows and cancels single messages, archived ones as well."""

    def __init__(self, store: Store, archived: ArchiveReader, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._archived = archived
        self._now_ms = now_ms

    async def get(self, request: Request) -> None:
        await self._show(request, await self._own(request))

    async def timeline(self, request: Request) -> None:
        message = await self._own(request)
        await request.respond(200, to_json(timeline_of(message)))

    async def explain(self, request: Request) -> None:
        message, policy = await self._own(request), self._store.policy
        view = explain_view(explain_message(message, policy, self._now_ms()), policy.currency)
        await request.respond(200, to_json(view))

    async def cancel(self, request: Request) -> None:
        message = await self._own(request)
        if message.closed:
            raise _final(message)
        (applied,) = await self._store.apply([Item(message.id, Cancelled())], self._now_ms())
        after = message_after(applied, "The message cannot be cancelled: it was set aside.")
        if isinstance(after, Problem):
            raise Refusal(after)
        if applied.effects.changed:
            deed = Deed(self._now_ms(), request.principal.named, "message.cancel", message.id)
            await audit.note(self._store.redis, deed)
        elif after.closed:
            raise _final(after)
        await self._show(request, after)

    async def _own(self, request: Request) -> Message:
        """The message, if it is the asking app's. Raises Refusal (404) and RedisUnavailable."""
        message = await message_anywhere(self._store, self._archived, request.parameters["id"])
        if message is None or message.app != request.principal.app:
            raise Refusal(no_message())
        return message

    async def _show(self, request: Request, message: Message) -> None:
        (view,) = await shown(self._store, [message], self._now_ms())
        await request.respond(200, to_json(view))


def _final(message: Message) -> Refusal:
    status = MESSAGE_NAMES[message.status]
    return refuse("final", f"The message is {status}: there is nothing left to cancel.")


def is_dry_run(query: bytes) -> bool:
    """Whether the parameters ask for that. Raises Refusal."""
    values = [value for _, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True)]
    if values not in (["true"], ["false"]):
        raise refuse("query", "`dry_run` is true or false: give it once.")
    return values == ["true"]


def idempotency_key(value: bytes | None) -> str | None:
    """The key in the value of the header Idempotency-Key. Raises Refusal."""
    if value is None:
        return None
    try:
        key = value.decode()
    except UnicodeDecodeError:
        raise refuse("malformed", "The header Idempotency-Key is not UTF-8 text.") from None
    fault = key_fault(key)
    if fault is not None:
        raise refuse("malformed", f"The header Idempotency-Key cannot be used. {fault}")
    return key


def _refuse_if_all_failed(results: Sequence[Result], key: str | None) -> None:
    """Raises Refusal when no item was so much as decided, and when the `key` of them all came with
    another body."""
    first = results[0].error
    if not isinstance(first, Problem):
        return
    conflicts = key is not None and all(each.error == conflict() for each in results)
    if conflicts or all(result.outcome == "error" for result in results):
        raise Refusal(first)


def _replayed(found: Sequence[ItemAnswer]) -> bool:
    """Whether all is told again: what was taken is replayed, and what is wrong with the others is
    still wrong. Refusals are not remembered, so that it takes one answer that was."""
    replayed = [isinstance(answer, Answer) and answer.replayed for answer in found]
    return any(replayed) and all(
        told or _refused(answer) for told, answer in zip(replayed, found, strict=True)
    )


def _refused(answer: ItemAnswer) -> bool:
    """Whether it is refused as it is, and not for now or for its key."""
    if isinstance(answer, Problem):
        return answer.status in _AS_IT_IS
    return isinstance(answer, Answer) and answer.outcome == "rejected"
