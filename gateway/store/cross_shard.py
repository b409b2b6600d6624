"""What a request needs in a shard that is not its phone number's: the caller's `user` id, the
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
from typing import TYPE_CHECKING

import msgspec

from gateway.core import persons as people
from gateway.core.admission import request_post
from gateway.core.model import (
    MESSAGE_NAMES,
    SCHEMA,
    Person,
    Remembered,
    Send,
    born_ms,
    decode_person,
    decode_remembered,
    encode,
    unpack_message,
)
from gateway.redis.client import Command, Session
from gateway.store import randomness as noise
from gateway.store.admit import Answer, cap_hit, decode_answer
from gateway.store.keys import Keys, keys_of, shard_of
from gateway.store.transaction import commit, values_in
from gateway.store.writes import Writes

if TYPE_CHECKING:
    from gateway.store.store import Store

HALF_MADE_MS = 60_000
SYNC_COUNT = 200


def foreign_user(store: Store, send: Send) -> Keys | None:
    """The keys of the shard that holds the caller's id, where it is not the phone's."""
    if send.user is None:
        return None
    shard = shard_of(send.user, store.shards)
    return None if shard == store.shard_of_phone(send.to) else keys_of(shard)


def foreign_key(store: Store, send: Send) -> Keys | None:
    """The keys of the shard that holds the idempotency key, where it is not the phone's."""
    if send.idempotency_key is None:
        return None
    shard = shard_of(f"{send.app}:{send.idempotency_key}", store.shards)
    return None if shard == store.shard_of_phone(send.to) else keys_of(shard)


async def admit(store: Store, shard: int, sends: Sequence[Send], now_ms: int) -> list[Answer]:
    """As `Store.admit`, for requests of one home shard that may need others."""
    answers: dict[int, Answer] = {}
    plain: list[tuple[int, Send]] = []
    for index, send in enumerate(sends):
        if foreign_user(store, send) is None and foreign_key(store, send) is None:
            plain.append((index, send))
            continue
        # One at a time: two requests of one batch may meet in the same foreign record.
        answers[index] = await _admit_reserved(store, shard, send, now_ms)
    made = await store.admit_at_home(shard, [send for _, send in plain], now_ms)
    answers.update({index: answer for (index, _), answer in zip(plain, made, strict=True)})
    return [answers[index] for index in range(len(sends))]


async def _admit_reserved(store: Store, shard: int, send: Send, now_ms: int) -> Answer:
    key_keys, user_keys = foreign_key(store, send), foreign_user(store, send)
    again = made = False
    if key_keys is not None:
        opened = await _open_key(store, key_keys, send)
        if isinstance(opened, Answer):
            return opened
        # Opened before and never closed: its message may be made, and over by now.
        again = opened.id != send.id
        send = opened
        made = again and (await _records(store, [send.id]))[send.id] is not None
    answer = None
    if user_keys is not None and not made:
        answer = await _take_user(store, user_keys, send, now_ms)
    if answer is None:
        home = msgspec.structs.replace(send, reserved=True)
        (answer,) = await store.admit_at_home(shard, [home], now_ms)
    if user_keys is not None and answer.id != send.id:
        await _give_user_back(store, user_keys, send, now_ms)
    elif user_keys is not None and again:
        # Somebody else may have made the message and gone on meanwhile: its record says what holds.
        assert send.user is not None
        await _copy_to(store, user_keys, send.user, send.id, now_ms)
    if key_keys is not None:
        await _close_key(store, key_keys, send, answer)
    return answer


async def _open_key(store: Store, keys: Keys, send: Send) -> Answer | Send:
    """Claims the idempotency key for this request, or answers from what it holds.

    A key that was opened for the same body and never closed gives its message id to this request:
    whichever of the two comes first makes the message, the other finds it made.
    """
    assert send.idempotency_key is not None
    key = keys.idempotency(send.app, send.idempotency_key)
    token = keys.token(noise.token())

    async def attempt(session: Session) -> tuple[list[Command], Answer | Send]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        if value is None:
            first = Answer("accepted", id=send.id, status="queued")
            record = Remembered(SCHEMA, send.body_hash, encode(first), open=True)
            keep = store.retention.idempotency_ms
            return [("SET", key, encode(record), "PX", keep)], send
        assert isinstance(value, bytes)
        held = decode_remembered(value)
        if held.body_hash != send.body_hash:
            return [], Answer("conflict")
        answer = decode_answer(held.answer)
        if not held.open:
            answer.replayed = True
            return [], answer
        assert answer.id is not None
        if store.keys_for_message(answer.id) != keys_of(store.shard_of_phone(send.to)):
            return [], Answer("conflict")  # another number gives another body: never reached
        return [], msgspec.structs.replace(send, id=answer.id)

    return await commit(store.link, token, attempt, store.counts)


async def _close_key(store: Store, keys: Keys, send: Send, answer: Answer) -> None:
    """Keeps the answer under the key, or frees a key whose request was rejected."""
    assert send.idempotency_key is not None
    key = keys.idempotency(send.app, send.idempotency_key)
    if answer.outcome in ("rejected", "conflict"):
        await store.link.call([("DEL", key)])
        return
    first = msgspec.structs.replace(answer, replayed=False)
    record = encode(Remembered(SCHEMA, send.body_hash, encode(first)))
    await store.link.call([("SET", key, record, "PX", store.retention.idempotency_ms)])


async def _take_user(store: Store, keys: Keys, send: Send, now_ms: int) -> Answer | None:
    """Takes claim and slot under the caller's id; the refusal where it is taken or full."""
    assert send.user is not None
    key = keys.user(send.user)
    token = keys.token(noise.token())
    rule = store.policy.categories.get(send.category)
    route = store.policy.routes.get(send.route or rule.route) if rule is not None else None
    if route is None:
        return None  # the home shard's decision says what is wrong
    channel = store.policy.providers[route[0].provider].channel

    async def duplicate(winner: str, writes: Writes) -> tuple[list[Command], Answer]:
        writes.post(request_post(send, "duplicates"))
        answer = Answer("duplicate", id=winner, status=await _status(store, winner))
        return writes.commands(), answer

    async def attempt(session: Session) -> tuple[list[Command], Answer | None]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        assert value is None or isinstance(value, bytes)
        person = Person() if value is None else decode_person(value)
        await _drop_half_made(store, person, now_ms)
        writes = Writes(keys, store.policy, store.retention, now_ms)
        if send.campaign is not None:
            winner = people.claimed_by([person], send.campaign, send.id, now_ms)
            if winner is not None:
                return await duplicate(winner, writes)
        full = people.full_cap([person], store.policy, send.category, channel, now_ms, but=send.id)
        if full is not None:
            winner = await _winner_at_home(store, send, now_ms)
            if winner is not None:  # named before a full cap, as with one shard
                return await duplicate(winner, writes)
            writes.post(request_post(send, "suppressed"))
            answer = Answer("suppressed", reason="frequency_cap", cap=cap_hit(full))
            return writes.commands(), answer
        if not people.take(
            [person], send.id, send.campaign, send.category, channel, store.policy, now_ms
        ):
            return [], None
        writes.person(key, person)
        return writes.commands(), None

    return await commit(store.link, token, attempt, store.counts)


async def _winner_at_home(store: Store, send: Send, now_ms: int) -> str | None:
    """The message that holds (person, campaign) by the phone number."""
    if send.campaign is None:
        return None
    key = keys_of(store.shard_of_phone(send.to)).phone(send.to)
    (value,) = await store.link.call([("GET", key)])
    if value is None:
        return None
    return people.claimed_by([decode_person(_bytes(value))], send.campaign, send.id, now_ms)


async def _give_user_back(store: Store, keys: Keys, send: Send, now_ms: int) -> None:
    assert send.user is not None
    key = keys.user(send.user)
    token = keys.token(noise.token())

    async def attempt(session: Session) -> tuple[list[Command], None]:
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        if value is None:
            return [], None
        assert isinstance(value, bytes)
        person = decode_person(value)
        people.release([person], send.id, send.campaign)
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
        await _copy_state(store, keys, id_, now_ms)
    return len(ids)


async def _copy_state(store: Store, home: Keys, message_id: str, now_ms: int) -> None:
    message_key = home.message(message_id)
    (first,) = await store.link.call([("GET", message_key)])
    copied = None
    if first is not None:
        user = unpack_message(message_id, _bytes(first)).user
        assert user is not None
        copied = await _copy_to(
            store, keys_of(shard_of(user, store.shards)), user, message_id, now_ms
        )
    token = home.token(noise.token())

    async def forget(session: Session) -> tuple[list[Command], None]:
        # Only the state that was copied is done with: a newer one keeps its note.
        _, value = await session.call([("WATCH", token, message_key), ("GET", message_key)])
        return ([("SREM", home.sync, message_id)] if value == copied else []), None

    await commit(store.link, token, forget, store.counts)


async def _copy_to(store: Store, keys: Keys, user: str, message_id: str, now_ms: int) -> bytes:
    """Copies the message's state to the identity's record; returns the message record that was
    copied."""
    key = keys.user(user)
    token = keys.token(noise.token())
    home = store.keys_for_message(message_id)
    assert home is not None
    message_key = home.message(message_id)

    async def attempt(session: Session) -> tuple[list[Command], bytes]:
        # The message is read after the WATCH, so a copy of an older state cannot come last.
        _, value = await session.call([("WATCH", token, key), ("GET", key)])
        person = Person() if value is None else decode_person(_bytes(value))
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
