"""What a webhook's keys hold that nobody here can read costs no other event anything; and what is
left in them by webhooks that are gone."""

from __future__ import annotations

import pytest
import trio

from gateway.core.records.webhook import WebhookEvent, event_codec
from gateway.redis.client import Command
from gateway.store import quarantine, shared_keys
from gateway.store.events import outbox, webhook_queues, webhooks
from gateway.store.installation.audit import Deed
from gateway.store.keys import keys_of
from tests.simulation.webhook_world import WebhookWorld
from tests.worlds.virtual_clock import VirtualClock

JUNK = b"\xff\xfe junk"
NEWER = b"\x0f"  # of a schema that is none yet
QUEUE, TRIES, STATE = (shared_keys.webhook("hook", what) for what in ("queue", "tries", "state"))


@pytest.fixture
def world() -> WebhookWorld:
    return WebhookWorld()


def event(number: int) -> WebhookEvent:
    return WebhookEvent(f"e{number}", "message.sent", number + 1, "shop")


def test_an_event_that_cannot_be_read_is_set_aside_and_lost_to_nobody(world: WebhookWorld) -> None:
    async def work(_: trio.Nursery) -> None:
        redis = world.store.redis
        await world.declare("hook", "message.queued")
        await redis.call([("ZADD", QUEUE, 1, JUNK)])
        await world.admit(1)
        await trio.sleep(10)
        assert len(world.receivers.calls) == 1
        (aside,) = await quarantine.listed(redis, 1)
        assert (aside.what.split()[0], aside.raw) == (QUEUE, JUNK)
        (left,) = await redis.call([("ZCARD", QUEUE)])
        assert left == 0

    world.tell(work)


def test_what_a_newer_kaskad_put_first_keeps_nothing_of_ours_waiting(world: WebhookWorld) -> None:
    async def main() -> None:
        redis, now_ms = world.store.redis, 1_000_000
        for number in range(3):
            newer = NEWER + event_codec.encode(event(number))[1:]
            await redis.call([("ZADD", QUEUE, number, newer)])
        await outbox.give(redis, [("hook", [event(7)])])
        seen = set[str]()
        for _ in range(2):
            found = await webhook_queues.due(redis, "hook", now_ms, 3)
            seen.update(each.event.id for each in found)
        assert seen == {"e7"}
        (count,) = await redis.call([("ZCARD", QUEUE)])
        assert count == 4

    VirtualClock().run(main)


@pytest.mark.parametrize(
    "harm",
    [
        ("HSET", STATE, webhook_queues.FAILING_FIELD, JUNK),
        ("HSET", STATE, webhook_queues.RECOVER_FIELD, JUNK),
        ("HSET", STATE, outbox.LOST_FIELD, JUNK),
    ],
)
def test_a_state_that_cannot_be_read_stops_no_event(world: WebhookWorld, harm: Command) -> None:
    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        await world.store.redis.call([harm])
        ids = await world.admit(3)
        await trio.sleep(10)
        told = [call.body["data"]["id"] for call in world.receivers.calls]
        assert sorted(told) == sorted(ids)

    world.tell(work)


def test_tries_that_are_no_number_count_as_none(world: WebhookWorld) -> None:
    async def main() -> None:
        redis = world.store.redis
        await outbox.give(redis, [("hook", [event(n) for n in range(2)])])
        await redis.call([("HSET", TRIES, "e0", JUNK, "e1", 4)])
        found = await webhook_queues.due(redis, "hook", 1_000_000, 9)
        assert [each.tries for each in found] == [0, 4]

    VirtualClock().run(main)


def test_nothing_is_left_in_an_outbox_when_the_last_webhook_goes(world: WebhookWorld) -> None:
    async def work(nursery: trio.Nursery) -> None:
        redis = world.store.redis
        await world.declare("hook", "message.queued")
        await world.admit(3)
        deed = Deed(world.clock(), "test", "webhook.delete", "hook")
        await webhooks.change(redis, "shop", "hook", lambda _before, _count: None, deed)
        await trio.sleep(2)
        world.begin_desk(nursery, "late")
        await trio.sleep(10)
        (left,) = await redis.call([("XLEN", keys_of(0).outbox)])
        assert left == 0
        await world.declare("another", "message.queued")
        await trio.sleep(10)
        assert world.receivers.calls == []

    world.tell(work, desks=0)
