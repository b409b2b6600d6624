"""Idempotency keys that lie in another shard than the home of the person they are used for.

One transaction cannot span shards: the key is opened for a message id first, then the request is
decided in its home's shard, then the key is closed with the answer. A process may die in between.
An open key gives its id to the next request of the same body: whichever of the two comes first
makes the message, the other finds it made.
"""

from __future__ import annotations

from msgspec.structs import replace

from gateway.core.records.codec import UnreadableRecordError
from gateway.core.records.request import (
    Answer,
    KeyedBody,
    MessageRequest,
    RememberedAnswer,
    remembered_codec,
    replay,
)
from gateway.redis.client import Command, Session
from gateway.store import randomness
from gateway.store.base import StoreBase
from gateway.store.keys import Keys, keys_of, shard_of
from gateway.store.requests.admit import NOT_REMEMBERED
from gateway.store.transaction import commit


def shard_of_key(store: StoreBase, request: MessageRequest | KeyedBody) -> int | None:
    """The shard that holds the request's idempotency key; None when it has none."""
    if request.idempotency_key is None:
        return None
    return shard_of(f"{request.app}:{request.idempotency_key}", store.shards)


async def recall(store: StoreBase, request: MessageRequest | KeyedBody) -> Answer | None:
    """The answer that the request's key holds; None: it has no key, or one that holds none yet."""
    if request.idempotency_key is None:
        return None
    key, _ = _key(store, request)
    (value,) = await store.redis.call([("GET", key)])
    held = _read(key, value) if isinstance(value, bytes) else None
    if held is None or held.open:
        return None
    return replay(held, request)


async def open_key(store: StoreBase, request: MessageRequest) -> Answer | MessageRequest:
    """Opens the key for this request, or answers from what it holds; the request that is returned
    has the id for which the key is open."""
    key, keys = _key(store, request)
    token = keys.token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], Answer | MessageRequest]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        if value is None:
            return [_held(store, key, request)], request
        assert isinstance(value, bytes)
        held = _read(key, value)
        if not held.open or held.body_hash != request.body_hash:
            return [], replay(held, request)
        assert held.answer.id is not None
        return [], replace(request, id=held.answer.id)

    return await commit(store.redis, token, attempt, store.counts)


async def reopen_key(store: StoreBase, request: MessageRequest, old_id: str) -> None:
    """Opens the key for the request's own id, if it is open for `old_id` still: a message that can
    never be made, because its home moved to another shard."""
    key, keys = _key(store, request)
    token = keys.token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], None]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        if value is None:
            return [], None
        assert isinstance(value, bytes)
        held = _read(key, value)
        if not held.open or held.answer.id != old_id:
            return [], None
        return [_held(store, key, request)], None

    await commit(store.redis, token, attempt, store.counts)


async def close_key(store: StoreBase, request: MessageRequest, answer: Answer) -> None:
    """Keeps the answer under the key, or frees a key whose request was rejected."""
    key, _ = _key(store, request)
    if answer.outcome in NOT_REMEMBERED:
        await store.redis.call([("DEL", key)])
        return
    first = replace(answer, replayed=False)
    record = remembered_codec.encode(RememberedAnswer(request.body_hash, first))
    await store.redis.call([("SET", key, record, "PX", store.retention.idempotency_ms)])


def _key(store: StoreBase, request: MessageRequest | KeyedBody) -> tuple[str, Keys]:
    shard = shard_of_key(store, request)
    assert shard is not None
    assert request.idempotency_key is not None
    keys = keys_of(shard)
    return keys.idempotency(request.app, request.idempotency_key), keys


def _read(key: str, value: bytes) -> RememberedAnswer:
    try:
        return remembered_codec.decode(value)
    except UnreadableRecordError as error:
        raise error.at(key) from None


def _held(store: StoreBase, key: str, request: MessageRequest) -> Command:
    first = Answer("accepted", id=request.id, status="queued")
    record = remembered_codec.encode(RememberedAnswer(request.body_hash, first, open=True))
    return ("SET", key, record, "PX", store.retention.idempotency_ms)
