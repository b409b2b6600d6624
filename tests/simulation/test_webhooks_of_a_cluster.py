"""Webhooks while one master of a cluster is away: what happens in its shards waits, and nothing
else does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from gateway.core.ids import shard_of_id
from gateway.core.records.webhook import WebhookEvent
from gateway.core.webhooks import TEST
from gateway.dispatch.webhooks.posting import CallAnswer
from gateway.store.events import outbox, webhook_queues
from gateway.store.events.webhook_queues import Recovery
from gateway.store.keys import keys_of
from gateway.store.store import Store
from tests.simulation.webhook_world import OK, Call, WebhookWorld
from tests.worlds.cascade_world import policy
from tests.worlds.dispatch_world import sends_to

AWAY = 1


@pytest.fixture
def world() -> WebhookWorld:
    made = WebhookWorld()
    made.store = Store(made.store.redis, policy(), shards=3)
    return made


def told(world: WebhookWorld, since: int = 0) -> set[str]:
    return {call.body["data"]["id"] for call in world.receivers.calls[since:]}


def of_others(ids: Sequence[str]) -> set[str]:
    others = {id_ for id_ in ids if shard_of_id(id_) != AWAY}
    assert others < set(ids)
    return others


def test_what_happens_in_other_shards_is_told_at_once(world: WebhookWorld) -> None:
    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        await trio.sleep(10)
        ids = await world.admit(30)
        world.weather.tag_down = keys_of(AWAY).tag
        await trio.sleep(5)
        assert told(world) == of_others(ids)
        sends = sends_to(
            world.store, iter(range(79_170_000_000, 79_170_000_030)), 30, world.clock()
        )
        more = of_others([send.id for send in sends])
        await world.store.admit([send for send in sends if send.id in more], world.clock())
        await trio.sleep(5)
        assert told(world) == of_others(ids) | more
        world.weather.tag_down = ""
        await trio.sleep(5)
        assert told(world) == {*ids, *more}

    world.tell(work)


def test_what_waits_and_cannot_be_read_keeps_nothing_else_waiting(world: WebhookWorld) -> None:
    async def refuse(_: Call) -> CallAnswer:
        return CallAnswer(500)

    async def take(_: Call) -> CallAnswer:
        return OK

    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        await trio.sleep(10)
        world.receivers.answer = refuse
        ids = await world.admit(3)
        while len({shard_of_id(id_) for id_ in ids}) < 3:
            ids += await world.admit(1)
        await trio.sleep(1)
        world.receivers.answer, since = take, len(world.receivers.calls)
        world.weather.tag_down = keys_of(AWAY).tag
        await trio.sleep(20)
        assert told(world, since) == of_others(ids)
        world.weather.tag_down = ""
        await trio.sleep(10)
        assert told(world, since) == set(ids)

    world.tell(work)


def test_what_is_recovered_meanwhile_keeps_nothing_else_waiting(world: WebhookWorld) -> None:
    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        ids = await world.admit(30)
        await trio.sleep(10)
        since, now_ms = len(world.receivers.calls), world.clock()
        world.weather.tag_down = keys_of(AWAY).tag
        await webhook_queues.recover(world.store.redis, "hook", Recovery(0, now_ms))
        await trio.sleep(10)
        event = WebhookEvent("evt_test", TEST, world.clock(), data=b'{"id":"test"}')
        await outbox.give(world.store.redis, [("hook", [event])])
        await trio.sleep(10)
        assert "test" in told(world, since)
        world.weather.tag_down = ""
        await trio.sleep(10)
        assert told(world, since) == {*ids, "test"}

    world.tell(work)


def test_an_outbox_that_fails_for_no_foreseen_reason_costs_itself_alone(
    world: WebhookWorld,
) -> None:
    async def work(_: trio.Nursery) -> None:
        await world.declare("hook", "message.queued")
        await trio.sleep(10)
        await world.store.redis.call([("SET", keys_of(AWAY).outbox, "no stream")])
        sends = sends_to(
            world.store, iter(range(79_170_000_000, 79_170_000_030)), 30, world.clock()
        )
        wanted = of_others([send.id for send in sends])
        await world.store.admit([send for send in sends if send.id in wanted], world.clock())
        await trio.sleep(10)
        assert told(world) == wanted

    world.tell(work)
