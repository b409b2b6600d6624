"""What can be asked and done beside sending: messages, opt-outs, reports, state, documents."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser

import pytest

from gateway import telemetry
from gateway.core import events as ev
from gateway.core.records.codec import NEWEST, SCHEMA
from gateway.core.records.message import MESSAGE_NAMES, STEP_NAMES
from gateway.ingress.api.messages.statuses import STATUSES, STEP_STATUSES
from gateway.ingress.http.problems import KINDS
from gateway.store import shared_keys
from gateway.store.installation import audit, snapshots
from gateway.store.keys import keys_of
from gateway.store.messages.apply import Item
from gateway.store.providers import providers
from gateway.version import VERSION
from providers.contract import Fault, Receipt
from tests.worlds.ingress_world import OTP, PHONE, SALE, T0, World, with_ingress


@with_ingress()
async def test_a_message_is_shown_with_exactly_the_keys_of_the_contract(world: World) -> None:
    request = SALE | {"user": "u1", "metadata": {"order": "7"}, "category": "transactional"}
    id_ = (await world.send(request)).json["id"]
    answer = await world.call("GET", f"/v1/messages/{id_}")
    assert answer.status == 200
    step = {
        "status": "queued",
        "until": "delivered",
        "provider_id": None,
        "attempts": 0,
        "sent_at": None,
        "delivered_at": None,
        "seen_at": None,
        "clicked_at": None,
        "done_at": None,
        "billed": None,
        "cost": None,
        "error": None,
    }
    assert answer.json == {
        "id": id_,
        "app": "shop",
        "user": "u1",
        "to": PHONE,
        "campaign": "autumn",
        "category": "transactional",
        "importance": "normal",
        "route": "both",
        "status": "queued",
        "final": False,
        "reaction": None,
        "held": None,
        "reason": None,
        "created_at": "2026-11-18T11:06:40.000Z",
        "updated_at": "2026-11-18T11:06:40.000Z",
        "metadata": {"order": "7"},
        "steps": [
            step | {"channel": "viber", "provider": "viber", "parts": None},
            step | {"channel": "sms", "provider": "sms", "parts": 1},
        ],
        "billing": None,
    }


@with_ingress()
async def test_a_delivery_after_a_refusal_shows_times_errors_and_billing(world: World) -> None:
    request = OTP | {"route": "both", "text": "x" * 161}
    id_ = (await world.send(request)).json["id"]
    fault = Fault("7", "EC_NO_VIBER", permanent=True)
    delivered = Receipt(status="delivered", ref=f"{id_}.1", at_ms=T0 + 4_234)
    for event in (
        ev.Claimed(0),
        ev.StepRefused(0, fault),
        ev.Claimed(1),
        ev.Accepted(1, provider_id="p-1", sent_ms=T0 + 4_000),
        ev.Reported(1, delivered, "sms"),
    ):
        world.clock.now_ms += 1_000
        await world.store.apply([Item(id_, event)], world.clock.now_ms)
    view = (await world.call("GET", f"/v1/messages/{id_}")).json
    viber, sms = view["steps"]
    assert viber["status"] == "rejected"
    assert viber["error"] == {"code": "7", "name": "EC_NO_VIBER", "permanent": True}
    assert (sms["status"], sms["provider_id"], sms["attempts"]) == ("delivered", "p-1", 1)
    assert (sms["parts"], sms["sent_at"]) == (2, "2026-11-18T11:06:44.000Z")
    assert sms["done_at"] == "2026-11-18T11:06:44.234Z"
    assert view["status"] == "delivered"
    assert view["billing"] == {"billed": "0.0160", "cost": "0.0100", "currency": "EUR"}


@with_ingress()
async def test_a_step_its_provider_knows_by_our_id_shows_that_id_once_it_was_sent(
    world: World,
) -> None:
    id_ = (await world.send(OTP | {"route": "both"})).json["id"]
    await world.hand_over(id_)
    view = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert [step["provider_id"] for step in view["steps"]] == [f"{id_}.0", None]


@with_ingress()
async def test_a_timeline_tells_what_happened_the_oldest_first(world: World) -> None:
    id_ = (await world.send(OTP)).json["id"]
    for event in (ev.Claimed(0), ev.Accepted(0, provider_id="p-1", sent_ms=T0 + 2_000)):
        world.clock.now_ms += 1_000
        await world.store.apply([Item(id_, event)], world.clock.now_ms)
    answer = await world.call("GET", f"/v1/messages/{id_}/timeline")
    whole = {"step": None, "channel": None, "provider": None, "detail": "route sms-only"}
    sms = {"step": 0, "channel": "sms", "provider": "sms"}
    assert answer.json == {
        "items": [
            {"at": "2026-11-18T11:06:40.000Z", "event": "accepted"} | whole,
            {"at": "2026-11-18T11:06:41.000Z", "event": "tried", "detail": None} | sms,
            {"at": "2026-11-18T11:06:42.000Z", "event": "sent", "detail": "p-1"} | sms,
        ]
    }


@with_ingress()
async def test_another_apps_message_does_not_exist(world: World) -> None:
    id_ = (await world.send(OTP)).json["id"]
    for path, key in ((id_, "bank-key"), ("nonsense", "shop-key"), ("0" * 20, "shop-key")):
        for method, view in (("GET", ""), ("DELETE", ""), ("GET", "/timeline")):
            answer = await world.call(method, f"/v1/messages/{path}{view}", key=key)
            assert (answer.status, answer.json["status"]) == (404, 404)
    assert (await world.call("DELETE", f"/v1/messages/{id_}", key="reader-key")).status == 403


@with_ingress()
async def test_a_cancelled_message_starts_no_step_and_cannot_be_cancelled_again(
    world: World,
) -> None:
    id_ = (await world.send(OTP)).json["id"]
    answer = await world.call("DELETE", f"/v1/messages/{id_}")
    assert (answer.status, answer.json["status"]) == (200, "cancelled")
    assert [step["status"] for step in answer.json["steps"]] == ["skipped"]
    again = await world.call("DELETE", f"/v1/messages/{id_}")
    assert (again.status, again.json["type"]) == (409, "/docs#final")


@with_ingress()
async def test_a_cancelled_message_that_is_under_way_may_be_cancelled_again(world: World) -> None:
    id_ = (await world.send(OTP)).json["id"]
    await world.hand_over(id_)
    first = await world.call("DELETE", f"/v1/messages/{id_}")
    assert (first.status, first.json["status"], first.json["final"]) == (200, "cancelled", False)
    again = await world.call("DELETE", f"/v1/messages/{id_}")
    assert (again.status, again.body) == (200, first.body)
    deeds = (await audit.read(world.store.redis, 10)).deeds
    assert [deed.action for _, deed in deeds] == ["message.cancel"]
    late = Receipt(status="undelivered", ref=f"{id_}.0", at_ms=world.clock.now_ms)
    await world.store.apply([Item(id_, ev.Reported(0, late, "sms"))], world.clock.now_ms)
    assert (await world.call("DELETE", f"/v1/messages/{id_}")).status == 409


@with_ingress(shards=3)
async def test_opt_outs_are_put_shown_and_taken_back(world: World) -> None:
    path = f"/v1/optouts/{PHONE}"
    assert (await world.call("GET", path)).status == 404
    assert (await world.call("DELETE", path)).status == 204
    for scope in ("marketing", "all"):
        put = await world.call("PUT", path, {"scope": scope})
        assert (put.status, put.json["phone"], put.json["scope"]) == (200, PHONE, scope)
        assert (await world.call("GET", path)).json == put.json
    gone = await world.call("DELETE", path)
    assert (gone.status, gone.body) == (204, b"")
    assert (await world.call("GET", path)).status == 404


@with_ingress()
async def test_an_opt_out_that_cannot_be_read_is_refused(world: World) -> None:
    path = f"/v1/optouts/{PHONE}"
    unknown = await world.call("GET", "/v1/optouts/12")
    assert unknown.json["errors"][0]["pointer"] == "/address"
    for body, pointer in (({"scope": "some"}, "/scope"), ({}, "/scope"), ([], ""), (None, "")):
        answer = await world.call("PUT", path, body)
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, pointer)
    unknown = await world.call("PUT", path, {"scope": "all", "why": "x"})
    assert unknown.json["errors"][0]["pointer"] == "/why"
    assert (await world.call("PUT", path, b"{", {"content-type": "application/json"})).status == 400
    assert (await world.call("PUT", path, b"{}")).status == 415
    assert (await world.call("PUT", path, {"scope": "all"}, key="reader-key")).status == 403
    assert (await world.call("POST", path, {})).status == 405


@with_ingress()
async def test_reports_are_served_to_keys_with_the_scope(world: World) -> None:
    await world.send(OTP)
    report = await world.call("GET", "/v1/reports/cost?group_by=app")
    assert report.json["rows"][0]["accepted"] == 1
    assert (await world.call("GET", "/v1/reports/cost", key="reader-key")).status == 403
    bad = await world.call("GET", "/v1/reports/cost?from=yesterday")
    assert (bad.status, bad.json["errors"][0]["pointer"]) == (422, "/from")
    assert (await world.call("GET", "/reports", key="")).status == 401
    assert (await world.call("GET", "/reports")).headers["content-type"].startswith("text/html")
    assert (await world.call("POST", "/reports")).status == 405


@with_ingress()
async def test_health_and_readiness_tell_what_an_operator_needs(world: World) -> None:
    assert (await world.call("GET", "/healthz", key="")).json == {
        "status": "ok",
        "version": VERSION,
    }
    pause = {"code": "NO_CREDIT", "detail": "Top up.", "since": T0, "until": T0 + 5_000}
    registries = telemetry.new_registries()
    await snapshots.publish(
        world.redis, "dispatch-here-7", telemetry.snapshot(registries, "dispatch-here-7"), T0
    )
    await world.redis.call(
        [
            ("HSET", shared_keys.PAUSED, "sms", json.dumps(pause)),
            ("HSET", shared_keys.PAUSED, "viber", b"of another version"),
        ]
    )
    answer = await world.call("GET", "/readyz", key="")
    assert answer.status == 200
    assert answer.json["dispatchers"] == 1
    assert (answer.json["ready"], answer.json["redis"]) == (True, "ok")
    sms, viber = answer.json["paused"]
    assert sms == pause | {
        "provider": "sms",
        "kind": "account",
        "since": "2026-11-18T11:06:40.000Z",
        "until": "2026-11-18T11:06:45.000Z",
    }
    assert viber["provider"] == "viber"
    world.clock.now_ms += snapshots.SNAPSHOT_MS + 1
    assert (await world.call("GET", "/readyz")).json["dispatchers"] == 0


@with_ingress()
async def test_without_redis_a_worker_is_alive_but_not_ready(world: World) -> None:
    world.redis.away = True
    assert (await world.call("GET", "/healthz")).status == 200
    answer = await world.call("GET", "/readyz")
    assert (answer.status, answer.json["ready"], answer.json["redis"]) == (503, False, "away")
    assert answer.headers["retry-after"] == "2"
    assert (await world.call("GET", "/metrics")).status == 200
    assert (await world.call("GET", "/v1/messages/" + "0" * 20)).status == 503


@with_ingress()
async def test_metrics_show_every_process(world: World) -> None:
    await world.send(OTP)
    await world.call("POST", "/v1/messages", OTP, key="wrong")
    await world.app.backlog.sample()
    registries = telemetry.new_registries()
    await snapshots.publish(
        world.redis, "dispatch-here-7", telemetry.snapshot(registries, "dispatch-here-7"), T0
    )
    text = (await world.call("GET", "/metrics", key="")).body.decode()
    own = 'process="ingress-test-1"'
    assert f'kaskad_ingress_messages_total{{category="otp",outcome="accepted",{own}}} 1.0' in text
    assert f'kaskad_http_requests_total{{endpoint="send",{own},status="401"}} 1.0' in text
    assert 'kaskad_lane_messages{category="otp",provider="sms"} 1.0' in text
    assert 'kaskad_process_cpu_seconds_total{process="dispatch-here-7"}' in text
    assert PHONE[1:] not in text


@with_ingress()
async def test_what_does_not_exist_is_a_problem_like_all_others(world: World) -> None:
    for path in ("/v1", "/v1/messages/", "/v2/messages", "/healthz/"):
        answer = await world.call("GET", path)
        assert (answer.status, answer.json["status"]) == (404, 404), path
    answer = await world.call("DELETE", "/healthz")
    assert (answer.status, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})


class Links(HTMLParser):
    """The ids of a page and what its links point to."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: set[str] = set()
        self.outside: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name == "href" and value and value.startswith("#"):
                self.targets.add(value[1:])
            if name in ("src", "href") and value and value.startswith(("http", "//")):
                self.outside.add(value)


@with_ingress('public_url = "https://gateway.example"')
async def test_the_documents_are_whole_and_need_nothing_from_elsewhere(world: World) -> None:
    document = (await world.call("GET", "/openapi.json", key="")).json
    assert document["openapi"].startswith("3.1")
    answer = await world.call("GET", "/docs", key="")
    page = answer.body.decode()
    links = Links()
    links.feed(page)
    assert links.outside == set()
    assert links.targets <= links.ids
    assert set(KINDS) <= links.ids
    assert all(kind.advice.partition("`")[0] in html.unescape(page) for kind in KINDS.values())
    for path, item in document["paths"].items():
        assert path in page
        for method, operation in item.items():
            assert operation["operationId"] in links.ids
            assert f">{method.upper()}</span> <code>{path}</code>" in page
    assert "<td>integer, 1 to 1000; 100 if not given</td>" in page
    assert "<td>string, 1 to 255 characters</td>" in page
    assert "https://gateway.example/v1/messages" in page
    assert "script" not in answer.headers["content-security-policy"]


def test_every_status_is_explained() -> None:
    assert set(STATUSES) == set(MESSAGE_NAMES.values())
    assert set(STEP_STATUSES) == set(STEP_NAMES.values())


@with_ingress()
async def test_the_first_page_leads_on(world: World) -> None:
    answer = await world.call("GET", "/", key="")
    assert answer.status == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    targets = re.findall(r'href="([^"]+)"', answer.body.decode())
    assert targets == ["/docs", "/openapi.json", "/reports"]
    for target in targets:
        assert (await world.call("GET", target)).status == 200


@with_ingress()
async def test_a_log_line_of_a_request_has_no_phone_number(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.call("GET", f"/v1/optouts/{PHONE}")
    output = capsys.readouterr()
    assert "getOptOut" in output.out + output.err
    assert PHONE[1:] not in output.out + output.err


@with_ingress()
async def test_what_a_newer_kaskad_wrote_is_unavailable_and_its_neighbours_are_not(
    world: World,
) -> None:
    id_ = (await world.send(SALE)).json["id"]
    key = keys_of(0).message(id_)
    (record,) = await world.redis.call([("GET", key)])
    newer = bytes((NEWEST + 1,)) + record[1:]
    await world.redis.call([("SET", key, newer)])
    for method in ("GET", "DELETE"):
        answer = await world.call(method, f"/v1/messages/{id_}")
        assert answer.status == 503
        assert "newer Kaskad" in answer.json["detail"]
    person = keys_of(0).person("p:" + PHONE[1:])
    await world.redis.call([("SET", person, bytes((SCHEMA + 1, 0x80)))])
    other = SALE | {"to": "+79160000002"}
    told = (await world.send([SALE, other])).json
    assert [item["outcome"] for item in told] == ["error", "accepted"]
    assert told[0]["error"]["status"] == 503
    assert await world.redis.call([("GET", key)]) == [newer]


@with_ingress(changed={'kind = "infobip-viber"': 'kind = "infobip-viber"\nwas = ["viber-old"]'})
async def test_a_worker_says_which_providers_it_has(world: World) -> None:
    said = ("ZRANGEBYSCORE", shared_keys.PROVIDERS, world.clock.now_ms, "+inf")
    await world.app.publish()
    (found,) = await world.redis.call([said])
    assert isinstance(found, list)
    assert set(found) == {b"viber", b"viber-old", b"sms"}
    assert await providers.gone(world.redis, world.clock.now_ms) == []
    later_ms = world.clock.now_ms + providers.GONE_AFTER_MS
    assert set(await providers.gone(world.redis, later_ms)) == {"viber", "viber-old", "sms"}
