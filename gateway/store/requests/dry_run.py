"""What acceptance would answer to a request now, and why; nothing is written.

The request goes the way of any other (`gateway.store.requests.acceptance`): the same records are
read, and the same rules decide. What would be joined is joined in memory alone, an idempotency key
is read and not opened, and the transaction ends without a write. Raises RedisUnavailable, and
ConflictError where what its identities lead to does not end.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from gateway.core.admission import Decision
from gateway.core.explain import Explanation, explain
from gateway.core.money.budgets import Funds
from gateway.core.records.codec import NewerRecordError
from gateway.core.records.person import Person
from gateway.core.records.request import Answer, MessageRequest
from gateway.redis.client import Command, Session
from gateway.store import randomness
from gateway.store.base import Once, StoreBase
from gateway.store.campaigns.recipients import with_room_foreseen
from gateway.store.keys import keys_of
from gateway.store.people.identities import TRIES_MAX, foresee, moved
from gateway.store.requests.admit import Admission
from gateway.store.requests.asks import Ask, Undecided, ask_of
from gateway.store.requests.idempotency import recall
from gateway.store.transaction import ConflictError, commit


class DryAnswer(msgspec.Struct, frozen=True):
    """An `answer` that was remembered was given without any gate."""

    answer: Answer
    explanation: Explanation = Explanation()


class _DryAdmission(Admission):
    """Decides one request, and says why."""

    explanation = Explanation()

    async def attempt(self, session: Session) -> tuple[list[Command], list[Answer | Undecided]]:
        return [], await self._decided(session)

    def _judge(self, ask: Ask, people: Sequence[Person]) -> Decision:
        decision = super()._judge(ask, people)
        self._funds.undo()
        self.explanation = explain(
            ask.request,
            decision,
            people,
            self._opt_outs_of(ask),
            self._policy,
            self._now_ms,
            self._funds,
        )
        return decision


async def dry_run(store: StoreBase, request: MessageRequest, now_ms: int) -> DryAnswer:
    try:
        remembered = await recall(store, request)
        if remembered is not None:
            return DryAnswer(remembered)
        await store.know_campaigns(now_ms)
        request = await with_room_foreseen(store.redis, store.policy.declared.campaigns, request)
        await store.tallies.refresh(store.redis, store.policy, store.shards, now_ms)
        ask = ask_of(replace(request, idempotency_key=None))
        budgets = store.policy.budgets
        funds = await store.budgets.foreseen(store.redis, budgets, store.shards, now_ms)
        ask = replace(ask, full=frozenset(budget.name for budget in budgets))
        for _ in range(TRIES_MAX):
            told, explanation = await _decide(store, ask, funds, now_ms)
            if isinstance(told, Answer):
                return DryAnswer(told, explanation)
            if told.home:
                ask = moved(store, ask, told.home, now_ms)
            else:
                ask = await foresee(store, ask, now_ms)
    except NewerRecordError:
        return DryAnswer(Answer("unavailable"))
    raise ConflictError


async def _decide(
    store: StoreBase, ask: Ask, funds: Funds, now_ms: int
) -> tuple[Answer | Undecided, Explanation]:
    keys = keys_of(store.shard_of_message(ask.request.id))
    token = keys.token(randomness.token())

    async def attempt(
        session: Session,
    ) -> tuple[list[Command], tuple[Answer | Undecided, Explanation]]:
        funds.undo()
        admission = _DryAdmission(store, keys, [ask], now_ms, Once(token, funds))
        writes, (told,) = await admission.attempt(session)
        return writes, (told, admission.explanation)

    return await commit(store.redis, token, attempt, store.counts)
