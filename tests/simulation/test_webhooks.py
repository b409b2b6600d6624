"""Webhooks in virtual time: what is told, to whom, when again, and what survives which fault."""

from __future__ import annotations

import collections
import random
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from gateway.core.events import Accepted, Claimed, Reported
from gateway.core.ids import moment_of
from gateway.core.records.reply import KeptReply
from gateway.core.records.webhook import Secret, Webhook, WebhookEvent
from gateway.core.views.words import rfc3339
from gateway.core.webhooks import DELAYS_MS, FAILING_MS, HOUR, LOST
from gateway.dispatch.webhooks import desk, recovering, sender
from gateway.dispatch.webhooks.posting import CONNECTIONS, CallAnswer
from gateway.store import shared_keys
from gateway.store.events import outbox, webhook_queues, webhooks
from gateway.store.events.webhook_queues import Due, Recovery, TryResults
from gateway.store.installation.audit import Deed
from gateway.store.keys import keys_of
from gateway.store.messages.apply import Item
from gateway.store.people import replies
from gateway.store.providers import pauses
from gateway.store.store import Store
from providers.contract import Receipt
from tests.simulation.webhook_world import OK, SECRET, Call, WebhookWorld
from tests.worlds.cascade_world import policy
from tests.worlds.dispatch_world import sends_to
from tests.worlds.virtual_clock import VirtualClock

ALL = ("message.queued", "message.sent", "message.delivered", "message.seen")


@pytest.fixture
def world() -> WebhookWorld:
    return WebhookWorld()


@pytest.fixture
def slow_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that days pass in moments."""
    monkeypatch.setattr(sender, "LOOK_S", 60.0)
    monkeypatch.setattr(sender, "SEEN_S", 3_600.0)
    monkeypatch.setattr(desk, "TURN_S", 1_800.0)
    monkeypatch.setattr(desk, "MOVE_S", 1_800.0)
    monkeypatch.setattr("gateway.store.events.sharing.LEASE_MS", 3_600_000)
    monkeypatch.setattr("gateway.store.events.sharing.THERE_MS", 3_600_000)


@pytest.fixture
def slowest_looks(slow_looks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a retry need not come within the hour."""
    monkeypatch.setattr(sender, "LOOK_S", 1_800.0)
    monkeypatch.setattr(sender, "SEEN_S", 36_000.0)


async def live(world: WebhookWorld, ids: list[str]) -> None:
    """Each message is sent and delivered."""
    for step in (Claimed(0), Accepted(0), Reported(0, Receipt("delivered", ref=""), "viber")):
        await world.store.apply([Item(id_, step) for id_ in ids], world.clock())


def failing(status: int = 500, wish_ms: int = 0) -> CallAnswer:
    return CallAnswer(status, "no", wish_ms=wish_ms)


async def fails(_: Call) -> CallAnswer:
    return failing(503)


def test_a_message_is_told_from_end_to_end_in_order_of_its_sequence(world: WebhookWorld) -> None:
    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", *ALL)
        ids = await world.admit(20)
        await live(world, ids)
        await trio.sleep(5)
        told = collections.defaultdict(list)
        for call in world.receivers.calls:
            told[call.body["data"]["id"]].append((call.body["data"]["sequence"], call.body["type"]))
        every = [(1, "message.queued"), (2, "message.sent"), (3, "message.delivered")]
        assert {id_: sorted(events) for id_, events in told.items()} == dict.fromkeys(ids, every)
        assert len({call.id for call in world.receivers.calls}) == 60
        last = max(world.receivers.calls, key=lambda call: call.body["data"]["sequence"])
        assert last.body["data"]["status"] == "delivered"
        assert last.body["data"]["final"] is True
        (state,) = await webhook_queues.states(world.store.redis, ["hook"])
        assert state.waiting == 0

    world.tell(work)


def test_what_calls_come_to_is_noted_many_at_once(world: WebhookWorld) -> None:
    async def quick(_: Call) -> CallAnswer:
        await trio.sleep(0.001)
        return OK

    world.receivers.answer = quick

    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        await world.admit(300)
        await trio.sleep(5)
        assert len(world.receivers.calls) == 300
        assert world.receivers.most_open == CONNECTIONS
        attempts = shared_keys.webhook("hook", "attempts")
        (entries,) = await world.store.redis.call([("XLEN", attempts)])
        assert entries <= 10

    world.tell(work)


def test_without_a_webhook_that_wants_it_nothing_is_written(world: WebhookWorld) -> None:
    async def work(_: trio.Nursery) -> None:
        (unwatched,) = await world.admit(1)
        await world.declare("hook", "message.seen")
        ids = await world.admit(5)
        await live(world, [unwatched, *ids])
        (entries,) = await world.store.redis.call([("XLEN", keys_of(0).outbox)])
        assert entries == 0
        await trio.sleep(5)
        assert world.receivers.calls == []

    world.tell(work)


def test_an_event_is_tried_by_the_schedule_and_then_no_more(
    world: WebhookWorld, slow_looks: None
) -> None:
    async def breaks(_: Call) -> CallAnswer:
        return failing()

    world.receivers.answer = breaks

    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        await world.admit(1)
        # Whatever the jitter, all are over, and three days ago lies between the 6th and the 7th.
        await trio.sleep(sum(DELAYS_MS) / 1000 * 1.15)
        at = [call.at for call in world.receivers.calls]
        assert len(at) == len(DELAYS_MS) + 1
        for earlier, later, delay_ms in zip(at[:-1], at[1:], DELAYS_MS, strict=True):
            assert 0.9 * delay_ms / 1000 <= later - earlier <= 1.1 * delay_ms / 1000 + 61
        assert len({call.id for call in world.receivers.calls}) == 1
        (state,) = await webhook_queues.states(world.store.redis, ["hook"])
        assert state.waiting == 0
        page = await webhook_queues.read_tries(world.store.redis, "hook", 100)
        assert [each.number for each in page.tries] == [10, 9, 8, 7]  # those of 3 days
        assert (page.tries[0].next_ms, page.tries[0].status, page.tries[0].answer) == (0, 500, "no")

    world.tell(work)


def test_a_receiver_that_hangs_delays_no_other_and_has_few_calls_open(world: WebhookWorld) -> None:
    async def hangs(call: Call) -> CallAnswer:
        if "hung" in call.url:
            await trio.sleep(15)
            return CallAnswer(error="answer_timeout")
        return OK

    world.receivers.answer = hangs

    async def work(_: trio.Nursery) -> None:
        await world.declare("hung", "message.queued")
        await world.declare("well", "message.queued")
        for _round in range(60):
            await world.admit(10)
            await trio.sleep(1)
        await trio.sleep(2)
        assert len(world.receivers.told("https://well.example/")) == 600
        assert len(world.receivers.told("https://hung.example/")) <= 2 * CONNECTIONS
        assert world.receivers.most_open <= 2 * CONNECTIONS

    world.tell(work)


def test_what_failed_for_hours_arrives_once_the_receiver_is_well(
    world: WebhookWorld, slow_looks: None
) -> None:
    well_at = 6 * 3_600.0

    async def answer(_: Call) -> CallAnswer:
        return OK if trio.current_time() >= well_at else failing()

    world.receivers.answer = answer

    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        ids = await world.admit(50)
        await trio.sleep(24 * 3_600)
        arrived = {call.body["data"]["id"] for call in world.receivers.calls if call.at >= well_at}
        assert arrived == set(ids)

    world.tell(work)


def test_whatever_a_receiver_does_for_hours_nothing_is_lost_and_no_other_waits(
    world: WebhookWorld, slow_looks: None
) -> None:
    """It is away, hangs, answers garbage, fails and takes some, while its senders are killed."""
    chance, well_at = random.Random(1), 8 * 3_600.0
    taken: collections.defaultdict[str, set[int]] = collections.defaultdict(set)

    async def answer(call: Call) -> CallAnswer:
        if "well" not in call.url and call.at < well_at:
            what = chance.randrange(6)
            if what == 1:
                await trio.sleep(15)
            if what:
                faults = ("connect_failed", "answer_timeout", "answer_malformed")
                return failing() if what > len(faults) else CallAnswer(error=faults[what - 1])
        if "well" not in call.url:
            taken[call.body["data"]["id"]].add(call.body["data"]["sequence"])
        return OK

    world.receivers.answer = answer

    async def work(nursery: trio.Nursery) -> None:
        await world.declare("bad", *ALL)
        await world.declare("well", *ALL)
        ids: list[str] = []
        for round_ in range(3):
            killed = world.begin_desk(nursery, f"k{round_}")
            await trio.sleep(2 * 3_600)  # until the lease of the one before is over
            more = await world.admit(10)
            await live(world, more)
            ids += more
            await trio.sleep(3_660)
            well = [c.body["data"]["id"] for c in world.receivers.told("https://well.example/")]
            assert collections.Counter(well).keys() == set(ids), "it waited for the other"
            killed.cancel()
        nursery.start_soon(world.desk, "last")
        await trio.sleep(20 * 3_600)
        assert taken == {id_: {1, 2, 3} for id_ in ids}

    world.tell(work, desks=0)


def test_a_receiver_that_says_wait_is_left_alone(world: WebhookWorld) -> None:
    async def busy(_: Call) -> CallAnswer:
        return failing(429, wish_ms=120_000) if trio.current_time() < 100 else OK

    world.receivers.answer = busy

    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        await world.admit(1)
        await trio.sleep(20)
        await world.admit(3)
        await trio.sleep(300)
        first, *later = [call.at for call in world.receivers.calls]
        assert min(later) >= first + 120
        assert len(later) == 4

    world.tell(work)


def test_a_short_wish_after_a_429_is_obeyed_too(world: WebhookWorld) -> None:
    async def busy(_: Call) -> CallAnswer:
        return failing(429, wish_ms=3_000) if len(world.receivers.calls) == 1 else OK

    world.receivers.answer = busy

    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        await world.admit(1)
        await trio.sleep(300)
        first, second = [call.at for call in world.receivers.calls]
        assert 3 <= second - first <= 10

    world.tell(work)


def test_what_its_app_changes_holds_for_the_next_call(
    world: WebhookWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the desk's turn: the process knows, so the call is as it was set."""
    monkeypatch.setattr(desk, "TURN_S", 8.0)
    moved, new = "https://moved.example/", "whsec_bmV3"

    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        await trio.sleep(20)
        both = (Secret(new), Secret(SECRET, world.clock() + HOUR))
        await world.declare("hook", "message.queued", secrets=both)
        await world.admit(1)
        await trio.sleep(1)
        assert [call.secrets for call in world.receivers.calls] == [[new, SECRET]]
        await world.declare("hook", "message.queued", url=moved, secrets=both)
        await world.admit(1)
        await trio.sleep(30)
        assert [call.url for call in world.receivers.calls] == ["https://hook.example/", moved]
        await world.declare("hook", "message.queued", url=moved, enabled=False)
        await world.admit(1)
        await trio.sleep(30)
        assert len(world.receivers.calls) == 2

    world.tell(work)


def test_410_disables_it_and_what_waits_is_told_once_it_is_enabled(world: WebhookWorld) -> None:
    gone = True

    async def answer(_: Call) -> CallAnswer:
        return failing(410) if gone else OK

    world.receivers.answer = answer

    async def work(_: trio.Nursery) -> None:
        nonlocal gone
        await world.declare("hook", "message.queued")
        (id_,) = await world.admit(1)
        await trio.sleep(3)
        stands = world.store.webhooks.now.every["shop", "hook"]
        assert (stands.enabled, stands.why) == (False, "gone")
        await world.admit(5)
        await trio.sleep(60)
        assert len(world.receivers.calls) == 1
        gone = False
        await world.declare("hook", "message.queued")
        await trio.sleep(30)
        assert [call.body["data"]["id"] for call in world.receivers.calls] == [id_, id_]

    world.tell(work)


def test_five_days_without_a_success_disable_it(world: WebhookWorld, slowest_looks: None) -> None:
    world.receivers.answer = fails

    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        for _times in range(FAILING_MS // HOUR // 12):
            await world.admit(1)
            await trio.sleep(12 * 3_600)
            assert world.store.webhooks.now.every["shop", "hook"].enabled
        await world.admit(1)
        await trio.sleep(12 * 3_600)
        stands = world.store.webhooks.now.every["shop", "hook"]
        assert (stands.enabled, stands.why) == (False, "failing")

    world.tell(work)


def test_of_too_many_the_oldest_are_told_by_range_and_can_be_recovered(
    world: WebhookWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "WAITING_MAX", 100)
    monkeypatch.setattr(outbox, "MAKE_ROOM", 10)
    monkeypatch.setattr(recovering, "ENTRIES_MAX", 3)
    dead = True

    async def answer(_: Call) -> CallAnswer:
        return failing() if dead else OK

    world.receivers.answer = answer

    async def work(_: trio.Nursery) -> None:
        nonlocal dead
        await world.declare("hook", "message.queued")
        began_ms = world.clock()
        ids: list[str] = []
        for _round in range(25):
            ids += await world.admit(10)
            await trio.sleep(1)
        (state,) = await webhook_queues.states(world.store.redis, ["hook"])
        assert state.waiting <= 101
        dead, told_from = False, len(world.receivers.calls)
        await trio.sleep(400)
        later = world.receivers.calls[told_from:]
        (lost,) = [call for call in later if call.body["type"] == LOST]
        arrived = {call.body["data"]["id"] for call in later if call is not lost}
        missing = set(ids) - arrived
        assert 0 < len(missing) <= lost.body["data"]["count"] < len(ids)
        for id_ in missing:
            at = rfc3339(moment_of(id_) or 0)
            assert lost.body["data"]["from"] <= at <= lost.body["data"]["to"]
        await webhook_queues.recover(world.store.redis, "hook", Recovery(began_ms, world.clock()))
        await trio.sleep(60)
        after = {call.body["data"].get("id") for call in world.receivers.calls[told_from:]}
        assert after >= set(ids)
        ids_of = collections.defaultdict(set)
        for call in world.receivers.calls:
            ids_of[call.body["data"].get("id")].add(call.id)
        assert all(len(ids_of[id_]) == 1 for id_ in ids)

    world.tell(work)


def test_what_is_no_messages_is_recovered_under_the_ids_it_had(world: WebhookWorld) -> None:
    """What a provider was paused for, and what somebody wrote to nobody: before it was asked to be
    told, and after."""
    wanted = ("provider.paused", "inbound.received")

    async def happen(number: int) -> None:
        await pauses.hold(world.store.redis, f"p{number}", "works", "ops", world.clock())
        said = KeptReply("viber", "viber", f"phone:{number}", "a", "Hello", world.clock())
        for_app = KeptReply("viber", "viber", "phone:9", "b", "Yes", world.clock(), "other", "m")
        (kept, _) = await replies.keep(world.store, [said, for_app])
        await replies.tell(world.store, [kept], {})

    async def work(_: trio.Nursery) -> None:
        began_ms = world.clock()
        await happen(1)
        await world.declare("hook", *wanted)
        await trio.sleep(2)
        await happen(2)
        await trio.sleep(5)
        first = {call.id: call.body for call in world.receivers.calls}
        assert sorted(body["type"] for body in first.values()) == sorted(wanted)
        await webhook_queues.recover(world.store.redis, "hook", Recovery(began_ms, world.clock()))
        await trio.sleep(10)
        told = collections.Counter(call.id for call in world.receivers.calls)
        assert sorted(told.values()) == [1, 1, 2, 2]
        assert {id_ for id_, times in told.items() if times == 2} == set(first)
        paused = [c.body["data"] for c in world.receivers.calls if c.body["type"] == wanted[0]]
        assert {data["provider"] for data in paused} == {"p1", "p2"}
        (state,) = await webhook_queues.states(world.store.redis, ["hook"])
        assert (state.waiting, state.recovery) == (0, None)

    world.tell(work)


def event(number: int) -> WebhookEvent:
    return WebhookEvent(f"e{number}", "message.sent", number + 1, "shop")


@pytest.mark.parametrize("after_ms", [0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.6, 3.2, 4.0])
def test_what_is_lost_while_others_lose_or_tell_is_counted_once(
    world: WebhookWorld, monkeypatch: pytest.MonkeyPatch, after_ms: float
) -> None:
    monkeypatch.setattr(outbox, "WAITING_MAX", 5)
    monkeypatch.setattr(outbox, "MAKE_ROOM", 0)
    redis = world.store.redis

    async def later(work: Callable[[], Awaitable[None]]) -> None:
        await trio.sleep(after_ms / 1000)
        await work()

    async def main() -> None:
        await outbox.give(redis, [("hook", [event(n) for n in range(8)])])
        (state,) = await webhook_queues.states(redis, ["hook"])
        lost = state.lost
        assert lost is not None
        (due,) = [d for d in await webhook_queues.due(redis, "hook", 10**9, 99) if is_lost(d)]
        await webhook_queues.note(redis, "hook", TryResults((), [due], ()), None)
        async with trio.open_nursery() as nursery:
            for begin in (10, 20):
                more = [event(begin + n) for n in range(6)]
                nursery.start_soon(outbox.give, redis, [("hook", more)])
            nursery.start_soon(later, partial(outbox.lost_is_told, redis, "hook", lost))
        (state,) = await webhook_queues.states(redis, ["hook"])
        found = await webhook_queues.due(redis, "hook", 10**9, 99)
        assert state.lost is not None
        assert [each.event.id for each in found if is_lost(each)].count(state.lost.id) == 1
        waiting = sum(not is_lost(each) for each in found)
        assert lost.count + state.lost.count + waiting == 8 + 6 + 6

    VirtualClock().run(main)


def is_lost(due: Due) -> bool:
    return due.event.type == LOST


def test_what_nobody_here_can_read_stops_nothing(
    world: WebhookWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "WAITING_MAX", 5)
    monkeypatch.setattr(outbox, "MAKE_ROOM", 0)
    redis = world.store.redis

    async def main() -> None:
        await redis.call([("ZADD", shared_keys.webhook("hook", "queue"), 0, b"a newer one")])
        await outbox.give(redis, [("hook", [event(n) for n in range(8)])])
        (state,) = await webhook_queues.states(redis, ["hook"])
        assert state.first_ms is None
        assert state.lost is not None
        assert state.lost.count == 4

    VirtualClock().run(main)


def test_a_sender_that_is_killed_loses_nothing(world: WebhookWorld) -> None:
    async def slow(_: Call) -> CallAnswer:
        await trio.sleep(0.3)
        return OK

    world.receivers.answer = slow

    async def work(nursery: trio.Nursery) -> None:
        await world.declare("hook", *ALL)
        ids: list[str] = []
        for round_ in range(12):
            killed = world.begin_desk(nursery, f"k{round_}")
            more = await world.admit(15)
            await live(world, more)
            ids += more
            await trio.sleep(3.7)
            killed.cancel()
        nursery.start_soon(world.desk, "last")
        await trio.sleep(60)
        told = collections.defaultdict(set)
        for call in world.receivers.calls:
            told[call.body["data"]["id"]].add(call.body["data"]["sequence"])
        assert told == {id_: {1, 2, 3} for id_ in ids}

    world.tell(work, desks=0)


def test_dispatchers_share_webhooks_and_never_tell_twice(world: WebhookWorld) -> None:
    async def work(_: trio.Nursery) -> None:
        for number in range(12):
            await world.declare(f"hook{number}", "message.queued")
        await trio.sleep(10)
        ids = await world.admit(30)
        await trio.sleep(20)
        for number in range(12):
            told = world.receivers.told(f"https://hook{number}.example/")
            assert sorted(call.body["data"]["id"] for call in told) == sorted(ids)

    world.tell(work, desks=3)


def test_what_a_dispatcher_had_that_stops_in_order_is_told_by_others_at_once(
    world: WebhookWorld,
) -> None:
    async def work(nursery: trio.Nursery) -> None:
        stop = world.begin_leaving(nursery, "leaving")
        for number in range(12):
            await world.declare(f"hook{number}", "message.queued")
        await trio.sleep(10)
        stop()
        await trio.sleep(desk.TURN_S)
        await world.admit(1)
        await trio.sleep(2)
        assert {call.url for call in world.receivers.calls} == {
            f"https://hook{number}.example/" for number in range(12)
        }
        assert len(world.receivers.calls) == 12

    world.tell(work)


def test_one_that_cannot_be_told_at_all_costs_no_other_anything(world: WebhookWorld) -> None:
    async def answer(call: Call) -> CallAnswer:
        if "bad" in call.url:
            raise ValueError("nobody foresaw this")
        return OK

    world.receivers.answer = answer

    async def work(_: trio.Nursery) -> None:
        await world.declare("bad", "message.queued")
        await world.declare("well", "message.queued")
        ids = await world.admit(3)
        await trio.sleep(100)
        told = [call.body["data"]["id"] for call in world.receivers.told("https://well.example/")]
        assert sorted(told) == sorted(ids)
        assert len(world.receivers.told("https://bad.example/")) > 3

    world.tell(work)


def test_who_enables_it_again_has_five_days_anew(world: WebhookWorld, slowest_looks: None) -> None:
    world.receivers.answer = fails

    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        await world.admit(1)
        await trio.sleep(3_600)
        await trio.sleep(FAILING_MS / 1000)
        await world.declare("hook", "message.queued", updated_ms=world.clock())
        await world.admit(1)
        await trio.sleep(7_200)
        assert world.store.webhooks.now.every["shop", "hook"].enabled

    world.tell(work)


def test_one_that_stood_still_moves_what_a_webhook_wants_that_was_made_meanwhile(
    world: WebhookWorld,
) -> None:
    """As when a dispatcher is stopped for longer than its leases: what it knew is old, and its
    outboxes are still its own until it looks."""
    elsewhere = Store(world.store.redis, policy())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await world.declare("hook")
            world.begin_desk(nursery, "d0")
            await trio.sleep(10)
            made = Webhook("new", "https://new.example/", ("message.queued",), (Secret(SECRET),))
            deed = Deed(world.clock(), "test", "webhook.put", "new")
            await webhooks.change(elsewhere.redis, "shop", "new", lambda *_: made, deed)
            sends = sends_to(elsewhere, iter([79_160_000_001]), 1, world.clock())
            await elsewhere.admit(sends, world.clock())
            await trio.sleep(10)
            told = world.receivers.told("https://new.example/")
            assert [call.body["data"]["id"] for call in told] == [send.id for send in sends]
            nursery.cancel_scope.cancel()

    VirtualClock().run(main)


def test_what_is_asked_to_be_recovered_while_a_recovery_is_under_way_is_told(
    world: WebhookWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recovery under way is not written over the one that was asked for after it."""
    monkeypatch.setattr(recovering, "ENTRIES_MAX", 1)
    under_way = trio.Event()

    async def answer(_: Call) -> CallAnswer:
        under_way.set()
        return OK

    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        began_ms = world.clock()
        ids: list[str] = []
        for _round in range(40):
            ids += await world.admit(1)
            await trio.sleep(0.1)
        await trio.sleep(10)
        middle_ms = began_ms + 2_000
        world.receivers.calls.clear()
        world.receivers.answer = answer
        redis = world.store.redis
        await webhook_queues.recover(redis, "hook", Recovery(middle_ms, world.clock()))
        await under_way.wait()
        await webhook_queues.recover(redis, "hook", Recovery(began_ms, world.clock()))
        await trio.sleep(60)
        assert {call.body["data"]["id"] for call in world.receivers.calls} == set(ids)
        (state,) = await webhook_queues.states(redis, ["hook"])
        assert state.recovery is None

    world.tell(work)
