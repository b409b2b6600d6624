"""Requests on their way to a decision: each to its person's home, and with its key held.

From the second message of a person on a request is decided by the first transaction, in the shard
of its phone. What that leaves undecided is followed to another home, joined
(`gateway.store.people.identities`), or decided with its key opened in the key's own shard
(`gateway.store.requests.idempotency`), until everything is answered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from gateway.core.records.codec import NewerRecordError
from gateway.core.records.request import Answer, MessageRequest
from gateway.redis.errors import RedisError
from gateway.store import quarantine
from gateway.store.base import Once, StoreBase, read_messages
from gateway.store.keys import Keys, keys_of
from gateway.store.people.identities import TRIES_MAX, find_home, moved, place
from gateway.store.requests.admit import Admission
from gateway.store.requests.asks import Ask, Undecided, ask_of
from gateway.store.requests.idempotency import close_key, open_key, reopen_key, shard_of_key
from gateway.store.transaction import ConflictError


class Acceptance:
    """One batch of requests. Raises ConflictError when others change the same record without
    end."""

    def __init__(self, store: StoreBase, now_ms: int) -> None:
        self._store = store
        self._now_ms = now_ms
        self._tried: list[Mapping[int, Ask]] = []
        self._full: frozenset[str] = frozenset()  # budgets of which there was not enough

    def tried(self) -> dict[str, str | None]:
        """The messages that may have been made, whatever came of it, with their campaigns."""
        return {
            ask.request.id: ask.request.campaign for asks in self._tried for ask in asks.values()
        }

    async def decide(self, requests: Sequence[MessageRequest]) -> list[Answer]:
        """One answer each, in order."""
        store = self._store
        await store.lines.learn(store.redis, self._now_ms, {request.app for request in requests})
        await store.tallies.refresh(store.redis, store.policy, store.shards, self._now_ms)
        answers: dict[int, Answer] = {}
        keyed: dict[int, Ask] = {}
        waiting = dict(enumerate(map(ask_of, requests)))
        for _ in range(TRIES_MAX):
            by_key = [i for i, ask in waiting.items() if ask.request.idempotency_key is not None]
            keyed |= {i: waiting.pop(i) for i in by_key if self._is_keyed_elsewhere(waiting[i])}
            if not waiting:
                break
            told = await self._try(waiting)
            left: dict[int, tuple[Ask, Undecided]] = {}
            for index, answer in told.items():
                if isinstance(answer, Answer):
                    answers[index] = answer
                elif answer.keyed:
                    keyed[index] = waiting[index]
                else:
                    left[index] = (waiting[index], answer)
            following = await self._next(left) if left else {}
            answers |= {i: then for i, then in following.items() if isinstance(then, Answer)}
            waiting = {i: then for i, then in following.items() if isinstance(then, Ask)}
        for index, ask in waiting.items():
            endless = ConflictError("Where its identities lead does not end.")
            answers[index] = await self._give_up(ask, endless)
        for index, ask in keyed.items():
            # One at a time: two requests of one batch may have the same key.
            try:
                answers[index] = await self._decide_keyed(ask)
            except RedisError:
                raise
            except Exception as error:
                answers[index] = await self._give_up(ask, error)
        if self._full:
            await store.budgets.give_back(store.redis, self._full)
        self._store.counts.newer += [a.outcome for a in answers.values()].count("unavailable")
        return [answers[index] for index in range(len(requests))]

    async def _give_up(self, _: Ask, error: Exception) -> Answer:
        """What a request is told that cannot be decided: it alone."""
        if isinstance(error, NewerRecordError):
            return Answer("unavailable")
        await quarantine.set_aside_record(self._store.redis, error, self._now_ms)
        return Answer("failed", detail=quarantine.reason_of(error))

    def _is_keyed_elsewhere(self, ask: Ask) -> bool:
        shard = shard_of_key(self._store, ask.request)
        return shard is not None and shard != self._shard(ask)

    def _shard(self, ask: Ask) -> int:
        """The shard of its home; of a device, where the person is not recognised."""
        return self._store.shard_of_message(ask.request.id)

    async def _try(self, asks: Mapping[int, Ask]) -> dict[int, Answer | Undecided]:
        """One transaction (or a few, of a large batch) a shard of homes."""
        self._tried.append(asks)
        by_shard: defaultdict[int, list[int]] = defaultdict(list)
        for index, ask in asks.items():
            by_shard[self._shard(ask)].append(index)
        told: dict[int, Answer | Undecided] = {}
        for shard, indexes in by_shard.items():
            keys = keys_of(shard)

            def try_of(piece: Sequence[Ask], once: Once, keys: Keys = keys) -> Admission:
                return Admission(self._store, keys, piece, self._now_ms, once)

            results = await self._store.in_pieces(
                keys, [asks[i] for i in indexes], self._now_ms, try_of, self._give_up
            )
            told |= zip(indexes, results, strict=True)
        return told

    async def _next(self, left: Mapping[int, tuple[Ask, Undecided]]) -> dict[int, Ask | Answer]:
        """Undecided requests with the homes under which to try again."""
        asks: dict[int, Ask | Answer] = {
            index: moved(self._store, ask, why.home, self._now_ms)
            for index, (ask, why) in left.items()
            if why.home
        }
        short = {i: (ask, why.needs) for i, (ask, why) in left.items() if why.needs}
        if short:
            asks |= await self._fund(short)
        return asks | await self._place({i: ask for i, (ask, _) in left.items() if i not in asks})

    async def _fund(
        self, short: Mapping[int, tuple[Ask, Mapping[str, int]]]
    ) -> dict[int, Ask | Answer]:
        """Leases what they lack of budgets, and tells them which have not so much."""
        lacking: Counter[str] = Counter()
        for _, needs in short.values():
            lacking.update(needs)
        full = await self._store.lease(lacking, self._now_ms)
        self._full |= full
        return {index: replace(ask, full=ask.full | full) for index, (ask, _) in short.items()}

    async def _place(self, asks: Mapping[int, Ask]) -> dict[int, Ask | Answer]:
        """Joins what they name; a request that cannot be joined is given up."""
        try:
            placed = await place(self._store, list(asks.values()), self._now_ms)
            return dict(zip(asks, placed, strict=True))
        except RedisError:
            raise
        except Exception as error:
            if len(asks) == 1:
                return {index: await self._give_up(ask, error) for index, ask in asks.items()}
        found: dict[int, Ask | Answer] = {}
        for index, ask in asks.items():
            found |= await self._place({index: ask})
        return found

    async def _decide_keyed(self, ask: Ask) -> Answer:
        store = self._store
        for _ in range(TRIES_MAX):
            opened = await open_key(store, ask.request)
            if isinstance(opened, Answer):
                return opened
            if store.shard_of_message(opened.id) != self._shard(ask):
                # Opened under another home. If that is not the home now, it was one before: its
                # message was made by then, or never will be.
                home = await find_home(store, ask.identities[0])
                ask = moved(store, ask, home, self._now_ms)
                if store.shard_of_message(opened.id) != self._shard(ask):
                    if (await read_messages(store, [opened.id]))[opened.id].value is not None:
                        answer = Answer("accepted", id=opened.id, status="queued")
                        await close_key(store, ask.request, answer)
                        return answer
                    await reopen_key(store, ask.request, opened.id)
                continue
            told = (await self._try({0: replace(ask, request=opened, opened=True)}))[0]
            if isinstance(told, Answer):
                await close_key(store, ask.request, told)
                return told
            following = (await self._next({0: (ask, told)}))[0]
            if isinstance(following, Answer):
                return following
            ask = following
        raise ConflictError
