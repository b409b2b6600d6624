"""What a call says, by what its event refers to and whether that is still there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.records.reply import KeptReply
from gateway.core.records.webhook import WebhookEvent
from gateway.core.views.message import view_of
from gateway.core.webhooks import LOST
from gateway.dispatch.webhooks.bodies import Bodies, bodies
from gateway.dispatch.webhooks.desk import chosen
from gateway.store.events.outbox import LostEvents
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.people import replies
from tests.simulation.webhook_world import WebhookWorld
from tests.worlds.cascade_world import T0

pytestmark = pytest.mark.trio
AT = "2026-11-18T08:26:40.000Z"


@pytest.fixture
def world() -> WebhookWorld:
    return WebhookWorld()


async def made(world: WebhookWorld, event: WebhookEvent, lost: LostEvents | None = None) -> Bodies:
    return await bodies(world.store, [event], lost)


def said(found: Bodies) -> Any:
    (body,) = found.ready.values()
    return json.loads(body)


async def test_a_message_is_told_as_its_app_reads_it(world: WebhookWorld) -> None:
    (id_,) = await world.admit(1)
    event = WebhookEvent(f"{id_}_1", "message.queued", T0, "shop", id_, 1)
    body = said(await made(world, event))
    assert list(body) == ["type", "timestamp", "data"]
    message = await reads.message(world.store, id_)
    assert message is not None
    view = json.loads(json.dumps(body["data"]))
    assert view.pop("sequence") == 1
    shown = view_of(message, world.store.policy.currency)
    assert view.keys() == set(shown.__struct_fields__)
    assert (view["id"], view["status"]) == (id_, "queued")


async def test_the_context_of_a_message_that_is_traced_goes_along(world: WebhookWorld) -> None:
    (traced,), (other,) = await world.admit(1, trace="00-a-b-01"), await world.admit(1)
    events = [
        WebhookEvent(f"{id_}_1", "message.queued", T0, "shop", id_, 1) for id_ in (traced, other)
    ]
    found = await bodies(world.store, events, None)
    assert found.traced == {f"{traced}_1": "00-a-b-01"}


async def test_a_message_that_is_forgotten_is_named(world: WebhookWorld) -> None:
    (id_,) = await world.admit(1)
    await world.store.redis.call([("DEL", keys_of(0).message(id_))])
    event = WebhookEvent(f"{id_}_2", "message.sent", T0, "shop", id_, 2)
    data = said(await made(world, event))["data"]
    assert data == {"id": id_, "status": "sent", "sequence": 2}


async def test_a_message_of_a_newer_kaskad_waits_for_it(world: WebhookWorld) -> None:
    (id_,) = await world.admit(1)
    await world.store.redis.call([("SET", keys_of(0).message(id_), b"\x0f\x80")])
    event = WebhookEvent(f"{id_}_2", "message.sent", T0, "shop", id_, 2)
    assert await made(world, event) == Bodies({}, set(), {event.id}, set(), {})


async def test_a_reply_is_told_until_it_is_forgotten(world: WebhookWorld) -> None:
    reply = KeptReply("sms", "sms", "p:79161234567", "4474", "Thanks", T0, "shop")
    (kept,) = await replies.keep(world.store, [reply])
    event = WebhookEvent("evt_1", "inbound.received", T0, "shop", reply=kept.id)
    assert said(await made(world, event))["data"]["text"] == "Thanks"
    await replies.forget(world.store, ["p:79161234567"], None)
    assert (await made(world, event)).forgotten == {"evt_1"}


async def test_what_was_lost_is_told_by_range_and_other_things_as_they_were(
    world: WebhookWorld,
) -> None:
    lost = LostEvents("evt_1", T0, 7, T0, T0 + 1_000)
    data = said(await made(world, WebhookEvent("evt_1", LOST, T0), lost))["data"]
    assert (data["count"], data["to"] > data["from"]) == (7, True)
    assert (await made(world, WebhookEvent("evt_1", LOST, T0))).forgotten == {"evt_1"}
    event = WebhookEvent("evt_2", "campaign.paused", T0, data=b'{"name":"autumn"}')
    assert said(await made(world, event))["data"] == {"name": "autumn"}


async def test_of_several_dispatchers_all_reckon_alike_and_few_things_move() -> None:
    names = [f"hook{n}" for n in range(300)]
    before = {name: chosen(name, ["a", "b", "c"]) for name in names}
    assert before == {name: chosen(name, ["c", "a", "b"]) for name in names}
    assert min(list(before.values()).count(peer) for peer in "abc") > 50
    after = {name: chosen(name, ["a", "b"]) for name in names}
    assert all(after[name] == peer for name, peer in before.items() if peer != "c")
