"""`POST /v1/messages`: one message, or an array of them. The stream is `stream`'s.

Owns the way of a request through authentication, reading, back-pressure and the batcher, and the
answers' status codes. It must not know how a batch is decided. Invalid items never fail their
neighbours. When all items failed for one passing reason (Redis away, a lane too full), the answer
is that problem as a whole, so that a client may simply send it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import msgspec

from gateway.core import model
from gateway.core.phones import Phone
from gateway.failpoints import point
from gateway.ingress.api.requests import (
    Malformed,
    Read,
    SendRequest,
    body_hash,
    content_of,
    key_fault,
    read,
)
from gateway.ingress.api.results import Result, failure, result_of
from gateway.ingress.backlog import Backlog
from gateway.ingress.batcher import Batcher, Busy, Done
from gateway.ingress.http.asgi import (
    NOT_JSON,
    Begin,
    Fail,
    Field,
    Receive,
    Reply,
    Scope,
    Send,
    header,
    media_type,
    media_type_in,
    read_body,
    respond,
    to_json,
)
from gateway.ingress.http.auth import Authority
from gateway.ingress.http.problems import Fault, Problem, Refusal, invalid, problem, refuse
from gateway.ingress.metrics import Metrics
from gateway.settings.file import Server
from gateway.store.admit import Answer
from gateway.store.base import BATCH_MAX
from gateway.store.store import Store

REPLAYED = (b"idempotent-replayed", b"true")
_STATUS = {"accepted": 202, "duplicate": 200, "suppressed": 200}

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Intake:
    """From the bytes of one message to its place in a batch; shared by all ways of sending."""

    def __init__(
        self, store: Store, backlog: Backlog, metrics: Metrics, now_ms: Callable[[], int]
    ) -> None:
        self.store = store
        self.backlog = backlog
        self.metrics = metrics
        self._now_ms = now_ms
        self.batcher: Batcher[model.Send, Answer] = Batcher(
            store.shards, self._admit, batch_max=BATCH_MAX
        )

    def prepare(self, raw: bytes | msgspec.Raw, app: str, key: str | None) -> model.Send | Problem:
        """Reads one message; `key` is its idempotency key if it names none itself."""
        found = read(raw, self.store.policy)
        if not isinstance(found, Read):
            why = problem("malformed", found.detail) if isinstance(found, Malformed) else None
            self.metrics.refused.labels("malformed" if why else "invalid").inc()
            return why or invalid(cast("list[Fault]", found))
        request, phone = found.request, found.phone
        return self.send_of(request, phone, app, key)

    def send_of(self, request: SendRequest, phone: Phone, app: str, key: str | None) -> model.Send:
        """What admission decides on; `key` as in `prepare`."""
        key = request.idempotency_key or key
        return model.Send(
            id=self.store.new_message_id(phone.digits, self._now_ms()),
            app=app,
            to=phone.digits,
            country=phone.country,
            category=request.category,
            content=content_of(request),
            route=request.route,
            user=request.user,
            campaign=request.campaign,
            ttl_ms=request.ttl * 1000 if request.ttl is not None else None,
            metadata=request.metadata or None,
            idempotency_key=key,
            body_hash=body_hash(request) if key is not None else b"",
        )

    def backlog_problem(self, send: model.Send) -> Problem | None:
        """Why the message may not come in now."""
        sentence = self.backlog.full(send)
        if sentence is None:
            return None
        self.metrics.refused.labels("backlog").inc()
        return problem("backlog", sentence)

    def submit(self, send: model.Send, done: Done[Answer]) -> None:
        """Hands a message to its shard's batch. Raises Busy."""
        self.batcher.submit(self.store.shard_of_phone(send.to), send, done)

    async def ask(self, send: model.Send) -> Answer:
        """The store's answer. Raises Busy, StoreUnavailable and bugs."""
        return await self.batcher.ask(self.store.shard_of_phone(send.to), send)

    async def _admit(self, _shard: int, sends: Sequence[model.Send]) -> Sequence[Answer]:
        began = time.perf_counter()
        answers = await self.store.admit(sends, self._now_ms())
        point("accepted")
        self.metrics.admitted(list(sends), answers, time.perf_counter() - began)
        return answers


class SendEndpoint:
    """Answers bodies that come whole."""

    def __init__(self, intake: Intake, authority: Authority, limits: Server) -> None:
        self._intake = intake
        self._authority = authority
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = await self._authority.require(scope["headers"], "send")
        if media_type(scope) != "application/json":
            raise refuse(
                "media-type",
                "Send application/json (one message or an array) or application/x-ndjson.",
            )
        key = idempotency_key(scope)
        body = await read_body(scope, receive, self._limits.body_bytes_max)
        if body.lstrip(b" \t\r\n")[:1] == b"[":
            await self._many(send, body, principal.app, key)
        else:
            await self._one(send, body, principal.app, key)

    async def _one(self, send: Send, body: bytes, app: str, key: str | None) -> None:
        message = self._intake.prepare(body, app, key)
        if isinstance(message, Problem):
            raise Refusal(message)
        crowded = self._intake.backlog_problem(message)
        if crowded is not None:
            raise Refusal(crowded)
        status, document, headers = _told(await self._intake.ask(message))
        await respond(send, status, document, headers)

    def short_way(self, headers: Sequence[Field], body: bytes) -> Begin | None:
        """One good message of a known key, whole: what is left to do. None, or a Refusal raised,
        for all else; nothing has changed then."""
        fields = dict(reversed(headers))  # the first of a name stands
        if media_type_in(fields.get(b"content-type")) != "application/json" or body[:1] != b"{":
            return None
        if b"content-encoding" in fields or len(body) > self._limits.body_bytes_max:
            return None
        principal = self._authority.known(fields.get(b"authorization"), "send")
        if principal is None:
            return None
        key = idempotency_key_in(fields.get(b"idempotency-key"))
        found = read(body, self._intake.store.policy)
        if not isinstance(found, Read):
            return None
        message = self._intake.send_of(found.request, found.phone, principal.app, key)
        if self._intake.backlog.full(message) is not None:
            return None
        return partial(self._begin, message)

    def _begin(self, message: model.Send, reply: Reply, fail: Fail) -> None:
        def done(answer: Answer | Exception) -> None:
            try:
                if isinstance(answer, Exception):
                    raise answer
                status, document, headers = _told(answer)
            except Exception as error:
                fail(error)
            else:
                reply(status, document, headers)

        self._intake.submit(message, done)

    async def _many(self, send: Send, body: bytes, app: str, key: str | None) -> None:
        items = self._items(body)
        answers: list[Answer | Problem | Exception | None] = [None] * len(items)
        left = len(items)
        all_told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def tell(index: int, answer: Answer | Problem | Exception) -> None:
            nonlocal left
            answers[index] = answer
            left -= 1
            if left == 0 and not all_told.done():
                all_told.set_result(None)

        for index, raw in enumerate(items):
            own_key = f"{key}#{index}" if key is not None else None
            self._one_of_many(raw, app, own_key, index, tell)
        await all_told
        told = [answer for answer in answers if answer is not None]
        results = [
            failure(answer) if isinstance(answer, Problem) else result_of(answer) for answer in told
        ]
        _refuse_if_all_failed(results)
        for index, result in enumerate(results):
            result.index = index
        replayed = all(isinstance(answer, Answer) and answer.replayed for answer in told)
        await respond(send, 200, to_json(results), (REPLAYED,) if replayed else ())

    def _items(self, body: bytes) -> list[msgspec.Raw]:
        try:
            items = _split(body)
        except NOT_JSON as error:
            raise refuse("malformed", f"This is not a JSON array in UTF-8: {error}.") from None
        most = self._limits.batch_items_max
        if len(items) > most:
            raise refuse(
                "too-large",
                f"An array may have {most} messages, this one has {len(items)}: "
                "split it, or stream them as application/x-ndjson.",
            )
        if not items:
            raise Refusal(invalid([Fault("", "The array is empty: give 1 message at least.")]))
        return items

    def _one_of_many(
        self,
        raw: msgspec.Raw,
        app: str,
        key: str | None,
        index: int,
        tell: Callable[[int, Answer | Problem | Exception], None],
    ) -> None:
        message = self._intake.prepare(raw, app, key)
        if isinstance(message, Problem):
            tell(index, message)
            return
        crowded = self._intake.backlog_problem(message)
        if crowded is not None:
            tell(index, crowded)
            return
        try:
            self._intake.submit(message, lambda answer: tell(index, answer))
        except Busy as busy:
            tell(index, busy)


def _told(answer: Answer) -> tuple[int, bytes, Sequence[Field]]:
    """Status, body and headers for one message. Raises Refusal."""
    result = result_of(answer)
    if isinstance(result.error, Problem):
        raise Refusal(result.error)
    return _STATUS[result.outcome], to_json(result), (REPLAYED,) if answer.replayed else ()


def idempotency_key(scope: Scope) -> str | None:
    """The header's key. Raises Refusal."""
    return idempotency_key_in(header(scope, b"idempotency-key"))


def idempotency_key_in(value: bytes | None) -> str | None:
    """The key in the header's value. Raises Refusal."""
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


def _refuse_if_all_failed(results: Sequence[Result]) -> None:
    """Raises Refusal when no item was so much as decided."""
    if all(result.outcome == "error" for result in results):
        first = results[0].error
        assert isinstance(first, Problem)
        raise Refusal(first)
