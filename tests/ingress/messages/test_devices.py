"""Messages to devices: people of whom nothing but a token or a subscription is known."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from tests.worlds.ingress_world import World, with_ingress
from tests.worlds.push_examples import browser

NOTIFIED = {
    "[routes.both]": """[providers.notify]
kind = "fcm"
service_account_file = "account.json"
[routes.notified]
steps = [{ provider = "notify", wait = "15m" }]
[routes.both]"""
}
TOKEN = {"kind": "fcm", "token": "tok-1"}
NOTICE: dict[str, Any] = {
    "to": {"push": [TOKEN]},
    "category": "transactional",
    "route": "notified",
    "text": "Your parcel is here",
}


@with_ingress(shards=3, changed=NOTIFIED)
async def test_a_device_alone_is_somebody_to_send_to(world: World) -> None:
    answer = await world.call("POST", "/v1/messages", NOTICE)
    assert (answer.status, answer.json["outcome"]) == (202, "accepted")
    shown = (await world.call("GET", f"/v1/messages/{answer.json['id']}")).json
    assert shown["to"] == {"push": [TOKEN]}
    assert [step["channel"] for step in shown["steps"]] == ["push"]
    again = await world.call("POST", "/v1/messages", NOTICE)
    assert again.json["outcome"] == "accepted", "nobody is recognised by a device"


@with_ingress(changed=NOTIFIED)
async def test_what_goes_to_no_phone_is_sent_to_no_country(world: World) -> None:
    with capture_logs() as logs:
        assert (await world.call("POST", "/v1/messages", NOTICE)).status == 202
    assert "first_message_to_country" not in {log["event"] for log in logs}
    assert b"first_countries_total{" not in (await world.call("GET", "/metrics")).body


@with_ingress(shards=3, changed=NOTIFIED)
async def test_a_device_alone_has_keys_campaigns_and_dry_runs_as_anybody(world: World) -> None:
    sale = NOTICE | {"category": "marketing", "campaign": "autumn"}
    dry = await world.call("POST", "/v1/messages?dry_run=true", sale)
    assert (dry.status, dry.json["outcome"]) == (200, "accepted")
    key = {"idempotency-key": "k-1"}
    first = await world.call("POST", "/v1/messages", sale, key)
    replay = await world.call("POST", "/v1/messages", sale, key)
    assert (first.status, replay.status) == (202, 202)
    assert replay.json == first.json
    assert replay.headers["idempotent-replayed"] == "true"
    many = [NOTICE | {"to": {"push": [{"kind": "fcm", "token": f"t{n}"}]}} for n in range(20)]
    answers = (await world.call("POST", "/v1/messages", many)).json
    assert {each["outcome"] for each in answers} == {"accepted"}
    found = await world.call("GET", f"/v1/messages/{first.json['id']}/explain")
    assert found.status == 200
    ended = await world.call("DELETE", f"/v1/messages/{first.json['id']}")
    assert ended.status == 200


@with_ingress(shards=3, changed=NOTIFIED)
async def test_what_a_notification_says_is_held_against_its_rules(world: World) -> None:
    said = {
        "title": "Parcel",
        "text": "It is here",
        "image_url": "https://shop.example/a.png",
        "url": "https://shop.example/track",
        "data": {"order": "7"},
    }
    subscription = browser(1).subscription
    keys = {"p256dh": subscription.keys.p256dh, "auth": subscription.keys.auth}
    to: dict[str, Any] = {
        "phone": "+79161234567",
        "push": [
            TOKEN,
            {"kind": "webpush", "subscription": {"endpoint": subscription.endpoint, "keys": keys}},
        ],
    }
    whole = {key: value for key, value in NOTICE.items() if key != "text"}
    answer = await world.call("POST", "/v1/messages", whole | {"to": to, "push": said})
    assert answer.status == 202
    shown = (await world.call("GET", f"/v1/messages/{answer.json['id']}")).json
    assert shown["to"] == to
    to["push"][1]["subscription"]["expirationTime"] = 1.8e12  # as a browser's toJSON() gives it
    again = await world.call("POST", "/v1/messages", whole | {"to": to, "push": said})
    del to["push"][1]["subscription"]["expirationTime"]
    assert (await world.call("GET", f"/v1/messages/{again.json['id']}")).json["to"] == to
    for bad, pointer in (
        ({"title": "x" * 101}, "/push/title"),
        ({"title": "a\nb"}, "/push/title"),
        ({"url": "ftp://shop.example"}, "/push/url"),
        ({"data": {"a": 1}}, "/push/data/a"),
        ({"sound": "x"}, "/push/sound"),
    ):
        refused = await world.call("POST", "/v1/messages", NOTICE | {"push": bad})
        assert refused.status == 422, bad
        assert refused.json["errors"][0]["pointer"] == pointer
    for devices, pointer in (
        ([TOKEN] * 6, "/to"),
        ([], "/to"),
        ([{"kind": "apns", "token": "x"}], "/to"),
        ([{"kind": "webpush", "subscription": {"endpoint": "http://a.example"}}], "/to"),
    ):
        refused = await world.call("POST", "/v1/messages", NOTICE | {"to": {"push": devices}})
        assert refused.status == 422, devices
        assert refused.json["errors"][0]["pointer"].startswith(pointer)


@with_ingress(shards=3, changed=NOTIFIED)
async def test_a_stored_users_devices_are_sent_to(world: World) -> None:
    kept = await world.call("PUT", "/v1/users/u1", {"push": [TOKEN]})
    assert kept.json["push"] == [TOKEN]
    nameless = {key: value for key, value in NOTICE.items() if key != "to"} | {"user": "u1"}
    answer = await world.call("POST", "/v1/messages", nameless)
    assert answer.status == 202
    shown = (await world.call("GET", f"/v1/messages/{answer.json['id']}")).json
    assert shown["to"] == {"push": [TOKEN]}
    phone = nameless | {"to": "+79161234567"}
    answer = await world.call("POST", "/v1/messages", phone)
    shown = (await world.call("GET", f"/v1/messages/{answer.json['id']}")).json
    assert shown["to"] == {"phone": "+79161234567", "push": [TOKEN]}
    nobody = await world.call("POST", "/v1/messages", NOTICE | {"to": "+79161234567"})
    assert (nobody.status, nobody.json["errors"][0]["pointer"]) == (422, "/to")
    gone = await world.call("PATCH", "/v1/users/u1", {"push": []})
    assert (gone.status, gone.json["push"]) == (200, None)
    assert (await world.call("PUT", "/v1/users/u1", {"push": []})).json["push"] is None
