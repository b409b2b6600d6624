"""`POST /v1/messages` with one message and with arrays: CONTRACT.md section 3, sentence by
sentence."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.core.records.request import Answer
from gateway.ingress.http import auth
from gateway.redis.errors import RedisUnavailable
from gateway.store import keys, quarantine, shared_keys
from gateway.store.installation import api_keys
from gateway.store.messages import reads
from tests.worlds.ingress_world import OTP, PHONE, SALE, T0, World, with_ingress


@with_ingress()
async def test_an_accepted_message_is_in_redis_when_it_is_answered(world: World) -> None:
    answer = await world.send(OTP)
    assert answer.status == 202
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json) == ["id", "outcome", "status"]
    assert answer.json | {"id": ""} == {"id": "", "outcome": "accepted", "status": "queued"}
    message = await reads.message(world.store, answer.json["id"])
    assert message is not None
    assert (message.app, message.addresses.phone, message.created_ms) == ("shop", PHONE[1:], T0)


@with_ingress()
async def test_the_same_campaign_again_names_the_winner_and_its_status_now(world: World) -> None:
    first = (await world.send(SALE)).json["id"]
    again = await world.call("POST", "/v1/messages", SALE, key="bank-key")
    assert again.status == 200
    assert again.json == {"id": first, "outcome": "duplicate", "status": "queued"}


@with_ingress()
async def test_a_hundred_at_once_are_one_accepted_and_ninety_nine_duplicates(world: World) -> None:
    answers = await asyncio.gather(*(world.send(SALE) for _ in range(100)))
    winners = {a.json["id"] for a in answers if a.json["outcome"] == "accepted"}
    assert len(winners) == 1
    assert (
        sum(
            a.json == {"id": w, "outcome": "duplicate", "status": "queued"}
            for w in winners
            for a in answers
        )
        == 99
    )


@with_ingress()
async def test_a_full_cap_is_told_with_its_numbers(world: World) -> None:
    for campaign in ("one", "two"):
        await world.send(SALE | {"campaign": campaign})
    answer = await world.send(SALE | {"campaign": "three"})
    assert answer.status == 200
    assert answer.json == {
        "outcome": "suppressed",
        "reason": "frequency_cap",
        "cap": {
            "name": "two-a-day",
            "limit": 2,
            "window": "1d",
            "count": 2,
            "retry_at": "2026-11-19T11:06:40.000Z",
        },
    }


@with_ingress()
async def test_who_opted_out_gets_nothing(world: World) -> None:
    await world.call("PUT", f"/v1/optouts/{PHONE}", {"scope": "marketing"})
    answer = await world.send(SALE)
    assert (answer.status, answer.json) == (200, {"outcome": "suppressed", "reason": "opted_out"})
    assert (await world.send(OTP)).status == 202


@with_ingress()
async def test_a_bad_request_is_told_all_its_faults(world: World) -> None:
    answer = await world.send({"to": "12", "category": "marketing", "text": "", "colour": "red"})
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json) == {"type", "title", "status", "detail", "errors"}
    pointers = [error["pointer"] for error in answer.json["errors"]]
    assert sorted(pointers) == ["/campaign", "/colour", "/text", "/to"]
    assert all(error["detail"].endswith(".") for error in answer.json["errors"])


@with_ingress()
async def test_what_admission_refuses_is_a_422_with_the_key_at_fault(world: World) -> None:
    answer = await world.send(OTP | {"route": "pigeon"})
    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"] == "/route"


@with_ingress()
async def test_the_same_key_and_body_give_the_first_answer_again(world: World) -> None:
    first = await world.send(OTP, idempotency_key="a")
    spaced = json.dumps(dict(reversed(OTP.items())), indent=3).encode()
    kind = {"content-type": "application/json; charset=utf-8", "idempotency-key": "a"}
    again = await world.call("POST", "/v1/messages", spaced, kind)
    in_body = await world.send(OTP | {"idempotency_key": "a"})
    assert "idempotent-replayed" not in first.headers
    for replay in (again, in_body):
        assert (replay.status, replay.body) == (202, first.body)
        assert replay.headers["idempotent-replayed"] == "true"


@with_ingress()
async def test_the_same_key_with_another_body_is_refused(world: World) -> None:
    await world.send(OTP, idempotency_key="a")
    answer = await world.send(OTP | {"text": "Another"}, idempotency_key="a")
    assert answer.status == 422
    assert answer.json["type"] == "/docs#idempotency-conflict"
    # Keys are an app's own.
    other = await world.call("POST", "/v1/messages", OTP, {"idempotency-key": "a"}, key="bank-key")
    assert other.status == 202


@with_ingress()
async def test_the_same_key_with_another_array_is_refused(world: World) -> None:
    await world.send([OTP, SALE], idempotency_key="a")
    other = [item | {"text": "Another"} for item in (OTP, SALE)]
    answer = await world.send(other, idempotency_key="a")
    assert (answer.status, answer.json["type"]) == (422, "/docs#idempotency-conflict")
    mixed = await world.send([OTP, other[1]], idempotency_key="a")
    assert mixed.status == 200, "one is told again"
    assert [result["outcome"] for result in mixed.json] == ["accepted", "rejected"]
    own = [item | {"idempotency_key": f"own-{n}"} for n, item in enumerate((OTP, SALE))]
    await world.send(own)
    assert (await world.send([item | {"text": "Another"} for item in own])).status == 200


@with_ingress()
async def test_an_idempotency_key_that_cannot_be_one_is_refused(world: World) -> None:
    for key in ("", "x" * 256, "tab\there"):
        answer = await world.send(OTP, idempotency_key=key)
        assert (answer.status, answer.json["type"]) == (400, "/docs#malformed")


@with_ingress()
async def test_an_array_is_answered_in_order_and_bad_items_fail_alone(world: World) -> None:
    answer = await world.send([SALE, {"to": 1}, SALE, OTP])
    assert answer.status == 200
    results = answer.json
    assert [r["index"] for r in results] == [0, 1, 2, 3]
    assert [r["outcome"] for r in results] == ["accepted", "rejected", "duplicate", "accepted"]
    assert results[2]["id"] == results[0]["id"]
    assert results[1]["error"]["status"] == 422
    assert {e["pointer"] for e in results[1]["error"]["errors"]} == {"/to", "/category"}


@with_ingress()
async def test_items_without_a_key_have_the_headers_key_and_their_index(world: World) -> None:
    items = [OTP, OTP | {"text": "Two"}, OTP | {"idempotency_key": "own"}]
    first = await world.send(items, idempotency_key="batch")
    again = await world.send(items, idempotency_key="batch")
    assert again.body == first.body
    assert again.headers["idempotent-replayed"] == "true"
    alone = await world.send(items[1], idempotency_key="batch#1")
    assert alone.json["id"] == first.json[1]["id"]
    partly = await world.send([*items, OTP | {"text": "New"}], idempotency_key="batch")
    assert "idempotent-replayed" not in partly.headers
    other = await world.send([items[0], OTP | {"text": "Other"}], idempotency_key="batch")
    assert [item["outcome"] for item in other.json] == ["accepted", "rejected"]
    assert "idempotent-replayed" not in other.headers


@with_ingress()
async def test_a_repeated_array_is_replayed_where_items_of_it_are_refused_again(
    world: World,
) -> None:
    items: list[Any] = [
        OTP,
        {"to": 1},
        OTP | {"text": "Two"},
        OTP | {"to": {"email": "a@b.example"}},
    ]
    first = await world.send(items, idempotency_key="mixed")
    assert "idempotent-replayed" not in first.headers
    again = await world.send(items, idempotency_key="mixed")
    assert again.body == first.body
    assert again.headers["idempotent-replayed"] == "true"
    for _ in range(2):
        refused = await world.send([{"to": 1}], idempotency_key="bad")
        assert "idempotent-replayed" not in refused.headers


@with_ingress("batch_items_max = 3\nbody_bytes_max = 2048")
async def test_what_is_too_large_is_a_413(world: World) -> None:
    assert (await world.send([OTP] * 4)).status == 413
    assert (await world.send([])).status == 422
    long = OTP | {"metadata": {"a": "x" * 3000}}
    declared = {"content-type": "application/json", "content-length": "3000"}
    assert (await world.call("POST", "/v1/messages", b"{}", declared)).status == 413
    exchange = world.begin("POST", "/v1/messages", {"content-type": "application/json"})
    for piece in json.dumps(long), "x":
        exchange.feed(piece.encode())
    assert (await exchange.answer()).status == 413


@with_ingress()
async def test_what_cannot_be_read_is_a_400_or_415(world: World) -> None:
    for body in (
        b"",
        b"{",
        b"nonsense",
        b"[1,",
        b'{"to":"\xff"}',
        b'{"to":"\\ud800"}',
        b"\xff\xfe",
        b"[" * 100_000,
    ):
        answer = await world.call(
            "POST", "/v1/messages", body, {"content-type": "application/json"}
        )
        assert (answer.status, answer.json["type"]) == (400, "/docs#malformed"), body[:20]
    item = await world.call(
        "POST", "/v1/messages", b'[{"to":"\xff"}]', {"content-type": "application/json"}
    )
    assert item.json[0]["error"]["type"] == "/docs#malformed"
    for headers in ({}, {"content-type": "text/plain"}, {"content-type": "application/xml"}):
        assert (await world.call("POST", "/v1/messages", b"{}", headers)).status == 415
    assert (await world.send(OTP, content_encoding="gzip")).status == 415
    assert (await world.call("PUT", "/v1/messages")).headers["allow"] == "POST, GET, HEAD"


@with_ingress()
async def test_a_key_is_needed_and_must_be_known(world: World) -> None:
    for key in ("", "nonsense", "x" * 600):
        answer = await world.call("POST", "/v1/messages", OTP, key=key)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    basic = await world.send(OTP, authorization="Basic c2hvcC1rZXk6")
    assert basic.status == 401


@with_ingress()
async def test_a_missing_scope_is_named(world: World) -> None:
    answer = await world.call("POST", "/v1/messages", OTP, key="reader-key")
    assert answer.status == 403
    assert "`send`" in answer.json["detail"]


@with_ingress()
async def test_a_key_of_redis_works_until_it_is_withdrawn(world: World) -> None:
    key = await api_keys.create(world.redis, "kiosk", ["send"], T0)
    assert (await world.call("POST", "/v1/messages", OTP, key=key)).status == 202
    stored = await world.redis.call([("HGETALL", shared_keys.API_KEYS)])
    assert key.encode() not in b"".join(stored[0])
    await world.redis.call([("DEL", shared_keys.API_KEYS)])
    world.clock.now_ms += auth.KNOWN_MS - 1
    assert (await world.call("POST", "/v1/messages", OTP, key=key)).status == 202
    world.clock.now_ms += 1
    assert (await world.call("POST", "/v1/messages", OTP, key=key)).status == 401


@with_ingress()
async def test_a_key_that_is_revoked_opens_nothing_within_5_seconds(world: World) -> None:
    key = await api_keys.create(world.redis, "kiosk", ["send", "read"], T0)
    assert (await world.call("POST", "/v1/messages", OTP, key=key)).status == 202
    (listed,) = await api_keys.listed(world.redis)
    principal = await world.app.authority.identify(f"Bearer {key}".encode())
    assert await world.app.authority.holds(principal, "read")
    assert not await world.app.authority.holds(principal, "report")
    await api_keys.revoke(world.redis, listed, T0, "ann@here")
    world.clock.now_ms += 5_000
    assert (await world.call("POST", "/v1/messages", OTP, key=key)).status == 401
    assert not await world.app.authority.holds(principal, "read")


@with_ingress()
async def test_a_key_ends_at_the_moment_it_was_given(world: World) -> None:
    key = await api_keys.create(world.redis, "kiosk", ["send"], T0, expires_ms=T0 + 1_000)
    world.clock.now_ms = T0 + 999
    assert (await world.call("POST", "/v1/messages", OTP, key=key)).status == 202
    world.clock.now_ms = T0 + 1_000
    assert (await world.call("POST", "/v1/messages", OTP, key=key)).status == 401


@with_ingress()
async def test_when_a_key_was_used_is_told_once_a_minute(world: World) -> None:
    key = await api_keys.create(world.redis, "kiosk", ["read"], T0)

    async def use() -> int | None:
        """A use, and the last use that is known afterwards."""
        assert (await world.call("GET", "/v1/messages/unknown", key=key)).status == 404
        await world.app.publish()
        return (await api_keys.listed(world.redis))[0].used_ms

    assert await use() is None
    world.clock.now_ms = T0 + auth.USES_EVERY_MS
    world.redis.away = True
    with pytest.raises(RedisUnavailable):
        await world.app.authority.tell_uses()
    world.redis.away = False
    assert await use() == T0 + auth.USES_EVERY_MS
    world.clock.now_ms += auth.USES_EVERY_MS - 1
    assert await use() == T0 + auth.USES_EVERY_MS
    world.clock.now_ms += 1
    assert await use() == T0 + 2 * auth.USES_EVERY_MS - 1
    world.clock.now_ms += auth.KNOWN_MS
    await use()
    await world.app.authority.tell_uses()  # a worker that ends does not wait for the minute
    assert await use() == world.clock.now_ms


@with_ingress()
async def test_the_memory_of_keys_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_MAX", 5)
    for number in range(20):
        await world.call("POST", "/v1/messages", OTP, key=f"guess-{number}")
    assert len(world.app.authority._remembered) == 5
    calls = world.redis.calls
    await world.call("POST", "/v1/messages", OTP, key="guess-19")
    assert world.redis.calls == calls


@with_ingress("backlog_max = 2")
async def test_a_full_lane_is_a_429_with_retry_after(world: World) -> None:
    for _ in range(2):
        assert (await world.send(OTP)).status == 202
    await world.app.backlog.sample()
    answer = await world.send(OTP)
    assert (answer.status, answer.json["type"]) == (429, "/docs#backlog")
    assert int(answer.headers["retry-after"]) > 0
    # Another lane has room.
    assert (await world.send(SALE)).status == 202
    mixed = await world.send([OTP, SALE | {"campaign": "winter"}])
    assert mixed.status == 200
    assert [r["outcome"] for r in mixed.json] == ["error", "accepted"]
    assert (await world.send([OTP, OTP])).status == 429


@with_ingress("backlog_max = 1")
async def test_a_full_lane_takes_no_message_that_names_only_its_user(world: World) -> None:
    stored = {"phone": "+79160000001"}
    assert (await world.call("PUT", "/v1/users/u1", stored)).status == 200
    message = {key: value for key, value in SALE.items() if key != "to"} | {"user": "u1"}
    assert (await world.send(SALE)).status == 202
    await world.app.backlog.sample()
    answer = await world.send(message)
    assert (answer.status, answer.json["type"]) == (429, "/docs#backlog")
    email = message | {"to": {"email": "anna@shop.example"}}
    assert (await world.send(email)).status == 429, "its phone may be stored as well"
    assert (await world.send(message | {"category": "otp"})).status == 202, "another lane"
    assert (await world.send(message | {"route": "pigeon"})).status == 422


@with_ingress('backlog_age_max = "10s"')
async def test_an_old_lane_is_a_429_too(world: World) -> None:
    await world.send(OTP)
    entry = (await world.redis.call([("XRANGE", keys.keys_of(0).lane("sms", "otp"), "-", "+")]))[0]
    world.clock.now_ms = int(entry[0][0].split(b"-")[0]) + 10_000
    await world.app.backlog.sample()
    assert (await world.send(OTP)).status == 202
    world.clock.now_ms += 1
    await world.app.backlog.sample()
    assert (await world.send(OTP)).status == 429


@with_ingress()
async def test_redis_away_is_a_503_that_tells_nothing_of_it(world: World) -> None:
    world.redis.away = True
    for message in (OTP, [OTP, SALE]):
        answer = await world.send(message)
        assert (answer.status, answer.json["type"]) == (503, "/docs#unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert b"secret-host" not in answer.body
    world.redis.away = False
    assert (await world.send(OTP)).status == 202


@with_ingress()
async def test_a_fault_of_ours_is_a_500_with_an_incident_and_no_trace(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> list[Answer]:
        raise RuntimeError(f"about {PHONE}")

    monkeypatch.setattr(world.store, "admit", broken)
    answer = await world.send(OTP)
    assert answer.status == 500
    assert len(answer.json["incident"]) == 12
    assert b"Runtime" not in answer.body
    assert PHONE.encode() not in answer.body


@with_ingress()
async def test_an_item_that_breaks_us_does_not_fail_its_neighbours(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = world.store.admit

    async def allergic(sends: Any, now_ms: int) -> list[Answer]:
        if any(send.content.text == "poison" for send in sends):
            raise RuntimeError("allergic")
        return await admit(sends, now_ms)

    monkeypatch.setattr(world.store, "admit", allergic)
    answer = await world.send([OTP, OTP | {"text": "poison"}, SALE])
    assert [r["outcome"] for r in answer.json] == ["accepted", "error", "accepted"]
    assert answer.json[1]["error"]["status"] == 500


@with_ingress(shards=4)
async def test_with_several_shards_each_person_has_one(world: World) -> None:
    items = [SALE | {"to": f"+7916123{n:04d}"} for n in range(40)]
    ids = [r["id"] for r in (await world.send(items)).json]
    assert len({id_[9:11] for id_ in ids}) == 4
    again = (await world.send(items)).json
    assert [(r["outcome"], r["id"]) for r in again] == [("duplicate", id_) for id_ in ids]


@with_ingress()
async def test_a_message_to_addresses_of_several_kinds_shows_them_as_it_was_asked(
    world: World,
) -> None:
    to = {"phone": PHONE, "email": "anna@shop.example"}
    told = await world.send(OTP | {"to": to | {"email": "Anna@Shop.example"}})
    assert told.status == 202
    view = (await world.call("GET", f"/v1/messages/{told.json['id']}")).json
    assert view["to"] == to
    again = await world.send(SALE | {"to": PHONE})
    assert again.status == 202
    same_person = await world.send(SALE | {"to": {"email": "ANNA@shop.example", "phone": PHONE}})
    assert same_person.json["outcome"] == "duplicate"


@with_ingress()
async def test_a_message_that_no_step_has_an_address_for_is_refused_at_to(world: World) -> None:
    answer = await world.send(OTP | {"to": {"email": "anna@shop.example"}})
    assert answer.status == 422
    assert [error["pointer"] for error in answer.json["errors"]] == ["/to"]
    assert "no address" in answer.json["errors"][0]["detail"]


@with_ingress(changed={'kind = "infobip-sms"': 'kind = "infobip-sms"\nretired = true'})
async def test_nothing_new_is_accepted_for_a_retired_provider(world: World) -> None:
    refused = await world.send(OTP)
    assert refused.status == 422
    assert "sms is retired" in str(refused.json)
    way = (await world.send(OTP | {"route": "both"})).json["id"]
    shown = (await world.call("GET", f"/v1/messages/{way}")).json
    assert [step["channel"] for step in shown["steps"]] == ["viber"]


@with_ingress()
async def test_half_a_surrogate_pair_in_one_text_fails_that_item_alone(world: World) -> None:
    good = json.dumps(OTP).encode()
    half = good.replace(json.dumps(OTP["text"]).encode(), rb'"half \ud83d"')
    torn = good.replace(json.dumps(OTP["text"]).encode(), b'"\xff"')
    assert len({good, half, torn}) == 3
    answer = await world.call(
        "POST",
        "/v1/messages",
        b"[" + b" ,\n".join([good, half, torn]) + b"]",
        {"content-type": "application/json"},
    )
    assert [each["outcome"] for each in answer.json] == ["accepted", "rejected", "rejected"]
    assert [each["index"] for each in answer.json] == [0, 1, 2]
    for each in answer.json[1:]:
        assert each["error"]["type"].endswith("malformed")


@with_ingress()
async def test_a_person_whose_record_cannot_be_read_fails_alone(world: World) -> None:
    record = keys.keys_of(0).person("p:79161234561")
    await world.store.redis.call([("SET", record, b"\x03rubbish")])
    many = [SALE | {"to": f"+7916123456{n}"} for n in range(4)]
    answer = await world.call("POST", "/v1/messages", many)
    outcomes = [each["outcome"] for each in answer.json]
    assert outcomes == ["accepted", "error", "accepted", "accepted"]
    assert answer.json[1]["error"]["type"].endswith("internal")
    (found,) = await quarantine.listed(world.store.redis, 1)
    assert (found.what, found.raw) == (record, b""), "a record's bytes stay under its key alone"
    assert await world.store.redis.call([("GET", record)]) == [b"\x03rubbish"]
