"""From the bytes of one message to its place in a batch, the same for every way of sending.

A message is read and checked, held against the backlog, and queued for its shard's next admission.
What is wrong with it comes back as a Problem. A full queue raises QueueFull; while Redis is
unavailable each message that waits gets RedisUnavailable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec
import structlog

from gateway.core.addresses import person_id
from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.request import Answer, KeyedBody, MessageRequest
from gateway.core.records.words import importance_named
from gateway.failpoints import failpoint
from gateway.ingress.api.bodies.decoder import moment_ms, too_long
from gateway.ingress.api.messages.request_body import RequestBody
from gateway.ingress.api.messages.requests import (
    Faulty,
    Malformed,
    body_hash,
    decoded,
    read,
    with_one_spelling,
)
from gateway.ingress.api.messages.sayings import WordsUnread
from gateway.ingress.api.results import refusal_of
from gateway.ingress.http.problems import Problem, invalid, problem
from gateway.ingress.intake.backlog import Backlog
from gateway.ingress.intake.batcher import Batcher, TakeResult
from gateway.ingress.intake.draining import Draining
from gateway.ingress.intake.known_users import KnownUsers
from gateway.ingress.intake.quotas import Quotas
from gateway.ingress.intake.server_watch import ServerWatch
from gateway.ingress.metrics import IngressMetrics
from gateway.redis.errors import RedisError, RedisUnavailable
from gateway.store.base import BATCH_MAX
from gateway.store.requests import countries
from gateway.store.requests.countries import ReachedCountry
from gateway.store.requests.dry_run import DryAnswer
from gateway.store.requests.idempotency import recall
from gateway.store.store import Store
from gateway.store.waiting import zones

Prepared: TypeAlias = MessageRequest | Problem | Answer  # the latter two are answered already

WORDS_TRIES_MAX = 4
ASKED_MAX = 16  # campaigns, between two looks at what is declared: each is a round trip
NEWER_WORDS = (
    "What its campaign says was written by a newer Kaskad, and an older one answered: send it "
    "again."
)

_log = structlog.get_logger("ingress")


class AdmissionQueue:
    """Reads messages and has them admitted in batches. `now_ms` is the edge's clock."""

    def __init__(
        self,
        store: Store,
        backlog: Backlog,
        servers: ServerWatch,
        draining: Draining,
        quotas: Quotas,
        metrics: IngressMetrics,
        now_ms: Callable[[], int],
    ) -> None:
        self.store = store
        self.backlog = backlog
        self.servers = servers
        self.draining = draining
        self.quotas = quotas
        self.metrics = metrics
        self._now_ms = now_ms
        self._users = KnownUsers(store, now_ms)
        self._unheard_of: set[str] = set()  # campaigns that were asked for
        self._looked_ms = -1  # the look since when they were
        self._reached: set[ReachedCountry] = set()  # is known to be noted; apps times countries
        self.batcher: Batcher[MessageRequest, Answer] = Batcher(
            store.shards, self._admit, batch_max=BATCH_MAX
        )

    async def prepare(self, raw: bytes, app: str, key: str | None, trace: str = "") -> Prepared:
        """Reads one message; `key` is its idempotency key if it names none itself, `trace` the
        context that it carries. What is declared of its campaign, and what that says, is read where
        this process does not know it: else what the message leaves to it would be missing. An
        answer: its key's first one, where it would be refused now, since its campaign or the
        configuration changed or there is no room for what is new."""
        try:
            if not self.store.declarations.loaded:  # Redis was away when this process began
                await self.store.know_campaigns(self._now_ms())
            looked = False
            for _ in range(WORDS_TRIES_MAX):
                found = self._prepare(raw, app, key, trace)
                if isinstance(found, Faulty):
                    request = decoded(raw)
                    if looked or not await self._declared_more(request):
                        return await self._first_answer(request, app, key) or self._faulty(found)
                    looked = True
                elif isinstance(found, MessageRequest):  # as almost always
                    if not looked and self._is_unheard_of(found.campaign):
                        looked = True
                        if await self._declared_more(found):
                            continue
                    return (self._is_crowded(found) and await self._told(found)) or found
                elif isinstance(found, Problem):
                    return found
                elif not await self.store.read_words(found.campaign, found.words):
                    await self.store.look_at_campaigns(self._now_ms())
        except RedisUnavailable as error:
            return refusal_of(error).problem
        except (msgspec.DecodeError, NewerRecordError):
            return problem("unavailable", NEWER_WORDS)
        return problem("unavailable", "What its campaign says is being changed: send it again.")

    def _is_unheard_of(self, campaign: str | None) -> bool:
        """Whether a campaign is to be asked for, as another process may have declared it just now:
        it is not known to be declared, and was not asked for since this process last looked."""
        if campaign is None or campaign in self.store.declarations.declared.campaigns:
            return False
        if self._looked_ms != (looked_ms := self.store.declarations.looked_ms):
            self._looked_ms = looked_ms
            self._unheard_of.clear()
        if campaign in self._unheard_of or len(self._unheard_of) >= ASKED_MAX:
            return False
        self._unheard_of.add(campaign)
        return True

    async def _declared_more(self, request: RequestBody | MessageRequest | None) -> bool:
        """Whether another process declared something that this one does not know, of a request that
        names a campaign: who declares one may send its messages at once, wherever. Raises
        RedisUnavailable."""
        if request is None or request.campaign is None:
            return False
        before = self.store.declarations.declared
        await self.store.look_at_campaigns(self._now_ms())
        self._looked_ms = self.store.declarations.looked_ms  # what was asked for stands
        return self.store.declarations.declared is not before

    async def _first_answer(
        self, request: RequestBody | None, app: str, key: str | None
    ) -> Answer | None:
        """What a request that is at fault was told before it was; None: it cannot be read. Raises
        RedisUnavailable."""
        if request is None or (key := request.idempotency_key or key) is None:
            return None
        return await self._told(KeyedBody(app, key, body_hash(with_one_spelling(request))))

    async def _told(self, body: KeyedBody | MessageRequest) -> Answer | None:
        """What this body was told first under its key. Raises RedisUnavailable."""
        try:
            first = await recall(self.store, body)
        except UnreadableRecordError:
            return None
        return first if first is not None and first.replayed else None

    def _faulty(self, found: Faulty) -> Problem:
        self.metrics.refused.labels("invalid").inc()
        return invalid(found.faults, found.total)

    def _prepare(
        self, raw: bytes, app: str, key: str | None, trace: str
    ) -> MessageRequest | Problem | Faulty | WordsUnread:
        long = too_long(raw)
        if long is not None:
            self.metrics.refused.labels("too-large").inc()
            return long
        policy = self.store.policy
        found = read(raw, policy, app, self.store.contents.drafts)
        if isinstance(found, WordsUnread | Faulty):
            return found
        if isinstance(found, Malformed):
            self.metrics.refused.labels("malformed").inc()
            return problem("malformed", found.detail)
        request, destination = found.filled, found.destination
        addresses = destination.addresses
        home = addresses.phone or addresses.home(person_id(request.user, policy.numbering_of(app)))
        key = request.idempotency_key or key
        # Not all by name: CPython makes a tuple and a dict of more than 30 arguments, of which a
        # named one counts twice.
        return MessageRequest(
            self.store.new_message_id(home, self._now_ms()),
            app,
            addresses,
            destination.country,
            found.category,
            found.content,
            request.route,
            request.user,
            policy.own_users,
            request.campaign,
            not_before_ms=moment_ms(request.send_at),
            tz=request.tz,
            importance=importance_named(request.importance),
            ttl_ms=request.ttl * 1000 if request.ttl is not None else None,
            metadata=request.metadata or None,
            trace=trace,
            idempotency_key=key,
            body_hash=body_hash(found.request) if key is not None else b"",
            sayings=found.sayings,
            tracked=found.tracked,
        )

    def _is_crowded(self, request: MessageRequest) -> bool:
        """Whether a message that may have an answer already may not come in now."""
        if request.idempotency_key is None:
            return False
        return self.servers.full(request) is not None or self.backlog.full(request) is not None

    def crowded(self, request: MessageRequest) -> Problem | None:
        """Why the message may not come in now."""
        return self.memory_problem(request) or self.backlog_problem(request)

    def memory_problem(self, request: MessageRequest) -> Problem | None:
        """Whether the store is too full for it."""
        sentence = self.servers.full(request)
        if sentence is None:
            return None
        self.metrics.refused.labels("memory").inc()
        return problem("memory", sentence)

    def backlog_problem(self, request: MessageRequest) -> Problem | None:
        """Whether the lane in which it would wait is too long."""
        sentence = self.backlog.full(request)
        if sentence is None:
            return None
        self.metrics.refused.labels("backlog").inc()
        return problem("backlog", sentence)

    def closed(self) -> Problem | None:
        """Why no message at all may come in now."""
        if self.draining.refusal is not None:
            self.metrics.refused.labels("draining").inc()
        return self.draining.refusal

    def submit(self, request: MessageRequest, done: TakeResult[Answer]) -> None:
        """Hands a message to its shard's batch. Raises QueueFull."""
        self.batcher.submit(self.store.shard_of_message(request.id), request, done)

    async def ask(self, request: MessageRequest) -> Answer:
        """The store's answer. Raises QueueFull, RedisUnavailable and bugs."""
        return await self.batcher.ask(self.store.shard_of_message(request.id), request)

    async def dry_run(self, request: MessageRequest) -> DryAnswer:
        """The store's answer, of which nothing comes. Raises RedisUnavailable and bugs."""
        requests, refused = await self._users.complete([request])
        if refused:
            return DryAnswer(await self._told(request) or refused[0].answer)
        return await self.store.dry_run(requests[0], self._now_ms())

    async def _admit(self, _shard: int, asked: Sequence[MessageRequest]) -> Sequence[Answer]:
        began = time.perf_counter()
        requests, refused = await self._users.complete(asked)
        told = [(place, await self._told(asked[place]) or answer) for place, answer in refused]
        traces = self.store.traces
        began_ns = 0 if traces is None else traces.clock()
        answers = await self.store.admit(requests, self._now_ms())
        if traces is not None and (carried := [each.trace for each in requests if each.trace]):
            traces.decided(carried, began_ns, len(requests))
        failpoint("accepted")
        if self.store.policy.holds_for_zone:
            await self._look_for_zones(requests, answers)
        unseen = {(request.app, request.country) for request in requests} - self._reached
        if unseen:
            accepted = {
                (request.app, request.country)
                for request, answer in zip(requests, answers, strict=True)
                if answer.outcome == "accepted" and request.addresses.phone is not None
            }
            if first := sorted(unseen & accepted):
                await self._note_countries(first)
        for place, answer in told:
            answers.insert(place, answer)
        self.metrics.count_admission(list(asked), answers, time.perf_counter() - began)
        return answers

    async def _look_for_zones(
        self, requests: Sequence[MessageRequest], answers: Sequence[Answer]
    ) -> None:
        """Whether a zone was stored for which something accepted waits. Nothing here can fail
        it."""
        try:
            if found := await zones.accepted(self.store, requests, answers):
                await self.store.apply(found, self._now_ms())
        except Exception as error:
            _log.warning("zones_not_looked_for", reason=repr(error))

    async def _note_countries(self, reached: list[ReachedCountry]) -> None:
        """Tells of the first message of an app to a country. It was accepted: nothing here can
        fail it."""
        try:
            first = await countries.note(self.store.redis, reached)
        except RedisError as error:
            _log.debug("countries_not_noted", reason=str(error))
            return
        self._reached.update(reached)
        for app, country in first:
            self.metrics.first_countries.labels(app).inc()
            _log.warning("first_message_to_country", app=app, country=country)
