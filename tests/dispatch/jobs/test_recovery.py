"""A dispatcher dies at every awkward moment: nothing is lost and nothing is sent twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import trio

from gateway.core import events as ev
from gateway.core.records.message import StepStatus
from gateway.dispatch.dispatcher import dispatch
from gateway.dispatch.pauses import Pauses
from gateway.dispatch.worker import claim
from gateway.dispatch.worker.answers import RequestResult
from gateway.dispatch.worker.breaker import Breaker
from gateway.dispatch.worker.claim import Entry
from gateway.dispatch.worker.record import Recorder, by_shard
from gateway.dispatch.worker.send import Sender
from gateway.dispatch.worker.shards import Shards
from gateway.redis.errors import OutcomeUnknown, RedisUnavailable
from gateway.redis.script import Script
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.store import keys as k
from gateway.store import shared_keys
from gateway.store.keys import keys_of
from gateway.store.messages.apply import Applied, Item, LaneEntry
from gateway.store.store import Store
from gateway.store.waiting import lanes
from providers.contract import Fault, Outcome, Receipt, Submission
from ratelimit.limiter import SCRIPTS, Limiter
from tests.worlds.dispatch_world import DispatchWorld, accept, dispatching, under_trio, world

LANE = keys_of(0).lane("viber", "marketing")


class AwkwardStore(Store):
    """A store whose commits of one kind of event stop before or after they are made."""

    def __init__(self, store: Store, kind: type, *, made: bool) -> None:
        super().__init__(store.redis, store.policy, shards=store.shards)
        self._kind = kind
        self._made = made
        self.reached = trio.Event()

    async def apply(self, items: Iterable[Item], now_ms: int) -> list[Applied]:
        items = list(items)
        if not any(isinstance(item.event, self._kind) for item in items):
            return await super().apply(items, now_ms)
        if self._made:
            await super().apply(items, now_ms)
        self.reached.set()
        await trio.sleep_forever()
        raise AssertionError


async def dies(w: DispatchWorld, when: Callable[[], bool], **changes: Any) -> None:
    """A dispatcher works until `when`, and is gone then, without a word; its lease lapses."""
    deps = w.deps(**changes)
    async with trio.open_nursery() as nursery:
        await nursery.start(dispatch, deps)
        await w.until_true(when)
        nursery.cancel_scope.cancel()
    await w.redis.call([("DEL", shared_keys.alive(deps.consumer))])


async def pending(w: DispatchWorld) -> int:
    (found,) = await w.redis.call([("XPENDING", LANE, k.GROUP)])
    assert isinstance(found, list)
    return int(found[0])


@under_trio
async def test_what_was_read_and_not_claimed_is_sent_by_the_next(redis_url: str) -> None:
    async with world(redis_url) as w:
        ids = await w.admit(5)

        async def run(name: str, keys: Sequence[str], args: Sequence[int]) -> Any:
            return await Script(SCRIPTS[name]).call(w.redis, keys, args)

        limiter = Limiter(run, shared_keys.limit("viber"), rate_per_s=1_000, batch=100)
        await limiter.hold_off(60_000)  # so it reads and never gets a token
        held = 0

        async def look() -> None:
            nonlocal held
            while held < 5:
                held = await pending(w)
                await trio.sleep(0.005)

        await w.redis.call([("XGROUP", "CREATE", LANE, k.GROUP, "0", "MKSTREAM")])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await dies(w, lambda: held == 5)
        await w.redis.call([("DEL", "{limit:viber}")])
        assert w.viber.batches == []
        async with dispatching(w):
            await w.until(ids, "sent", "planned")
        assert w.viber.sent == dict.fromkeys(ids, 1)
        assert await pending(w) == 0


@under_trio
async def test_a_claim_that_was_not_made_is_made_by_the_next(redis_url: str) -> None:
    async with world(redis_url) as w:
        ids = await w.admit(3)
        store = AwkwardStore(w.store, ev.Claimed, made=False)
        await dies(w, store.reached.is_set, store=store)
        async with dispatching(w):
            await w.until(ids, "sent", "planned")
        assert w.viber.sent == dict.fromkeys(ids, 1)


@under_trio
async def test_a_claim_that_was_made_is_a_lost_answer_though_no_byte_left(redis_url: str) -> None:
    async with world(redis_url) as w:
        ids = await w.admit(3)
        store = AwkwardStore(w.store, ev.Claimed, made=True)
        await dies(w, store.reached.is_set, store=store)
        assert w.viber.batches == []
        async with dispatching(w):
            await w.until(ids, "unknown", "planned")
            assert await pending(w) == 0
            w.go_ahead(5_000)
            await w.until_true(lambda: len(w.viber.asked) == 3)
            w.go_ahead(10_000)
            await w.until(ids, "sent", "planned")  # twice not known: it was never there
        assert w.viber.sent == dict.fromkeys(ids, 1)


@under_trio
async def test_a_request_that_was_on_its_way_is_asked_for_and_not_repeated(redis_url: str) -> None:
    async def never_answered(batch: Sequence[Submission]) -> list[Outcome]:
        await trio.sleep_forever()
        raise AssertionError

    async with world(redis_url) as w:
        w.viber.script = [never_answered]
        (id_,) = await w.admit()
        w.viber.knows[id_ + ".0"] = Receipt(status="delivered", ref=id_ + ".0")
        await dies(w, lambda: bool(w.viber.batches))
        async with dispatching(w):
            await w.until([id_], "unknown", "planned")
            w.go_ahead(5_000)
            await w.until([id_], "delivered", "skipped")
        assert w.viber.sent == {id_: 1}


@under_trio
async def test_an_answer_that_was_not_recorded_is_asked_for_and_not_repeated(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        (id_,) = await w.admit()
        w.viber.knows[id_ + ".0"] = Receipt(status="sent", ref=id_ + ".0")
        store = AwkwardStore(w.store, ev.Accepted, made=False)
        await dies(w, store.reached.is_set, store=store)
        async with dispatching(w):
            await w.until([id_], "unknown", "planned")
            w.go_ahead(5_000)
            await w.until([id_], "sent", "planned")
        assert w.viber.sent == {id_: 1}


@under_trio
async def test_what_the_living_hold_is_not_taken(redis_url: str) -> None:
    release = trio.Event()

    async def slow(batch: Sequence[Submission]) -> list[Outcome]:
        await release.wait()
        return await accept(batch)

    async with world(redis_url) as w:
        w.viber.otherwise = slow
        ids = await w.admit(4)
        async with dispatching(w), dispatching(w):
            await w.until_true(lambda: len(w.viber.refs) == 4)
            assert await lanes.take_over(w.redis, "third", LANE) == []
            release.set()
            await w.until(ids, "sent", "planned")
        assert w.viber.sent == dict.fromkeys(ids, 1)


@under_trio
async def test_an_entry_stays_while_its_step_is_being_sent_by_somebody(redis_url: str) -> None:
    async with world(redis_url) as w:
        (id_,) = await w.admit()
        await lanes.ensure_groups(w.redis, 0, [("viber", "marketing")])
        (waiting,) = (await lanes.read(w.redis, "one", [(LANE, 1)]))[LANE]
        item = Item(id_, ev.Claimed(ev.CURRENT, provider="viber"), waiting.at)
        (first,) = await w.store.apply([item], w.clock())
        (second,) = await w.store.apply([item], w.clock())
        assert (first.effects.submit, second.effects.submit) == (True, False)
        assert await pending(w) == 1, "the first one's outcome needs it"
        await w.store.apply([Item(id_, ev.Accepted(0), waiting.at)], w.clock())
        assert await pending(w) == 0
        assert await w.lane_entries() == 0


@under_trio
async def test_an_entry_an_earlier_step_left_behind_claims_nothing(redis_url: str) -> None:
    async with world(redis_url) as w:
        (id_,) = await w.admit()
        await w.redis.call([("XADD", keys_of(0).lane("sms", "marketing"), "*", "m", id_)])
        async with dispatching(w):
            await w.until([id_], "sent", "planned")

            async def dropped() -> bool:
                return await w.lane_entries("sms") == 0

            await w.until_asked(dropped)
        assert w.sms.batches == []


@under_trio
async def test_what_a_sender_says_late_does_not_undo_anothers_claim(redis_url: str) -> None:
    async with world(redis_url) as w:
        (id_,) = await w.admit()
        (first,) = await w.store.apply([Item(id_, ev.Claimed(0))], w.clock())
        assert first.message is not None
        mine = first.message.steps[0].claimed_ms
        await w.store.apply([Item(id_, ev.PutBack(0), claimed_ms=mine)], w.clock())
        w.go_ahead(1_000)
        await w.store.apply([Item(id_, ev.Claimed(0))], w.clock())
        for late in (ev.PutBack(0), ev.LostAnswer(0)):
            await w.store.apply([Item(id_, late, LaneEntry(LANE, b"1-1", 0), mine)], w.clock())
        assert await w.steps(id_) == ["sending", "planned"]


@under_trio
async def test_a_claim_nobody_confirmed_is_put_back_and_sent_once(redis_url: str) -> None:
    class Deaf(Store):
        """Its first claim is made, and nobody hears of it."""

        deaf = 1

        async def apply(self, items: Iterable[Item], now_ms: int) -> list[Applied]:
            items = list(items)
            applied = await super().apply(items, now_ms)
            if self.deaf and isinstance(items[0].event, ev.Claimed):
                self.deaf = 0
                raise OutcomeUnknown("Nobody knows.")
            return applied

    async with world(redis_url) as w:
        ids = await w.admit(3)
        async with dispatching(w, store=Deaf(w.redis, w.store.policy)):
            await w.until(ids, "sent", "planned")
            assert await pending(w) == 0
        assert w.viber.sent == dict.fromkeys(ids, 1)
        assert w.viber.asked == []


@under_trio
async def test_entries_whose_read_nobody_heard_of_are_found_again(redis_url: str) -> None:
    async with world(redis_url) as w:
        ids = await w.admit(3)
        deps = w.deps()
        await lanes.ensure_groups(w.redis, 0, [("viber", "marketing")])
        real = deps.redis.call
        lost = False

        async def call(commands: Sequence[Any]) -> list[Any]:
            nonlocal lost
            replies = await real(commands)
            if not lost and commands[0][-1] == ">" and any(replies):
                lost = True
                raise OutcomeUnknown("Nobody knows.")
            return replies

        w.redis.call = call  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            await nursery.start(dispatch, deps)
            await w.until(ids, "sent", "planned")
            deps.stopping.set()
        assert lost
        assert w.viber.sent == dict.fromkeys(ids, 1)


def test_redis_killed_in_the_middle_loses_nothing_and_sends_nothing_twice(
    short_dir: Path,
) -> None:
    async def main(server: EmbeddedRedis) -> None:
        async with world(server.url) as w:
            w.viber = type(w.viber)("viber", rate=300, batch=20)
            ids = await w.admit(90)
            async with dispatching(w):
                await w.until_true(lambda: len(w.viber.refs) > 20)
                pid = server.pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                for id_ in ids:

                    async def sent(id_: str = id_) -> bool:
                        return await seen(w, id_) == "sent"

                    await w.until_asked(sent)
            assert w.viber.sent == dict.fromkeys(ids, 1)

    async def seen(w: DispatchWorld, id_: str) -> str:
        try:
            return (await w.steps(id_))[0]
        except RedisUnavailable:
            return "unavailable"

    with EmbeddedRedis(short_dir, "always") as server:
        trio.run(main, server)


@under_trio
async def test_a_process_that_stood_still_sends_nothing_it_claimed_before(redis_url: str) -> None:
    async with world(redis_url) as w:
        await lanes.ensure_groups(w.redis, 0, [("viber", "marketing")])
        deps = w.deps()
        early: list[RequestResult] = []  # of a batch that is sent in parts
        for seconds_ago, beats, sent in ((3.0, True, 0), (0.0, False, 0), (0.0, True, 1)):
            ids = await w.admit(2)
            found = (await lanes.read(w.redis, deps.consumer, [(LANE, 10)]))[LANE]
            entries = [Entry(e.message_id, e.at, "marketing") for e in found]
            heartbeat = deps.heartbeat()
            if beats:
                await heartbeat.beat()
            since = trio.current_time() - seconds_ago
            made = await claim.claim(w.store, "viber", "Shop", entries, w.clock(), since)
            limiter = Limiter(never_asked, shared_keys.limit("viber"), rate_per_s=1, batch=100)
            sender = Sender(deps, w.viber, limiter, Pauses(deps), Breaker(), heartbeat)
            shards = Shards(1, lambda: deps.redis_retry("worker"))
            for result in await sender.send(made.claimed, early.append):
                for part in by_shard(result):
                    await Recorder(deps, "viber", shards).record(part)
            assert early == []
            assert len(w.viber.batches) == sent
            step = (await w.message(ids[0])).steps[0]
            assert (step.status, step.tries) == ((20, 1) if sent else (1, 0))


async def never_asked(name: str, keys: Sequence[str], args: Sequence[int]) -> Any:
    raise AssertionError(name)


@under_trio
async def test_an_entry_left_behind_says_nothing_of_what_another_provider_sends(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        (id_,) = await w.admit()
        await lanes.ensure_groups(w.redis, 0, [("viber", "marketing")])
        (waiting,) = (await lanes.read(w.redis, "dead", [(LANE, 1)]))[LANE]
        refused = ev.StepRefused(0, Fault("9", "unknown subscriber", True))
        for event in (ev.Claimed(0), refused, ev.Claimed(1)):
            await w.store.apply([Item(id_, event)], w.clock())
        left = Entry(id_, waiting.at, "marketing")
        resolved = await claim.resolve(w.store, "viber", [left], w.clock(), dead=True)
        assert (resolved.queued, resolved.busy, resolved.lost) == ([], [], 0)
        assert (await w.message(id_)).steps[1].status == StepStatus.SENDING
        assert await pending(w) == 0, "the entry is acknowledged"
