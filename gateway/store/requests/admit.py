"""Acceptance, in batches: loads the persons, lets `core.admission` decide each request in turn,
commits the lot.

Requests of one batch see each other's claims and slots, so a hundred copies of one request in one
batch give one accepted and ninety-nine duplicates naming it. A request with an idempotency key is
answered from its first answer when the key is known. Everything a request touches lies in the shard
of the person's home; a request for which that is not so yet is left undecided, and what it needs is
`gateway.store.people.identities`' work. A request that needs a record of a newer Kaskad is
unavailable here; one that needs a record which cannot be read fails. Its neighbours go on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from gateway.core import admission
from gateway.core.people import persons, reach
from gateway.core.people.identities import enlist
from gateway.core.people.opt_outs import NONE, OptOuts, widest
from gateway.core.plan import Rejection, hold_ms
from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.message import MESSAGE_NAMES
from gateway.core.records.message_codec import unpack_message
from gateway.core.records.person import Person
from gateway.core.records.request import (
    Answer,
    CapRefusal,
    RememberedAnswer,
    remembered_codec,
    replay,
)
from gateway.redis.client import Command, Session
from gateway.store.base import Once, StoreBase, read_messages
from gateway.store.keys import Keys, shard_of
from gateway.store.people import opt_outs
from gateway.store.people.people import (
    Elsewhere,
    NotReadable,
    People,
    addresses_in,
    look_after_waiting,
    read_opt_outs,
    read_others_of,
    scopes_of,
    take_opt_outs,
)
from gateway.store.people.silence import look_for_reactions
from gateway.store.reactions.links import ShardLinks
from gateway.store.requests.asks import Ask, Undecided
from gateway.store.requests.contents import ShardVersions
from gateway.store.transaction import values_in
from gateway.store.writes import NEW

NOT_REMEMBERED = ("rejected", "conflict", "unavailable", "failed", "over_quota")


class Admission:
    """One try at deciding a batch of requests whose homes are of one shard; made anew for each
    try."""

    def __init__(
        self, store: StoreBase, keys: Keys, asks: Sequence[Ask], now_ms: int, once: Once
    ) -> None:
        self._store = store
        self._keys = keys
        self._redis = store.redis
        self._shards = store.shards
        self._asks = asks
        self._policy = store.policy
        self._now_ms = now_ms
        self._token, self._funds = once
        self._writes = store.writes(keys, now_ms)
        self._versions = ShardVersions(keys, (ask.request for ask in asks), now_ms)
        self._links = ShardLinks(store.links, keys, store.policy.links.ttl_ms, now_ms)
        self._people = People(keys, store.policy, now_ms)
        self._others: dict[str, list[Person]] = {}  # by home
        self._asked: set[str] = set()  # addresses whose opt-outs are known
        self._unasked: list[str] = []  # that are named, and of other shards
        self._opt_outs: dict[str, OptOuts] = {}  # of those that have one
        self._remembered: dict[str, RememberedAnswer] = {}
        self._newer: set[str] = set()  # keys of answers that are left alone
        self._made: set[str] = set()  # ids of opened keys whose message exists already

    async def attempt(self, session: Session) -> tuple[list[Command], list[Answer | Undecided]]:
        if tracked := sum(ask.request.tracked for ask in self._asks):
            await self._links.prepare(self._redis, tracked)
        answers = await self._decided(session)
        self._people.write(self._writes)
        for ask, answer in zip(self._asks, answers, strict=True):
            if ask.request.idempotency_key is not None and isinstance(answer, Answer):
                self._remember(ask, answer)
        await self._writes.learn(self._redis)
        return [*self._versions.writes(), *self._links.writes(), *self._writes.commands()], answers

    async def _decided(self, session: Session) -> list[Answer | Undecided]:
        """Reads what the requests need, and decides them."""
        await self._load(session)
        for ask in self._asks:
            if (ask.found or ask.listed) and self._is_read(ask):
                self._enlist(ask)
        await self._load_elsewhere()
        if self._policy.declared.asks_silence:
            read = [(a.request.campaign, self._holders(a)) for a in self._asks if self._is_read(a)]
            await look_for_reactions(self._store, read)
        answers = [self._decide(ask) for ask in self._asks]
        await self._name_winners(answers)
        return answers

    async def _load(self, session: Session) -> None:
        for ask in self._asks:
            if ask.home:
                self._people.ask(ask.home)
        people = self._people.wanted()
        by_key = [a for a in self._asks if a.request.idempotency_key is not None]
        keyed = list(dict.fromkeys(k for a in by_key if (k := self._memory_key(a))))
        opened = [a.request.id for a in by_key if a.opened]
        watched = (*people, *keyed, *self._keys.messages(opened))
        read = watched or (self._token,)  # of who has devices alone nothing is kept
        first: Command = ("WATCH", self._token, *watched, *self._versions.keys)
        commands: list[Command] = [first, ("MGET", *read)]
        named = dict.fromkeys(addresses_in([i for a in self._asks for i in a.identities]))
        here = [address for address in named if self._is_here(address)]
        if here:
            commands.append(("HMGET", self._keys.opt_outs, *here))
            commands.append(("GET", self._keys.opt_outs_mark))
        replies = await session.call([*commands, *self._versions.reads()])
        self._versions.take(replies[len(commands) :])
        values = values_in(replies[1])[: len(watched)]
        self._people.read(people, values[: len(people)])
        for key, value in zip(keyed, values[len(people) :], strict=False):
            if value is None:
                continue
            try:
                self._remembered[key] = remembered_codec.decode(value)
            except NewerRecordError:
                self._newer.add(key)
            except UnreadableRecordError as error:
                raise error.at(key) from None
        made = values[len(people) + len(keyed) :]
        self._made = {id_ for id_, value in zip(opened, made, strict=True) if value is not None}
        if here:
            unknown = take_opt_outs(here, values_in(replies[2]), self._opt_outs)
            if (mark := replies[3]) is not None:
                self._opt_outs |= await opt_outs.of_the_erased(
                    self._redis, self._shards, unknown, mark
                )
        self._asked.update(here)
        self._unasked = [address for address in named if address not in self._asked]
        if self._people.any_apart:
            await self._read_claims(session)

    async def _read_claims(self, session: Session) -> None:
        for ask in self._asks:
            for campaign in self._policy.declared.asked_by(ask.request.campaign):
                self._people.ask_claim(ask.home, campaign)
        await self._people.read_claims(session)

    def _is_read(self, ask: Ask) -> bool:
        """Whether its person is recognised, and the record is for this process to read."""
        return bool(ask.home) and ask.home not in self._people.unread

    def _enlist(self, ask: Ask) -> None:
        person = self._people[ask.home]
        if not person.home and enlist(person, ask.home, ask.found, ask.listed, self._now_ms):
            self._people.change(ask.home)

    async def _load_elsewhere(self) -> None:
        """What is not in this shard of persons with several addresses, or who were several."""
        missing = dict.fromkeys(self._unasked)
        campaigns: defaultdict[str, set[str]] = defaultdict(set)
        apart: dict[str, tuple[str, ...]] = {}
        for ask in self._asks:
            if not self._is_read(ask):
                continue
            person = self._people[ask.home]
            if person.aliases or ask.home != ask.identities[0]:
                for address in self._addresses(ask):
                    if address not in self._asked:
                        missing[address] = None
            if person.former or ask.apart:
                campaigns[ask.home].update(self._policy.declared.asked_by(ask.request.campaign))
                apart[ask.home] = (*apart.get(ask.home, ()), *ask.apart)
        if missing:
            self._opt_outs |= await read_opt_outs(self._redis, self._shards, missing)
        asked = {
            home: Elsewhere(self._people[home], sorted(wanted), apart[home])
            for home, wanted in campaigns.items()
        }
        read = await read_others_of(self._redis, self._shards, asked) if asked else {}
        for home, others in read.items():
            if isinstance(others, NotReadable):
                self._people.unread[home] = others
                continue
            person = self._people[home]
            person.former = [
                i for i in person.former if i in others and others[i].keep_ms > self._now_ms
            ]
            self._others[home] = list(others.values())
            if reach.take_over(person, others.values()):
                self._people.change(home)
        elsewhere = [person for found in self._others.values() for person in found]
        capped = self._people.with_slots() + elsewhere
        await look_after_waiting(self._store, capped, self._now_ms)

    def _addresses(self, ask: Ask) -> list[str]:
        """Where the person might have opted out."""
        known = ask.identities
        person = self._people[ask.home]
        if person.aliases or ask.home not in known:
            known = [*known, ask.home, *person.aliases]
        return addresses_in(known)

    def _is_here(self, value: str) -> bool:
        return shard_of(value, self._shards) == self._keys.shard

    def _memory_key(self, ask: Ask) -> str | None:
        """Where its first answer is kept; None when that is not this transaction's business."""
        request = ask.request
        if request.idempotency_key is None or ask.opened:
            return None
        if not self._is_here(f"{request.app}:{request.idempotency_key}"):
            return None
        return self._keys.idempotency(request.app, request.idempotency_key)

    def _decide(self, ask: Ask) -> Answer | Undecided:
        unread = self._people.unread.get(ask.home)
        if isinstance(unread, UnreadableRecordError):
            raise unread
        if unread is not None:
            return Answer("unavailable")
        if ask.request.idempotency_key is not None:
            return self._decide_keyed(ask)
        return self._decide_person(ask)

    def _decide_keyed(self, ask: Ask) -> Answer | Undecided:
        request, memory_key = ask.request, self._memory_key(ask)
        if memory_key is None:
            if not ask.opened:
                return Undecided(keyed=True)
            if request.id in self._made:
                return Answer("accepted", id=request.id, status="queued")
            return self._decide_person(ask)
        if memory_key in self._newer:
            return Answer("unavailable")
        if (first := self._remembered.get(memory_key)) is not None:
            if first.open:
                return Undecided(keyed=True)
            return replay(first, request)
        answer = self._decide_person(ask)
        if isinstance(answer, Answer) and answer.outcome not in NOT_REMEMBERED:
            # The same key twice in one batch: the second is a replay of the first.
            self._remembered[memory_key] = RememberedAnswer(request.body_hash, answer)
        return answer

    def _decide_person(self, ask: Ask) -> Answer | Undecided:
        if not ask.home:
            return self._admit(ask, [])
        person = self._people[ask.home]
        if person.home:
            return Undecided(person.home)
        if not self._is_known(ask, person):
            return Undecided()
        return self._admit(ask, self._holders(ask))

    def _holders(self, ask: Ask) -> list[Person]:
        return [self._people[ask.home], *self._others.get(ask.home, ())]

    def _is_known(self, ask: Ask, person: Person) -> bool:
        """Whether whoever the request names is of this person, and stays so for as long as its
        message may hold something."""
        aliases = person.aliases
        if not aliases and len(ask.identities) == 1 and ask.identities[0] == ask.home:
            return True
        if ask.apart:
            return True
        if len(ask.identities) == 1 and not persons.may_hold(ask.request, self._policy):
            return True
        for identity in ask.identities:
            if identity != ask.home and identity not in aliases:
                return False
        if not aliases:
            return True
        return person.linked_ms >= self._now_ms + hold_ms(ask.request, self._policy, self._now_ms)

    def _admit(self, ask: Ask, people: Sequence[Person]) -> Answer | Undecided:
        decision = self._judge(ask, people)
        match decision:
            case admission.Admitted():
                message = decision.message
                self._versions.need(message)
                if ask.request.tracked:
                    self._links.take(message, decision.links)
                if people and _is_more(ask, people[0].aliases):
                    message.person = ask.home
                self._writes.status_changes(message, [decision.status_change])
                self._writes.message(message, NEW)
                if message.reserved:
                    self._writes.budgets.reserve(message.reserved, self._funds)
                self._writes.index(message, ask.identities)
                if decision.lane is not None:
                    self._writes.enqueue(message, decision.lane)
                self._writes.post(decision.post)
                if message.holds:
                    self._people.change(ask.home)
                return Answer("accepted", id=message.id, status="queued", held=message.held)
            case admission.Duplicate():
                self._writes.post(decision.post)
                self._writes.count_request(ask.request, "duplicates")
                return Answer("duplicate", id=decision.message)
            case admission.Suppressed():
                self._writes.post(decision.post)
                self._writes.count_request(ask.request, "suppressed")
                return suppressed_answer(decision)
            case admission.Unfunded():
                return Undecided(needs=decision.needs)
            case admission.OverQuota():
                return Answer("over_quota", detail=decision.detail)
            case Rejection():
                return Answer("rejected", pointer=decision.pointer, detail=decision.detail)

    def _judge(self, ask: Ask, people: Sequence[Person]) -> admission.Decision:
        opt_outs, known = self._opt_outs_of(ask), self._store.tallies.known
        return admission.admit(
            ask.request,
            people,
            opt_outs,
            self._policy,
            self._now_ms,
            ask.home,
            known,
            self._funds,
            ask.full,
        )

    def _opt_outs_of(self, ask: Ask) -> OptOuts:
        """All that the person opted out of under any address."""
        told, lacks = NONE, ask.request.lacks_consent
        if self._opt_outs and ask.home:
            told = scopes_of(self._addresses(ask), self._opt_outs)
        return widest((told, lacks)) if lacks else told

    async def _name_winners(self, answers: Sequence[Answer | Undecided]) -> None:
        """Gives each duplicate its winner's status now. A winner whose record is gone was
        delivered: only a delivered message's claim outlives it."""
        unnamed = [
            a
            for a in answers
            if isinstance(a, Answer) and a.outcome == "duplicate" and a.status is None
        ]
        if not unnamed:
            return
        fresh = {ask.request.id for ask in self._asks}
        asked = dict.fromkeys(a.id for a in unnamed if a.id is not None)
        older = [id_ for id_ in asked if id_ not in fresh]
        found: dict[str, str] = {}
        if older:
            for id_, (key, value) in (await read_messages(self._store, older)).items():
                found[id_] = "delivered"
                if value is not None:
                    try:
                        found[id_] = MESSAGE_NAMES[unpack_message(id_, value).status]
                    except NewerRecordError:
                        found[id_] = ""
                    except UnreadableRecordError as error:
                        raise error.at(key) from None
        for answer in unnamed:
            answer.status = found.get(answer.id or "", "queued")
            if not answer.status:
                answer.outcome = "unavailable"  # what its winner is at is not for us to read

    def _remember(self, ask: Ask, answer: Answer) -> None:
        key = self._memory_key(ask)
        if key is None or answer.replayed or answer.outcome in NOT_REMEMBERED:
            return
        self._writes.remember(key, RememberedAnswer(ask.request.body_hash, answer))


def _is_more(ask: Ask, aliases: Sequence[str]) -> bool:
    """Whether its person is known by more than the request names, or not under its first
    identity."""
    if ask.home != ask.identities[0]:
        return True
    return bool(aliases) and not set(ask.identities).issuperset(aliases)


def suppressed_answer(decision: admission.Suppressed) -> Answer:
    cap = CapRefusal.of(decision.full) if decision.full is not None else None
    return Answer("suppressed", reason=decision.reason, cap=cap, budget=decision.budget)
