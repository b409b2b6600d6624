"""Acceptance, in batches: loads the persons, lets `core.admission` decide each request in turn,
commits the lot.

Requests of one batch see each other's claims and slots, so a hundred copies of one request in one
batch give one accepted and ninety-nine duplicates naming it. A request with an idempotency key is
answered from its first answer when the key is known. Everything a request touches lies in the shard
of its phone number, but for an identity or key whose own shard differs: `gateway.store.cross_shard`
takes those first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from gateway.core import admission
from gateway.core.admission import OptOut
from gateway.core.model import (
    MESSAGE_NAMES,
    SCHEMA,
    Person,
    Remembered,
    Send,
    decode_person,
    decode_remembered,
    encode,
    unpack_message,
)
from gateway.core.policy import Policy
from gateway.redis.client import Command, Session
from gateway.store.keys import Keys, shard_of
from gateway.store.transaction import values_in
from gateway.store.writes import Retention, Writes, day_of
from ratelimit.caps import Full

OPT_OUTS: dict[bytes, OptOut] = {b"marketing": "marketing", b"all": "all"}


class CapHit(msgspec.Struct, array_like=True, frozen=True):
    """The cap that refused, as the caller is told."""

    name: str
    limit: int
    window: str
    count: int
    retry_at_ms: int


class Answer(msgspec.Struct, array_like=True):
    """What became of one request. `conflict`: its idempotency key was used before with another
    body."""

    outcome: Literal["accepted", "duplicate", "suppressed", "rejected", "conflict"]
    id: str | None = None
    status: str | None = None
    reason: str | None = None
    cap: CapHit | None = None
    pointer: str = ""
    detail: str = ""
    replayed: bool = False


decode_answer = msgspec.msgpack.Decoder(Answer).decode


class Admission:
    """One try at deciding a batch of requests of one shard; made anew for each try."""

    def __init__(
        self,
        keys: Keys,
        sends: Sequence[Send],
        policy: Policy,
        retention: Retention,
        now_ms: int,
        token: str,
        shards: int = 1,
    ) -> None:
        self._keys = keys
        self._shards = shards
        self._sends = sends
        self._policy = policy
        self._retention = retention
        self._now_ms = now_ms
        self._day = day_of(now_ms)
        self._token = token
        self._writes = Writes(keys, policy, retention, now_ms)
        self._persons: dict[str, Person] = {}
        self._remembered: dict[str, Remembered] = {}
        self._dirty: set[str] = set()
        self._made: set[str] = set()  # reserved messages that exist already

    async def attempt(self, session: Session) -> tuple[list[Command], list[Answer]]:
        opt_outs = await self._load(session)
        answers = [self._decide(s, opt_outs.get(s.to)) for s in self._sends]
        await self._name_winners(session, answers)
        for key in self._dirty:
            self._writes.person(key, self._persons[key])
        for send, answer in zip(self._sends, answers, strict=True):
            self._remember(send, answer)
        return self._writes.commands(), answers

    def _person_keys(self, send: Send) -> list[str]:
        keys = [self._keys.phone(send.to)]
        if send.user is not None and self._is_here(send.user):
            keys.append(self._keys.user(send.user))
        return keys

    def _is_here(self, identity: str) -> bool:
        return shard_of(identity, self._shards) == self._keys.shard

    async def _load(self, session: Session) -> dict[str, OptOut]:
        person_keys = list(dict.fromkeys(k for s in self._sends for k in self._person_keys(s)))
        keyed = list(dict.fromkeys(k for s in self._sends if (k := self._memory_key(s))))
        phones = list(dict.fromkeys(s.to for s in self._sends))
        reserved = [self._keys.message(s.id) for s in self._sends if s.reserved]
        watched = (*person_keys, *keyed, *reserved)
        _, values, scopes = await session.call(
            [
                ("WATCH", self._token, *watched),
                ("MGET", *watched),
                ("HMGET", self._keys.opt_outs, *phones),
            ]
        )
        loaded = values_in(values)
        for key, value in zip(person_keys, loaded, strict=False):
            self._persons[key] = Person() if value is None else decode_person(value)
        for key, value in zip(keyed, loaded[len(person_keys) :], strict=False):
            if value is not None:
                self._remembered[key] = decode_remembered(value)
        made = loaded[len(person_keys) + len(keyed) :]
        self._made = {key for key, value in zip(reserved, made, strict=True) if value is not None}
        return {
            phone: OPT_OUTS[scope]
            for phone, scope in zip(phones, values_in(scopes), strict=True)
            if scope is not None
        }

    def _memory_key(self, send: Send) -> str | None:
        if send.idempotency_key is None:
            return None
        if not self._is_here(f"{send.app}:{send.idempotency_key}"):
            return None
        return self._keys.idempotency(send.app, send.idempotency_key)

    def _decide(self, send: Send, opt_out: OptOut | None) -> Answer:
        memory_key = self._memory_key(send)
        if memory_key is not None and (first := self._remembered.get(memory_key)) is not None:
            if first.body_hash != send.body_hash:
                return Answer("conflict")
            answer = decode_answer(first.answer)
            answer.replayed = True
            return answer
        if send.reserved and self._keys.message(send.id) in self._made:
            return Answer("accepted", id=send.id, status="queued")
        person_keys = self._person_keys(send)
        persons = [self._persons[k] for k in person_keys]
        decision = admission.admit(send, persons, opt_out, self._policy, self._now_ms, self._day)
        match decision:
            case admission.Accepted():
                message = decision.message
                self._writes.message(message, 0)
                self._writes.enqueue(message.id, decision.lane)
                self._writes.post(decision.post)
                self._writes.event(decision.event)
                if message.holds:
                    self._dirty.update(person_keys)
                answer = Answer("accepted", id=message.id, status="queued")
            case admission.Duplicate():
                self._writes.post(decision.post)
                answer = Answer("duplicate", id=decision.message)
            case admission.Suppressed():
                self._writes.post(decision.post)
                answer = suppressed_answer(decision)
            case admission.Rejected():
                return Answer("rejected", pointer=decision.pointer, detail=decision.detail)
        if memory_key is not None:
            # The same key twice in one batch: the second is a replay of the first.
            self._remembered[memory_key] = Remembered(SCHEMA, send.body_hash, encode(answer))
        return answer

    async def _name_winners(self, session: Session, answers: list[Answer]) -> None:
        """Gives each duplicate its winner's status now. A winner whose record is gone was
        delivered: only a delivered message's claim outlives it."""
        fresh = {s.id for s in self._sends}
        asked = {
            a.id: None
            for a in answers
            if a.outcome == "duplicate" and a.status is None and a.id is not None
        }
        older = [id_ for id_ in asked if id_ not in fresh]
        found: dict[str, str] = {}
        if older:
            (values,) = await session.call([("MGET", *(self._keys.message(i) for i in older))])
            for id_, value in zip(older, values_in(values), strict=True):
                status = "delivered"
                if value is not None:
                    status = MESSAGE_NAMES[unpack_message(id_, value).status]
                found[id_] = status
        for answer in answers:
            if answer.outcome == "duplicate" and answer.status is None:
                answer.status = found.get(answer.id or "", "queued")

    def _remember(self, send: Send, answer: Answer) -> None:
        key = self._memory_key(send)
        if key is None or answer.replayed or answer.outcome in ("rejected", "conflict"):
            return
        record = Remembered(SCHEMA, send.body_hash, encode(answer))
        self._writes.remember(key, encode(record))


def suppressed_answer(decision: admission.Suppressed) -> Answer:
    if decision.full is None:
        return Answer("suppressed", reason="opted_out")
    return Answer("suppressed", reason="frequency_cap", cap=cap_hit(decision.full))


def cap_hit(full: Full) -> CapHit:
    cap = full.cap
    return CapHit(cap.name, cap.limit, cap.window, full.count, full.retry_at_ms)
