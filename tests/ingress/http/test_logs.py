"""What the log says at night: a message by its id, Redis, and nothing of probes."""

from __future__ import annotations

from structlog.testing import capture_logs

from gateway.core import events as ev
from gateway.store.messages.apply import Item
from providers.contract import Receipt
from tests.worlds.ingress_world import PHONE, SALE, T0, World, with_ingress


@with_ingress()
async def test_a_message_is_followed_by_its_id(world: World) -> None:
    world.store.log_messages = True
    with capture_logs() as lines:
        id_ = (await world.send(SALE | {"user": "u-7"})).json["id"]
        await world.send(SALE)
        await world.hand_over(id_)
        failed = ev.Reported(0, Receipt("undelivered", ref=f"{id_}.0"), "viber")
        await world.store.apply([Item(id_, failed)], T0)
        await world.store.apply([Item(id_, ev.Claimed(1)), Item(id_, ev.Accepted(1))], T0)
        arrived = ev.Reported(1, Receipt("delivered", ref=f"{id_}.1"), "sms")
        await world.store.apply([Item(id_, arrived)], T0)
    followed = [line for line in lines if line.get("message") == id_]
    assert [
        (line["event"], line.get("outcome") or line.get("status") or line["reason"])
        for line in followed
    ] == [
        ("message_asked", "accepted"),
        ("message_asked", "duplicate"),
        ("message_status", "sent"),
        ("message_fallback", "undelivered"),
        ("message_status", "sent"),
        ("message_status", "delivered"),
    ]
    assert PHONE[1:] not in str(followed)
    assert "Sale!" not in str(followed)
    assert "u-7" not in str(followed)


@with_ingress()
async def test_messages_are_logged_only_where_the_configuration_asks(world: World) -> None:
    with capture_logs() as lines:
        id_ = (await world.send(SALE)).json["id"]
        await world.hand_over(id_)
    assert [line for line in lines if line["event"].startswith("message_")] == []


@with_ingress()
async def test_redis_away_and_back_is_told_once_each(world: World) -> None:
    backlog = world.app.backlog
    with capture_logs() as lines:
        world.redis.away = True
        await backlog.try_to_sample()
        world.clock.now_ms += 7_000
        await backlog.try_to_sample()
        world.redis.away = False
        await backlog.try_to_sample()
        await backlog.try_to_sample()
    told = [line for line in lines if line["event"].startswith("redis_")]
    assert [(line["log_level"], line["event"]) for line in told] == [
        ("warning", "redis_away"),
        ("info", "redis_back"),
    ]
    assert told[1]["after_s"] == 7


@with_ingress()
async def test_probes_and_scrapes_are_no_lines(world: World) -> None:
    with capture_logs() as lines:
        for path in ("/healthz", "/readyz", "/metrics"):
            await world.call("GET", path, key="")
        await world.call("PUT", f"/v1/optouts/{PHONE}", {"scope": "all"})
    requests = [line for line in lines if line["event"] == "request"]
    shown = [line["endpoint"] for line in requests if line["log_level"] != "debug"]
    assert shown == ["putOptOut"]
