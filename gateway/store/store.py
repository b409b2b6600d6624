"""The store as its users see it: batches of requests in, answers out; batches of events in,
effects out.

Loop-neutral: it awaits nothing but the Redis client, so ingress (uvloop) and dispatch (trio) use
the same object.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import partial

from msgspec.structs import replace

from gateway.core.events import Released, Reported
from gateway.core.records.request import Answer, MessageRequest
from gateway.redis.errors import RedisUnavailable
from gateway.store.base import Once, StoreBase
from gateway.store.campaigns import recipients
from gateway.store.keys import Keys, keys_of
from gateway.store.messages import message_log
from gateway.store.messages.apply import Application, Applied, Item, set_item_aside
from gateway.store.requests.acceptance import Acceptance
from gateway.store.requests.dry_run import DryAnswer, dry_run
from gateway.store.transaction import ConflictError
from gateway.store.waiting import zones
from gateway.traces import Traces


class Store(StoreBase):
    """All of Kaskad's state. Every call may raise RedisUnavailable."""

    async def admit(self, requests: Sequence[MessageRequest], now_ms: int) -> list[Answer]:
        """Decides requests; one answer each, in order, durable."""
        await self.know_campaigns(now_ms)
        campaigns = self.policy.declared.campaigns
        if campaigns and recipients.are_bounded(campaigns, requests):
            decider = partial(Acceptance, self, now_ms)
            answers = await recipients.decide(self, requests, decider, now_ms)
        else:
            answers = await Acceptance(self, now_ms).decide(requests)
        if self.log_messages:
            message_log.asked(requests, answers)
        return answers

    async def dry_run(self, request: MessageRequest, now_ms: int) -> DryAnswer:
        """How a request would be decided now, and why; nothing is changed or remembered."""
        return await dry_run(self, request, now_ms)

    async def apply(self, items: Iterable[Item], now_ms: int) -> list[Applied]:
        """Decides events of any shards' messages. The order of the result is by shard, then as
        given.

        Items of one message keep their order. An id that is none of ours comes back with `message`
        None; so does a message whose record is of a newer Kaskad, which is left alone, and an item
        that cannot be decided, which is set aside.
        """
        await self.know_campaigns(now_ms)
        applied = await self._apply(items, now_ms)
        if self.policy.budgets and any(a.effects.lacking for a in applied):
            applied = await self._fund(applied, now_ms)
        moved = [a for a in applied if a.moved is not None]
        if moved:
            there = [replace(a.item, shard=a.moved) for a in moved]
            applied = [a for a in applied if a.moved is None] + await self._apply(there, now_ms)
        if self.traces is not None:
            _trace(self.traces, applied)
        for done in applied:
            effects = done.effects
            told = effects.status_changes or effects.fallback or effects.reaction
            if done.message is not None and told:
                self.outcomes.note(done.message, effects)
                if self.log_messages:
                    message_log.changed(done.message.id, effects)
            if done.newer:
                self.counts.newer += 1
            if effects.ignored_price is not None:
                self.ignored_prices.note(effects.ignored_price, now_ms)
            if effects.handed_over:
                self.handed_over[effects.handed_over] += 1
        if self.policy.holds_for_zone:
            await self._look_for_zones(zones.waiting_now(applied), now_ms)
        return applied

    async def _look_for_zones(self, waiting: set[str], now_ms: int) -> None:
        """Whether the zones are stored for which something waits from now on. What was applied is:
        where Redis went away meanwhile, they are looked for with the next batch."""
        self.zones_missed |= waiting
        looked = frozenset(self.zones_missed)  # others may miss more meanwhile
        if not looked:
            return
        try:
            await self._apply(await zones.missed(self, looked), now_ms)
        except (RedisUnavailable, ConflictError):
            return
        self.zones_missed -= looked

    async def _fund(self, applied: Sequence[Applied], now_ms: int) -> list[Applied]:
        """Leases what released messages lack of budgets, as far as there is, and releases them
        again."""
        lacking: Counter[str] = Counter()
        for each in applied:
            lacking.update(each.effects.lacking)
        full = await self.lease(lacking, now_ms)
        again = [
            replace(each.item, event=replace(each.item.event, full=full))
            for each in applied
            if each.effects.lacking and isinstance(each.item.event, Released)
        ]
        funded = await self._apply(again, now_ms)
        await self.budgets.give_back(self.redis, full)
        return [each for each in applied if not each.effects.lacking] + funded

    async def _apply(self, items: Iterable[Item], now_ms: int) -> list[Applied]:
        by_shard: defaultdict[int, list[Item]] = defaultdict(list)
        for item in items:
            shard = item.known_shard
            if shard is None:
                shard = self.shard_of_message(item.message_id)
            by_shard[shard].append(item)
        applied: list[Applied] = []
        for shard, members in by_shard.items():
            keys = keys_of(shard)

            def try_of(piece: Sequence[Item], once: Once, keys: Keys = keys) -> Application:
                return Application(self, keys, piece, now_ms, once)

            async def give_up(item: Item, error: Exception, keys: Keys = keys) -> Applied:
                return await set_item_aside(self.redis, keys, item, error, now_ms)

            applied += await self.in_pieces(keys, members, now_ms, try_of, give_up)
        await self.lines.learn(self.redis, now_ms)
        return applied


def _trace(traces: Traces, applied: Iterable[Applied]) -> None:
    """Tells of the receipts among what was applied to messages that are traced."""
    for done in applied:
        event, message = done.item.event, done.message
        if message is not None and message.trace and isinstance(event, Reported):
            traces.received(message.trace, event.provider, event.receipt.status)
