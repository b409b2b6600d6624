"""Acceptance, in batches: loads the persons, lets `core.admission` decide each request in turn,
commits the lot.

Requests of one batch see each other's claims and slots, so a hundred copies of one request in one
batch give one accepted and ninety-nine duplicates naming it. A request with an idempotency key is
answered from its first answer when the key is known. Everything a request touches lies in its home
shard, but for an identity or key whose own shard differs: `gateway.store.cross_shard` takes those
first. A request that needs a record of a newer Kaskad is unavailable here; its neighbours go on.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from gateway.core import admission
from gateway.core.plan import Refusal
from gateway.core.policy import OptOut, Policy
from gateway.core.records.codec import NewerRecordError
from gateway.core.records.message import MESSAGE_NAMES, unpack_message
from gateway.core.records.person import Person, person_codec
from gateway.core.records.request import (
    Answer,
    CapHit,
    MessageRequest,
    RememberedAnswer,
    remembered_codec,
)
from gateway.redis.client import Command, Session
from gateway.store.keys import Keys, shard_of
from gateway.store.transaction import values_in
from gateway.store.writes import Retention, Writes
from ratelimit.caps import Full

NOT_REMEMBERED = ("rejected", "conflict", "unavailable")
OPT_OUTS: dict[bytes, OptOut] = {b"marketing": "marketing", b"all": "all"}


class Admission:
    """One try at deciding a batch of requests of one shard; made anew for each try."""

    def __init__(
        self,
        keys: Keys,
        requests: Sequence[MessageRequest],
        policy: Policy,
        retention: Retention,
        now_ms: int,
        token: str,
        shards: int = 1,
    ) -> None:
        self._keys = keys
        self._shards = shards
        self._requests = requests
        self._policy = policy
        self._retention = retention
        self._now_ms = now_ms
        self._token = token
        self._writes = Writes(keys, policy, retention, now_ms)
        self._persons: dict[str, Person] = {}
        self._remembered: dict[str, RememberedAnswer] = {}
        self._newer: set[str] = set()  # keys of records that are left alone
        self._dirty: set[str] = set()
        self._made: set[str] = set()  # reserved messages that exist already

    async def attempt(self, session: Session) -> tuple[list[Command], list[Answer]]:
        opt_outs = await self._load(session)
        answers = [self._decide(r, opt_outs.get(r.home)) for r in self._requests]
        await self._name_winners(session, answers)
        for key in self._dirty:
            self._writes.person(key, self._persons[key])
        for request, answer in zip(self._requests, answers, strict=True):
            self._remember(request, answer)
        return self._writes.commands(), answers

    def _person_keys(self, request: MessageRequest) -> list[str]:
        return [
            self._keys.identity(kind, value)
            for kind, value in request.identities
            if self._is_here(value)
        ]

    def _is_here(self, identity: str) -> bool:
        return shard_of(identity, self._shards) == self._keys.shard

    async def _load(self, session: Session) -> dict[str, OptOut]:
        person_keys = list(dict.fromkeys(k for r in self._requests for k in self._person_keys(r)))
        keyed = list(dict.fromkeys(k for r in self._requests if (k := self._memory_key(r))))
        homes = list(dict.fromkeys(r.home for r in self._requests))
        reserved = [self._keys.message(r.id) for r in self._requests if r.reserved]
        watched = (*person_keys, *keyed, *reserved)
        _, values, scopes = await session.call(
            [
                ("WATCH", self._token, *watched),
                ("MGET", *watched),
                ("HMGET", self._keys.opt_outs, *homes),
            ]
        )
        loaded = values_in(values)
        for key, value in zip(person_keys, loaded, strict=False):
            try:
                self._persons[key] = Person() if value is None else person_codec.decode(value)
            except NewerRecordError:
                self._newer.add(key)
        for key, value in zip(keyed, loaded[len(person_keys) :], strict=False):
            if value is None:
                continue
            try:
                self._remembered[key] = remembered_codec.decode(value)
            except NewerRecordError:
                self._newer.add(key)
        made = loaded[len(person_keys) + len(keyed) :]
        self._made = {key for key, value in zip(reserved, made, strict=True) if value is not None}
        return {
            home: OPT_OUTS[scope]
            for home, scope in zip(homes, values_in(scopes), strict=True)
            if scope is not None
        }

    def _memory_key(self, request: MessageRequest) -> str | None:
        if request.idempotency_key is None:
            return None
        if not self._is_here(f"{request.app}:{request.idempotency_key}"):
            return None
        return self._keys.idempotency(request.app, request.idempotency_key)

    def _decide(self, request: MessageRequest, opt_out: OptOut | None) -> Answer:
        memory_key = self._memory_key(request)
        person_keys = self._person_keys(request)
        if memory_key in self._newer or not self._newer.isdisjoint(person_keys):
            return Answer("unavailable")
        if memory_key is not None and (first := self._remembered.get(memory_key)) is not None:
            if first.body_hash != request.body_hash:
                return Answer("conflict")
            return replace(first.answer, replayed=True)
        if request.reserved and self._keys.message(request.id) in self._made:
            return Answer("accepted", id=request.id, status="queued")
        persons = [self._persons[k] for k in person_keys]
        decision = admission.admit(request, persons, opt_out, self._policy, self._now_ms)
        match decision:
            case admission.Accepted():
                message = decision.message
                self._writes.message(message, 0)
                self._writes.enqueue(message.id, decision.lane)
                self._writes.post(decision.post)
                self._writes.status_change(decision.status_change)
                if message.holds:
                    self._dirty.update(person_keys)
                answer = Answer("accepted", id=message.id, status="queued")
            case admission.Duplicate():
                self._writes.post(decision.post)
                answer = Answer("duplicate", id=decision.message)
            case admission.Suppressed():
                self._writes.post(decision.post)
                answer = suppressed_answer(decision)
            case Refusal():
                return Answer("rejected", pointer=decision.pointer, detail=decision.detail)
        if memory_key is not None:
            # The same key twice in one batch: the second is a replay of the first.
            self._remembered[memory_key] = RememberedAnswer(request.body_hash, answer)
        return answer

    async def _name_winners(self, session: Session, answers: list[Answer]) -> None:
        """Gives each duplicate its winner's status now. A winner whose record is gone was
        delivered: only a delivered message's claim outlives it."""
        fresh = {r.id for r in self._requests}
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
                    try:
                        status = MESSAGE_NAMES[unpack_message(id_, value).status]
                    except NewerRecordError:
                        status = ""
                found[id_] = status
        for answer in answers:
            if answer.outcome == "duplicate" and answer.status is None:
                answer.status = found.get(answer.id or "", "queued")
                if not answer.status:
                    answer.outcome = "unavailable"  # what its winner is at is not for us to read

    def _remember(self, request: MessageRequest, answer: Answer) -> None:
        key = self._memory_key(request)
        if key is None or answer.replayed or answer.outcome in NOT_REMEMBERED:
            return
        self._writes.remember(key, RememberedAnswer(request.body_hash, answer))


def suppressed_answer(decision: admission.Suppressed) -> Answer:
    if decision.full is None:
        return Answer("suppressed", reason="opted_out")
    return Answer("suppressed", reason="frequency_cap", cap=cap_hit(decision.full))


def cap_hit(full: Full) -> CapHit:
    cap = full.cap
    return CapHit(cap.name, cap.limit, cap.window, full.count, full.retry_at_ms)
