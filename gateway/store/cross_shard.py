"""What a request needs in a shard that is not its home: other identities of the person, the
idempotency key.

One transaction cannot span shards, so these are taken first, under the id the message will have;
then the request is admitted in its own shard; on refusal they are given back. A process may die in
between: a claim or key whose message does not exist is half made. It is believed for HALF_MADE_MS,
long enough for any admission to end, and void after that. Later changes (delivered, given back,
moved) are noted in the message's own transaction, in `{kN}sync`, and copied over afterwards from
the message's record, as often as it takes.

With one shard nothing here is ever called.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gateway.core import persons as people
from gateway.core.admission import request_post
from gateway.core.ids import born_ms
from gateway.core.plan import Refusal, plan
from gateway.core.records.codec import NewerRecordError
from gateway.core.records.message import MESSAGE_NAMES, Message, unpack_message
from gateway.core.records.person import Person, person_codec
from gateway.core.records.request import (
    Answer,
    MessageRequest,
    RememberedAnswer,
    remembered_codec,
)
from gateway.redis.client import Command, Session
from gateway.store import randomness as noise
from gateway.store.admit import NOT_REMEMBERED, cap_hit
from gateway.store.keys import Keys, keys_of, shard_of
from gateway.store.transaction import commit, values_in
from gateway.store.writes import Writes

if TYPE_CHECKING:
    from gateway.store.store import Store

HALF_MADE_MS = 60_000
SYNC_COUNT = 200


class Identity(NamedTuple):
    """An identity of the person in a shard that is not the message's home."""

    keys: Keys
    key: str


def foreign_identities(store: Store, whose: MessageRequest | Message) -> list[Identity]:
    """The person's identities whose shard is not the home's."""
    home = store.shard_of_home(whose.home)
    found = [
        (shard, kind, value)
        for kind, value in whose.identities
        if (shard := shard_of(value, store.shards)) != home
    ]
    return [Identity(k := keys_of(shard), k.identity(kind, value)) for shard, kind, value in found]


def foreign_key(store: Store, request: MessageRequest) -> Keys | None:
    """The keys of the shard that holds the idempotency key, where it is not the home."""
    if request.idempotency_key is None:
        return None
    shard = shard_of(f"{request.app}:{request.idempotency_key}", store.shards)
    return None if shard == store.shard_of_home(request.home) else keys_of(shard)


async def admit(
    store: Store, shard: int, requests: Sequence[MessageRequest], now_ms: int
) -> list[Answer]:
    """As `Store.admit`, for requests of one home shard that may need others."""
    answers: dict[int, Answer] = {}
    plain: list[tuple[int, MessageRequest]] = []
    for index, request in enumerate(requests):
        if not foreign_identities(store, request) and foreign_key(store, request) is None:
            plain.append((index, request))
            continue
        # One at a time: two requests of one batch may meet in the same foreign record.
        try:
            answers[index] = await _admit_reserved(store, shard, request, now_ms)
        except NewerRecordError:
            answers[index] = Answer("unavailable")
            store.counts.newer += 1
    made = await store.admit_at_home(shard, [request for _, request in plain], now_ms)
    answers.update({index: answer for (index, _), answer in zip(plain, made, strict=True)})
    return [answers[index] for index in range(len(requests))]


async def _admit_reserved(store: Store, shard: int, request: MessageRequest, now_ms: int) -> Answer:
    key_keys, identities = foreign_key(store, request), foreign_identities(store, request)
    again = made = False
    if key_keys is not None:
        opened = await _open_key(store, key_keys, request)
        if isinstance(opened, Answer):
            return opened
        # Opened before and never closed: its message may be made, and over by now.
        again = opened.id != request.id
        request = opened
        made = again and (await _records(store, [request.id]))[request.id] is not None
    answer = None
    if not made:
        for identity in identities:
            answer = answer or await _take(store, identity, request, now_ms)
    if answer is None:
        home = msgspec.structs.replace(request, reserved=True)
        (answer,) = await store.admit_at_home(shard, [home], now_ms)
    for identity in identities:
        if answer.id != request.id:
            await _give_back(store, identity, request, now_ms)
        elif again:
            # Somebody else may have made the message and gone on meanwhile: its record says what
            # holds.
            await _copy_to(store, identity, request.id, now_ms)
    if key_keys is not None:
        await _close_key(store, key_keys, request, answer)
    return answer


async def _open_key(store: Store, keys: Keys, request: MessageRequest) -> Answer | MessageRequest:
    """Claims the idempotency key for this request, or answers from what it holds.

    A key that was opened for the same body and never closed gives its message id to this request:
    whichever of the two comes first makes the message, the other finds it made.
    """
    assert request.idempotency_key is not None
    key = keys.idempotency(request.app, request.idempotency_key)
    token = keys.token(noise.token())

    async def attempt(session: Session) -> tuple[list[Command], Answer | MessageRequest]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        if value is None:
            first = Answer("accepted", id=request.id, status="queued")
            record = remembered_codec.encode(RememberedAnswer(request.body_hash, first, open=True))
            keep = store.retention.idempotency_ms
            return [("SET", key, record, "PX", keep)], request
        assert isinstance(value, bytes)
        held = remembered_codec.decode(value)
        if held.body_hash != request.body_hash:
            return [], Answer("conflict")
        answer = held.answer
        if not held.open:
            return [], msgspec.structs.replace(answer, replayed=True)
        assert answer.id is not None
        if store.keys_for_message(answer.id) != keys_of(store.shard_of_home(request.home)):
            return [], Answer("conflict")  # another number gives another body: never reached
        return [], msgspec.structs.replace(request, id=answer.id)

    return await commit(store.link, token, attempt, store.counts)


async def _close_key(store: Store, keys: Keys, request: MessageRequest, answer: Answer) -> None:
    """Keeps the answer under the key, or frees a key whose request was rejected."""
    assert request.idempotency_key is not None
    key = keys.idempotency(request.app, request.idempotency_key)
    if answer.outcome in NOT_REMEMBERED:
        await store.link.call([("DEL", key)])
        return
    first = msgspec.structs.replace(answer, replayed=False)
    record = remembered_codec.encode(RememberedAnswer(request.body_hash, first))
    await store.link.call([("SET", key, record, "PX", store.retention.idempotency_ms)])


async def _take(
    store: Store, identity: Identity, request: MessageRequest, now_ms: int
) -> Answer | None:
    """Takes claim and slot under one identity; the refusal where it is taken or full."""
    keys, key = identity
    token = keys.token(noise.token())
    way = plan(request, (), store.policy, now_ms)
    if isinstance(way, Refusal):
        return None  # the home shard's decision says so
    channel = way.channel

    async def duplicate(winner: str, writes: Writes) -> tuple[list[Command], Answer]:
        writes.post(request_post(request, "duplicates"))
        answer = Answer("duplicate", id=winner, status=await _status(store, winner))
        return writes.commands(), answer

    async def attempt(session: Session) -> tuple[list[Command], Answer | None]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        assert value is None or isinstance(value, bytes)
        person = Person() if value is None else person_codec.decode(value)
        await _drop_half_made(store, person, now_ms)
        writes = Writes(keys, store.policy, store.retention, now_ms)
        if request.campaign is not None:
            winner = people.claimed_by([person], request.campaign, request.id, now_ms)
            if winner is not None:
                return await duplicate(winner, writes)
        full = people.full_cap(
            [person], store.policy, request.category, channel, now_ms, but=request.id
        )
        if full is not None:
            winner = await _winner_at_home(store, request, now_ms)
            if winner is not None:  # named before a full cap, as with one shard
                return await duplicate(winner, writes)
            writes.post(request_post(request, "suppressed"))
            answer = Answer("suppressed", reason="frequency_cap", cap=cap_hit(full))
            return writes.commands(), answer
        if not people.take(
            [person], request.id, request.campaign, request.category, channel, store.policy, now_ms
        ):
            return [], None
        writes.person(key, person)
        return writes.commands(), None

    return await commit(store.link, token, attempt, store.counts)


async def _winner_at_home(store: Store, request: MessageRequest, now_ms: int) -> str | None:
    """The message that holds (person, campaign) by the home identity."""
    if request.campaign is None:
        return None
    kind, value = request.identities[0]
    key = keys_of(store.shard_of_home(request.home)).identity(kind, value)
    (record,) = await store.link.call([("GET", key)])
    if record is None:
        return None
    person = person_codec.decode(_bytes(record))
    return people.claimed_by([person], request.campaign, request.id, now_ms)


async def _give_back(
    store: Store, identity: Identity, request: MessageRequest, now_ms: int
) -> None:
    keys, key = identity
    token = keys.token(noise.token())

    async def attempt(session: Session) -> tuple[list[Command], None]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        if value is None:
            return [], None
        assert isinstance(value, bytes)
        person = person_codec.decode(value)
        people.release([person], request.id, request.campaign)
        writes = Writes(keys, store.policy, store.retention, now_ms)
        writes.person(key, person)
        return writes.commands(), None

    await commit(store.link, token, attempt, store.counts)


async def _drop_half_made(store: Store, person: Person, now_ms: int) -> None:
    """Takes out what belongs to messages that were never made."""
    named = {c.message for c in person.claims.values() if c.until_ms == 0}
    named |= {s.message for s in person.slots if now_ms - s.at_ms < store.retention.message_ms}
    old = [id_ for id_ in named if now_ms - born_ms(id_) > HALF_MADE_MS]
    missing = {id_ for id_, value in (await _records(store, old)).items() if value is None}
    if not missing:
        return
    person.claims = {
        campaign: claim
        for campaign, claim in person.claims.items()
        if claim.message not in missing or claim.until_ms
    }
    person.slots = [slot for slot in person.slots if slot.message not in missing]


async def _status(store: Store, message_id: str) -> str:
    value = (await _records(store, [message_id]))[message_id]
    # Not there: being made this moment, or delivered so long ago that only the claim is left.
    return "queued" if value is None else MESSAGE_NAMES[unpack_message(message_id, value).status]


async def _records(store: Store, message_ids: Iterable[str]) -> dict[str, bytes | None]:
    by_shard: defaultdict[Keys, list[str]] = defaultdict(list)
    for id_ in message_ids:
        keys = store.keys_for_message(id_)
        assert keys is not None
        by_shard[keys].append(id_)
    found: dict[str, bytes | None] = {}
    for keys, ids in by_shard.items():
        (reply,) = await store.link.call([("MGET", *(keys.message(i) for i in ids))])
        found.update(zip(ids, values_in(reply), strict=True))
    return found


async def copy_states(store: Store, shard: int, now_ms: int) -> int:
    """Copies what is noted in a shard's `sync` set to the identities elsewhere; returns how many
    were.

    Called after each commit that noted something, and by dispatch now and then for what a dead
    process left.
    """
    keys = keys_of(shard)
    (noted,) = await store.link.call([("SRANDMEMBER", keys.sync, SYNC_COUNT)])
    ids = [id_.decode() for id_ in values_in(noted) if id_ is not None]
    for id_ in ids:
        try:
            await _copy_state(store, keys, id_, now_ms)
        except NewerRecordError:
            store.counts.newer += 1  # its note stays, for the process that wrote it
    return len(ids)


async def _copy_state(store: Store, home: Keys, message_id: str, now_ms: int) -> None:
    message_key = home.message(message_id)
    (first,) = await store.link.call([("GET", message_key)])
    copied = None
    if first is not None:
        message = unpack_message(message_id, _bytes(first))
        for identity in foreign_identities(store, message):
            record = await _copy_to(store, identity, message_id, now_ms)
            copied = copied or record  # the oldest: what changed after it keeps the note
    token = home.token(noise.token())

    async def forget(session: Session) -> tuple[list[Command], None]:
        # Only the state that was copied is done with: a newer one keeps its note.
        _, value = await session.call([("WATCH", token, message_key), ("GET", message_key)])
        return ([("SREM", home.sync, message_id)] if value == copied else []), None

    await commit(store.link, token, forget, store.counts)


async def _copy_to(store: Store, identity: Identity, message_id: str, now_ms: int) -> bytes:
    """Copies the message's state to the identity's record; returns the message record that was
    copied."""
    keys, key = identity
    token = keys.token(noise.token())
    home = store.keys_for_message(message_id)
    assert home is not None
    message_key = home.message(message_id)

    async def attempt(session: Session) -> tuple[list[Command], bytes]:
        # The message is read after the WATCH, so a copy of an older state cannot come last.
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        person = Person() if value is None else person_codec.decode(_bytes(value))
        (latest,) = await store.link.call([("GET", message_key)])
        record = _bytes(latest)
        people.copy_state(person, unpack_message(message_id, record), store.policy, now_ms)
        writes = Writes(keys, store.policy, store.retention, now_ms)
        writes.person(key, person)
        return writes.commands(), record

    return await commit(store.link, token, attempt, store.counts)


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value
