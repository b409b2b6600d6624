"""`POST /v1/callbacks/{provider}`: who may, what is answered, and what is durable then."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from gateway.core.rejections import STREAK
from gateway.ingress.api.callbacks import callbacks
from gateway.ingress.api.callbacks.refused_callbacks import LOG_EVERY_MS
from gateway.redis.errors import CommandRefused
from gateway.settings.bootstrap import policy_of
from gateway.store.keys import keys_of
from gateway.store.messages import reads, receipts
from gateway.store.messages.receipts import Taken, take_receipts
from providers.infobip.adapter import CALLBACK_BYTES_MAX
from tests.worlds.ingress_world import OTP, SALE, T0, World, quote, settings, with_ingress

VIBER = "/v1/callbacks/viber?token=tok"
BASIC = {"authorization": "Basic " + base64.b64encode(b"infobip:of-callbacks").decode()}


def report(*refs: str, price: float = 0.004) -> dict[str, Any]:
    return {
        "results": [
            {
                "messageId": ref,
                "status": {"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED"},
                "error": {"groupId": 0, "id": 0, "name": "NO_ERROR", "permanent": False},
                "doneAt": "2026-11-18T10:00:01.000+0000",
                "messageCount": 1,
                "price": {"pricePerMessage": price, "currency": "EUR"},
            }
            for ref in refs
        ]
    }


async def sent(world: World, **changes: Any) -> str:
    """A message whose first step its provider took."""
    id_: str = (await world.send(OTP | changes)).json["id"]
    await world.hand_over(id_)
    return id_


async def status(world: World, id_: str) -> Any:
    return (await world.call("GET", f"/v1/messages/{id_}")).json["status"]


@with_ingress()
async def test_a_receipt_is_durable_when_it_is_answered(world: World) -> None:
    id_ = await sent(world)
    answer = await world.call("POST", "/v1/callbacks/sms", report(f"{id_}.0"), BASIC, key="")
    assert (answer.status, answer.json) == (200, {"applied": 1, "parked": 0, "faults": 0})
    assert await status(world, id_) == "delivered"


@with_ingress()
@pytest.mark.parametrize("echo", ["campaign-7", "", None, "1M804C4XY006GWET111R", 42])
async def test_our_id_is_enough_whatever_stands_in_the_callback_data(
    world: World, echo: object
) -> None:
    id_ = await sent(world)
    body = report(f"{id_}.0")
    body["results"][0]["callbackData"] = echo
    answer = await world.call("POST", "/v1/callbacks/sms", body, BASIC, key="")
    assert answer.json == {"applied": 1, "parked": 0, "faults": 0}
    assert await status(world, id_) == "delivered"


@with_ingress()
async def test_an_unknown_message_is_parked_and_never_an_error(world: World) -> None:
    known = (await world.send(OTP)).json["id"]
    unknown = known[:-1] + ("1" if known[-1] == "0" else "0")
    answer = await world.call("POST", VIBER, report("not-ours", f"{unknown}.0"), key="")
    assert (answer.status, answer.json) == (200, {"applied": 0, "parked": 2, "faults": 0})
    assert await world.redis.call([("ZCARD", keys_of(0).unmatched_receipts)]) == [2]


@with_ingress()
async def test_each_proof_suffices_and_without_one_nothing_changes(world: World) -> None:
    id_ = await sent(world)
    body = json.dumps(report(f"{id_}.0")).encode()
    signature = hmac.new(b"hush", body, hashlib.sha256).hexdigest()
    forged = f"{int(signature, 16) ^ 1:064x}"
    refused = [
        ("/v1/callbacks/sms", {}),
        ("/v1/callbacks/sms", {"authorization": "Basic " + base64.b64encode(b"a:b").decode()}),
        ("/v1/callbacks/sms", {"x-signature": forged}),
        ("/v1/callbacks/sms?token=tok", {}),
        ("/v1/callbacks/viber", BASIC),
        ("/v1/callbacks/viber?token=", {}),
    ]
    for path, headers in refused:
        answer = await world.call("POST", path, body, headers, key="")
        assert (answer.status, answer.json["status"]) == (401, 401), path
    assert await status(world, id_) == "sent"
    signed = await world.call("POST", "/v1/callbacks/sms", body, {"x-signature": signature}, key="")
    assert signed.json == {"applied": 1, "parked": 0, "faults": 0}
    assert (await world.call("POST", VIBER, body, key="")).status == 200


@with_ingress(changed={'kind = "infobip-viber"': 'kind = "infobip-viber"\nwas = ["viber-old"]'})
async def test_callbacks_of_a_former_name_go_on_under_the_present_one(world: World) -> None:
    id_ = (await world.send(OTP | {"category": "transactional"})).json["id"]
    await world.hand_over(id_)
    path = VIBER.replace("viber", "viber-old")
    answer = await world.call("POST", path, report(f"{id_}.0"), key="")
    assert (answer.status, answer.json["applied"]) == (200, 1)
    assert await status(world, id_) == "delivered"


@with_ingress(changed={'"CALLBACK_TOKEN"': '["CALLBACK_SECRET", "CALLBACK_TOKEN"]'})
async def test_a_rotated_token_loses_no_receipt(world: World) -> None:
    id_ = await sent(world, category="transactional")
    for token in ("tok", "hush"):
        path = f"/v1/callbacks/viber?token={token}"
        answer = await world.call("POST", path, report(f"{id_}.0"), key="")
        assert (answer.status, answer.json["applied"]) == (200, 1)
    assert await status(world, id_) == "delivered"


@with_ingress()
async def test_a_refused_callback_is_counted_and_said_without_what_it_carried(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(reason: str) -> float | None:
        labels = {"provider": "viber", "reason": reason}
        registry = world.app.metrics.registries.own
        return registry.get_sample_value("kaskad_ingress_callbacks_refused_total", labels)

    for path in ("/v1/callbacks/viber", *["/v1/callbacks/viber?token=guessed"] * 3):
        assert (await world.call("POST", path, report("x"), key="")).status == 401
    assert (refused("no_proof"), refused("wrong_proof")) == (1, 3)
    world.clock.now_ms += LOG_EVERY_MS
    await world.call("POST", "/v1/callbacks/viber?token=guessed", report("x"), key="")
    output = capsys.readouterr().out
    lines = [line for line in output.splitlines() if "callback_refused" in line]
    assert [("no_proof" in line, "n=3" in line) for line in lines] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    assert "guessed" not in output


@with_ingress()
async def test_the_moment_of_the_last_receipt_is_shown(world: World) -> None:
    world.clock.now_ms += 5_000
    await world.call("POST", VIBER, report("not-ours"), key="")
    shown = world.app.metrics.registries.own.get_sample_value(
        "kaskad_ingress_last_receipt_seconds", {"provider": "viber"}
    )
    assert shown == (T0 + 5_000) / 1000


@with_ingress()
async def test_only_the_steps_own_provider_may_speak_for_it(world: World) -> None:
    id_ = await sent(world)
    assert (await world.call("POST", VIBER, report(f"{id_}.0"), key="")).status == 200
    assert await status(world, id_) == "sent"


@with_ingress()
async def test_a_receipt_fifty_times_at_once_bills_once(world: World) -> None:
    id_ = await sent(world)
    answers = await asyncio.gather(
        *(
            world.call("POST", "/v1/callbacks/sms", report(f"{id_}.0"), BASIC, key="")
            for _ in range(50)
        )
    )
    assert all(a.json == {"applied": 1, "parked": 0, "faults": 0} for a in answers)
    view = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert view["billing"] == {"billed": "0.0080", "cost": "0.0040", "currency": "EUR"}
    totals = (await world.call("GET", "/v1/reports/cost")).json["total"]
    assert (totals["delivered"], totals["billed"]) == (1, "0.0080")


@with_ingress()
async def test_callbacks_that_come_together_are_counted_apart(world: World) -> None:
    id_ = await sent(world)
    bodies = [report(f"{id_}.0", "stranger"), report("stranger-2"), report(f"{id_}.0")]
    answers = await asyncio.gather(
        *(world.call("POST", "/v1/callbacks/sms", body, BASIC, key="") for body in bodies)
    )
    assert [(a.json["applied"], a.json["parked"]) for a in answers] == [(1, 1), (0, 1), (1, 0)]
    assert world.app.callbacks.batcher.batches == 1


@with_ingress()
async def test_an_item_that_cannot_be_read_is_a_fault_beside_its_neighbours(world: World) -> None:
    id_ = await sent(world)
    body = report(f"{id_}.0")
    body["results"].append({"messageId": 7, "status": "none"})
    answer = await world.call("POST", "/v1/callbacks/sms", body, BASIC, key="")
    assert (answer.status, answer.json) == (200, {"applied": 1, "parked": 0, "faults": 1})


@with_ingress()
async def test_a_receipt_that_breaks_us_is_a_fault_beside_its_neighbours(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def allergic(store: Any, provider: str, receipts: Any, now_ms: int) -> Taken:
        if any(receipt.ref == "poison" for receipt in receipts):
            raise RuntimeError("allergic")
        return await take_receipts(store, provider, receipts, now_ms)

    monkeypatch.setattr(callbacks, "take_receipts", allergic)
    id_ = await sent(world)
    answer = await world.call(
        "POST", "/v1/callbacks/sms", report("poison", f"{id_}.0", "x"), BASIC, key=""
    )
    assert (answer.status, answer.json) == (200, {"applied": 1, "parked": 1, "faults": 1})


@with_ingress("body_bytes_max = 1024")
async def test_what_is_no_report_or_no_provider_is_refused(world: World) -> None:
    assert (await world.call("POST", VIBER, b"nonsense", key="")).status == 400
    assert (await world.call("POST", "/v1/callbacks/nobody?token=tok", {}, key="")).status == 404
    assert (await world.call("POST", "/v1/callbacks/", {}, key="")).status == 404
    assert (await world.call("POST", VIBER, b"x" * 1025, key="")).status == 413
    assert (await world.call("GET", VIBER, key="")).headers["allow"] == "POST"
    empty = await world.call("POST", VIBER, {"results": []}, key="")
    assert (empty.status, empty.json) == (200, {"applied": 0, "parked": 0, "faults": 0})


@with_ingress()
async def test_redis_away_is_a_503_so_that_the_provider_tries_again(world: World) -> None:
    id_ = await sent(world)
    world.redis.away = True
    answer = await world.call("POST", "/v1/callbacks/sms", report(f"{id_}.0"), BASIC, key="")
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    world.redis.away = False
    again = await world.call("POST", "/v1/callbacks/sms", report(f"{id_}.0"), BASIC, key="")
    assert again.json["applied"] == 1
    assert await reads.message(world.store, id_) is not None


@with_ingress()
async def test_a_receipt_that_the_store_refused_is_not_answered_as_durable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any) -> Taken:
        raise CommandRefused("SET", "WRONGTYPE of another kind")

    id_ = await sent(world)
    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "take_receipts", refused)
        answer = await world.call("POST", "/v1/callbacks/sms", report(f"{id_}.0"), BASIC, key="")
    assert answer.status == 500, "the provider must repeat it"
    again = await world.call("POST", "/v1/callbacks/sms", report(f"{id_}.0"), BASIC, key="")
    assert again.json["applied"] == 1


@with_ingress()
async def test_a_changed_configuration_counts_from_the_next_request_on(world: World) -> None:
    changed = settings(
        changed={
            '"CALLBACK_TOKEN"': '["CALLBACK_SECRET", "CALLBACK_TOKEN"]',
            'key_env = "SHOP_KEY"': 'key_env = "CALLBACK_PASSWORD"',
            "limit = 2": "limit = 1",
        }
    )
    world.app.take_over(changed, policy_of(changed, quote))
    for token in ("hush", "tok"):
        path = f"/v1/callbacks/viber?token={token}"
        assert (await world.call("POST", path, report("not-ours"), key="")).status == 200
    assert (await world.call("POST", "/v1/messages", SALE)).status == 401
    sent = [
        (
            await world.call("POST", "/v1/messages", SALE | {"campaign": name}, key="of-callbacks")
        ).json
        for name in ("autumn", "winter")
    ]
    assert [each["outcome"] for each in sent] == ["accepted", "suppressed"]


@with_ingress()
async def test_receipts_that_all_reject_the_sender_pause_the_provider(world: World) -> None:
    ids = [await sent(world, to=f"+7916000{n:04}") for n in range(STREAK)]
    shape = report(*(f"{id_}.0" for id_ in ids), price=0)
    for item in shape["results"]:
        item["status"] = {"groupId": 5, "groupName": "REJECTED", "id": 13, "name": "SENDER"}
    answer = await world.call("POST", "/v1/callbacks/sms", shape, BASIC, key="")
    assert answer.json == {"applied": STREAK, "parked": 0, "faults": 0}
    (paused,) = (await world.call("GET", "/readyz", key="")).json["paused"]
    assert (paused["provider"], paused["kind"], paused["code"]) == ("sms", "rejections", "13")
    metrics = (await world.call("GET", "/metrics", key="")).body.decode()
    (counted,) = (
        line for line in metrics.splitlines() if line.startswith("kaskad_ingress_pauses_total{")
    )
    assert 'provider="sms"' in counted
    assert counted.endswith(" 1.0")


@with_ingress()
async def test_a_callback_has_what_its_provider_sends_at_most(world: World) -> None:
    many = report(*(f"{number:020d}.0" for number in range(2_000)))
    answer = await world.call("POST", VIBER, many, key="")
    assert (answer.status, answer.json["parked"]) == (200, 2_000)
    too_long = b" " * (CALLBACK_BYTES_MAX + 1)
    assert (await world.call("POST", VIBER, too_long, key="")).status == 413


@with_ingress()
async def test_a_signature_is_computed_as_the_body_comes(world: World) -> None:
    id_ = await sent(world)
    body = json.dumps(report(f"{id_}.0")).encode()
    signature = hmac.new(b"hush", body, hashlib.sha256).hexdigest()
    exchange = world.begin("POST", "/v1/callbacks/sms", {"x-signature": signature}, key="")
    for start in range(0, len(body), 7):
        exchange.feed(body[start : start + 7])
    exchange.feed(b"", more=False)
    assert (await exchange.answer()).json["applied"] == 1


@with_ingress()
async def test_without_any_proof_the_body_is_not_waited_for(world: World) -> None:
    exchange = world.begin("POST", "/v1/callbacks/sms", key="")
    assert (await exchange.answer()).status == 401
    assert exchange.received == 0


@with_ingress()
async def test_bodies_without_their_end_are_bounded_over_all_requests(world: World) -> None:
    waiting = world.app.waiting
    waiting.add(waiting.limit - 1_000)
    kind = {"content-type": "application/json"}
    first = world.begin("POST", "/v1/messages", kind)
    first.feed(b" " * 900)
    await first.has_received(1)
    second = world.begin("POST", "/v1/messages", kind)
    second.feed(b" " * 900)
    answer = await second.answer()
    assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True)
    # What comes whole is not kept waiting, so it is taken all the same.
    assert (await world.send(OTP)).status == 202
    first.feed(json.dumps(OTP).encode(), more=False)
    assert (await first.answer()).status == 202
    assert waiting.held == waiting.limit - 1_000


@with_ingress()
async def test_receipts_that_have_to_go_because_too_many_wait_are_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "UNMATCHED_MAX", 1)
    answer = await world.call("POST", VIBER, report("stranger-1", "stranger-2"), key="")
    assert answer.json["parked"] == 2
    text = (await world.call("GET", "/metrics", key="")).body.decode()
    (dropped,) = [line for line in text.splitlines() if 'result="dropped"' in line]
    assert dropped.startswith("kaskad_ingress_receipts_total{")
    assert dropped.endswith(" 1.0")
