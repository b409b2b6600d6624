"""`/v1/webhooks`: what is set and refused, and that its secret is shown once."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.events import Claimed, StepRefused
from gateway.core.records.webhook import WebhookEvent, WebhookTry, outbox_codec
from gateway.core.views.words import rfc3339
from gateway.core.webhooks import DEAD_MS, EVENTS
from gateway.ingress.api.events import webhooks
from gateway.store.compression import unpack
from gateway.store.events import outbox, webhook_queues
from gateway.store.events.webhook_queues import TryResults
from gateway.store.events.webhooks import WEBHOOKS_MAX
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.shared_keys import OUTBOX, WEBHOOKS
from providers.contract import Fault
from tests.ingress.callbacks.test_callbacks import BASIC
from tests.ingress.people.test_inbound import sms
from tests.worlds.ingress_world import OTP, World, with_ingress

MANAGED = {
    'name = "shop"\nkey_env = "SHOP_KEY"': (
        'name = "shop"\nkey_env = "SHOP_KEY"\nscopes = ["send", "read", "manage"]'
    ),
    'scopes = ["report-all"]': 'scopes = ["manage", "operate"]',
    "[redis]": '[webhooks]\nallow_hosts = ["127.0.0.1", "hooks.internal"]\n[redis]',
}
PATH = "/v1/webhooks/orders"
WANTED: dict[str, Any] = {"url": "https://shop.example/hooks?a=b", "events": ["message.delivered"]}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "KNOWN_S", 0)


async def put(world: World, path: str = PATH, key: str = "shop-key", **said: Any) -> Any:
    return await world.call("PUT", path, said or WANTED, key=key)


@with_ingress(changed=MANAGED)
async def test_the_secret_is_shown_once_and_never_again(world: World) -> None:
    answer = await put(world)
    assert answer.status == 200
    said = answer.json
    secret = said.pop("secret")
    assert secret.startswith("whsec_")
    assert said == {"name": "orders", **WANTED, "enabled": True}
    assert (await put(world)).json == said
    shown = await world.call("GET", PATH)
    assert secret not in str(shown.json)
    assert {key: shown.json[key] for key in WANTED} == WANTED
    assert (shown.json["waiting"], shown.json["disabled"]) == (0, None)
    listed = (await world.call("GET", "/v1/webhooks")).json["items"]
    assert listed == [shown.json]


@with_ingress(changed=MANAGED)
async def test_a_new_secret_signs_beside_the_old_one_for_a_day(world: World) -> None:
    first = (await put(world)).json["secret"]
    rotated = await world.call("PUT", PATH + "?rotate=true")
    assert rotated.status == 200
    second = rotated.json["secret"]
    stands = world.store.webhooks.now.every["shop", "orders"]
    assert stands.signs_with(world.clock()) == [second, first]
    assert stands.events == ("message.delivered",)
    assert (await world.call("GET", PATH)).json["old_secret_until"] is not None


@with_ingress(changed=MANAGED)
async def test_what_cannot_be_told_is_refused_with_its_place(world: World) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"events": ["message.sent"]}, "/url"),
        ({"url": "https://shop.example"}, "/events"),
        ({**WANTED, "events": []}, "/events"),
        ({**WANTED, "events": ["message.sent", "message.read"]}, "/events/1"),
        ({**WANTED, "url": "http://shop.example/"}, "/url"),
        ({**WANTED, "url": "https://me@shop.example/"}, "/url"),
        ({**WANTED, "url": "https://shop.example/#part"}, "/url"),
        ({**WANTED, "url": "ftp://hooks.internal/"}, "/url"),
        ({**WANTED, "url": "https://shop.example/a b"}, "/url"),
        ({**WANTED, "url": "https://shop.example:65536/"}, "/url"),
        ({**WANTED, "url": "/hooks"}, "/url"),
        ({**WANTED, "secret": "mine"}, "/secret"),
    ]
    for said, pointer in refused:
        answer = await put(world, **said)
        assert answer.status == 422, said
        assert answer.json["errors"][0]["pointer"] == pointer
    assert (await put(world, "/v1/webhooks/a%20b")).status == 422
    assert (await world.call("PUT", PATH + "?rotate=1", WANTED)).status == 400
    assert world.store.webhooks.now.every == {}


@with_ingress(changed=MANAGED)
async def test_hosts_of_the_allow_list_may_be_told_over_http(world: World) -> None:
    for url in ("http://127.0.0.1:8080/hooks", "http://hooks.internal/", "https://10.0.0.1/"):
        assert (await put(world, url=url, events=["message.sent"])).status == 200


@with_ingress(changed=MANAGED)
async def test_operators_events_need_the_scope_operate(world: World) -> None:
    wanted = {**WANTED, "events": ["provider.paused"]}
    refused = await put(world, **wanted)
    assert refused.status == 403
    assert "operate" in refused.json["detail"]
    assert (await put(world, key="finance-key", **wanted)).status == 200


@with_ingress(changed=MANAGED)
async def test_a_webhook_is_its_apps_alone(world: World) -> None:
    assert (await put(world)).status == 200
    for method, path in [
        ("GET", PATH),
        ("DELETE", PATH),
        ("POST", PATH + "/test"),
        ("GET", PATH + "/attempts"),
    ]:
        assert (await world.call(method, path, key="finance-key")).status == 404
    assert (await world.call("GET", "/v1/webhooks", key="finance-key")).json == {"items": []}
    assert (await world.call("GET", PATH, key="bank-key")).status == 403


@with_ingress(changed=MANAGED)
async def test_an_app_has_a_bounded_number_of_them(world: World) -> None:
    for number in range(WEBHOOKS_MAX):
        assert (await put(world, f"/v1/webhooks/hook{number}")).status == 200
    assert (await put(world, "/v1/webhooks/one-more")).status == 409
    assert (await put(world, "/v1/webhooks/hook1")).status == 200


@with_ingress(changed=MANAGED)
async def test_with_it_goes_what_waits_for_it(world: World) -> None:
    await put(world)
    webhook = world.store.webhooks.now.every["shop", "orders"]
    assert (await world.call("POST", PATH + "/test")).status == 202
    assert (await world.call("GET", PATH)).json["waiting"] == 1
    assert (await world.call("DELETE", PATH)).status == 204
    assert (await world.call("GET", PATH)).status == 404
    (state,) = await webhook_queues.states(world.store.redis, [webhook.id])
    assert state.waiting == 0


@with_ingress(changed=MANAGED)
async def test_attempts_are_shown_page_by_page_the_newest_first(world: World) -> None:
    await put(world)
    id_ = world.store.webhooks.now.every["shop", "orders"].id
    for number in range(1, 8):
        tries = [WebhookTry(f"e{number}{nth}", "message.sent", 1, nth, 3, 500) for nth in (1, 2)]
        await webhook_queues.note(world.store.redis, id_, TryResults(tries, (), ()), None)
    shown, cursor = [], ""
    while True:
        page = (await world.call("GET", f"{PATH}/attempts?limit=3{cursor}")).json
        shown += [each["id"] for each in page["items"]]
        if page["next"] is None:
            break
        cursor = "&cursor=" + page["next"]
    assert shown == [f"e{number}{nth}" for number in range(7, 0, -1) for nth in (2, 1)]
    first = (await world.call("GET", f"{PATH}/attempts?limit=1")).json["items"][0]
    assert (first["status"], first["success"], first["error"]) == (500, False, None)
    assert (await world.call("GET", f"{PATH}/attempts?cursor=x")).status == 400


@with_ingress(changed=MANAGED)
async def test_what_is_disabled_is_neither_tested_nor_recovered(world: World) -> None:
    await put(world)
    since = {"since": "2026-11-01T00:00:00Z"}
    assert (await world.call("POST", PATH + "/recover", since)).status == 202
    assert (await world.call("GET", PATH)).json["recovering_since"] == "2026-11-01T00:00:00.000Z"
    later = {"since": "2099-01-01T00:00:00Z"}
    assert (await world.call("POST", PATH + "/recover", later)).status == 422
    assert (await put(world, enabled=False)).json["enabled"] is False
    assert (await world.call("POST", PATH + "/test")).status == 409
    assert (await world.call("POST", PATH + "/recover", since)).status == 409


@with_ingress(changed=MANAGED)
async def test_what_is_done_to_them_stands_in_the_audit_without_a_secret(world: World) -> None:
    secret = (await put(world)).json["secret"]
    await world.call("PUT", PATH + "?rotate=true")
    await world.call("DELETE", PATH)
    deeds = (await world.call("GET", "/v1/ops/audit", key="finance-key")).json["items"]
    told = [(deed["action"], deed["target"], deed["detail"]) for deed in deeds]
    assert told == [
        ("webhook.delete", "shop orders", ""),
        ("webhook.put", "shop orders", "secret"),
        ("webhook.put", "shop orders", "events, url"),
    ]
    assert secret not in str(deeds)


@with_ingress(changed=MANAGED)
async def test_a_message_is_put_into_the_outbox_with_its_acceptance(world: World) -> None:
    await put(world, url="https://shop.example/", events=["message.queued"])
    sent = (await world.send(OTP)).json["id"]
    (entries,) = await world.store.redis.call([("XRANGE", keys_of(0).outbox, "-", "+")])
    assert len(entries) == 1
    assert sent.encode() in entries[0][1][1]
    assert (await world.call("GET", f"/v1/messages/{sent}")).json["id"] == sent


@with_ingress(changed=MANAGED)
async def test_one_that_cannot_be_read_is_not_there_and_not_changed(world: World) -> None:
    await put(world)
    await world.store.redis.call(
        [("HSET", WEBHOOKS, "shop\0orders", b"\xff"), ("HINCRBY", WEBHOOKS, "", 1)]
    )
    assert (await world.call("GET", PATH)).status == 404
    refused = await put(world)
    assert (refused.status, refused.json["type"]) == (503, "/docs#unavailable")
    assert "newer Kaskad" in refused.json["detail"]
    assert await world.store.redis.call([("HGET", WEBHOOKS, "shop\0orders")]) == [b"\xff"]
    assert set(EVENTS) > {"message.delivered", "message.fallback", "inbound.received"}


@with_ingress(changed=MANAGED)
async def test_operators_see_every_apps_webhooks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(world)
    await world.call("POST", PATH + "/test")
    seen = (await world.call("GET", "/v1/ops", key="finance-key")).json["webhooks"]
    assert seen == [
        {
            "app": "shop",
            "name": "orders",
            "enabled": True,
            "disabled": None,
            "waiting": 1,
            "failing_since": None,
            "dead": False,
            "behind": False,
        }
    ]
    monkeypatch.setattr(outbox, "BEHIND", 1)
    webhook_id = world.store.webhooks.now.every["shop", "orders"].id
    since_ms = world.clock() - DEAD_MS
    await webhook_queues.note(world.store.redis, webhook_id, TryResults((), (), ()), since_ms)
    (seen,) = (await world.call("GET", "/v1/ops", key="finance-key")).json["webhooks"]
    assert (seen["failing_since"], seen["dead"], seen["behind"]) == (rfc3339(since_ms), True, True)


async def outbox_of(world: World, key: str) -> list[WebhookEvent]:
    (entries,) = await world.store.redis.call([("XRANGE", key, "-", "+")])
    return [e for _, fields in entries for e in outbox_codec.decode(unpack(fields[1])).events]


@with_ingress(changed=MANAGED)
async def test_campaigns_and_pauses_are_told_to_all_who_want_it(world: World) -> None:
    await put(world, events=["campaign.paused"], url="https://a.example")
    declared: list[dict[str, Any]] = [{"state": "running"}, {"state": "paused"}, {"pace": "60/m"}]
    for said in declared:
        await world.call("PUT", "/v1/campaigns/autumn", said)
    pause = "/v1/ops/providers/sms/pause"
    await world.call("POST", pause, {"reason": "works"}, key="finance-key")
    wanted: dict[str, Any] = {"url": "https://b.example", "events": ["provider.paused"]}
    await put(world, key="finance-key", **wanted)
    await world.call("POST", pause, {"reason": "again"}, key="finance-key")
    await world.call("POST", "/v1/ops/providers/sms/resume", {}, key="finance-key")
    await world.call("POST", pause, {"reason": "works"}, key="finance-key")
    told = [(e.type, e.app, json.loads(e.data)) for e in await outbox_of(world, OUTBOX)]
    assert [each[:2] for each in told] == [("campaign.paused", ""), ("provider.paused", "")]
    assert told[0][2]["name"] == "autumn"
    assert (told[1][2]["provider"], told[1][2]["detail"]) == ("sms", "works")


@with_ingress(changed=MANAGED)
async def test_a_reply_is_told_to_those_who_want_replies(world: World) -> None:
    await put(world, url="https://shop.example/", events=["inbound.received"])
    callback = await world.call("POST", "/v1/callbacks/sms", sms("Thanks"), BASIC, key="")
    assert callback.status == 200, callback.json
    (event,) = await outbox_of(world, OUTBOX)
    assert (event.type, event.app, event.data) == ("inbound.received", "", b"")
    (kept,) = (await world.call("GET", "/v1/inbound")).json["items"]
    assert (event.reply, kept["text"]) == (kept["id"], "Thanks")


@with_ingress(changed=MANAGED)
async def test_a_fallback_is_told_to_webhooks_and_not_to_the_stream(world: World) -> None:
    await put(world, url="https://shop.example/", events=["message.fallback", "message.sent"])
    message = (await world.send({**OTP, "route": "both"})).json["id"]
    for event in (Claimed(0), StepRefused(0, Fault("7", "no", True))):
        await world.store.apply([Item(message, event)], world.clock())
    told = await outbox_of(world, keys_of(0).outbox)
    assert [(event.type, event.sequence) for event in told] == [("message.fallback", 2)]
    assert told[0].id == f"{message}_2"
    kept = await reads.events_from(world.store.redis, "shop", 0, "-")
    changes = [(change.status, change.fallback) for entry in kept for change in entry.changes]
    assert changes == [("queued", False), ("queued", True)]


@with_ingress(changed=MANAGED)
async def test_what_changes_something_is_known_everywhere_before_it_is_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(webhooks, "asyncio", SimpleNamespace(sleep=sleep))
    changes: list[dict[str, Any]] = [
        {"enabled": False},
        {"enabled": True},
        {"events": ["message.sent"]},
        {"url": "https://other.example/"},
    ]
    await put(world)
    for said in changes:
        await put(world, **said)
    await world.call("PUT", PATH + "?rotate=true")
    assert len(waits) == 6
    await put(world, url="https://other.example/")
    assert len(waits) == 6
