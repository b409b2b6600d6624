"""`?dry_run=true` and `GET /v1/messages/{id}/explain`."""

from __future__ import annotations

import json
from typing import Any

from tests.ingress.people.test_people import everything
from tests.worlds.ingress_world import OTP, PHONE, SALE, Answer, World, with_ingress

DRY = "/v1/messages?dry_run=true"
KEYED = {"idempotency-key": "k1"}


async def dry(world: World, message: Any, headers: dict[str, str] | None = None) -> Answer:
    return await world.call("POST", DRY, message, headers)


@with_ingress(shards=3)
async def test_a_dry_run_tells_the_outcome_and_why_and_changes_nothing(world: World) -> None:
    await world.send(SALE | {"to": {"phone": PHONE}, "user": "u1"})
    before = await everything(world)
    asked = SALE | {"to": {"phone": PHONE, "email": "a@shop.example"}, "campaign": "winter"}
    answer = await dry(world, asked, KEYED)
    assert answer.status == 200
    assert answer.json == {
        "outcome": "accepted",
        "status": "queued",
        "explain": {
            "gates": [
                {"gate": "route", "verdict": "pass", "detail": "both"},
                {"gate": "address", "verdict": "pass", "detail": None},
                {
                    "gate": "price",
                    "verdict": "pass",
                    "detail": None,
                    "price": "0.0080",
                    "currency": "EUR",
                },
                {"gate": "opt_out", "verdict": "pass", "detail": None},
                {"gate": "duplicate", "verdict": "pass", "detail": None},
                {
                    "gate": "cap",
                    "verdict": "pass",
                    "detail": None,
                    "name": "two-a-day",
                    "limit": 2,
                    "window": "1d",
                    "count": 1,
                },
            ],
            "plan": [
                {
                    "channel": "viber",
                    "provider": "viber",
                    "price": "0.0080",
                    "parts": None,
                    "wait": "15m",
                    "until": "delivered",
                    "verdict": "pass",
                    "detail": None,
                },
                {
                    "channel": "sms",
                    "provider": "sms",
                    "price": "0.0080",
                    "parts": 1,
                    "wait": "1d",
                    "until": "delivered",
                    "verdict": "pass",
                    "detail": None,
                },
            ],
        },
    }
    assert await everything(world) == before


@with_ingress()
async def test_a_duplicate_keeps_the_winners_id_and_a_cap_its_numbers(world: World) -> None:
    winner = (await world.send(SALE)).json["id"]
    again = await dry(world, SALE)
    assert (again.status, again.json["outcome"], again.json["id"]) == (200, "duplicate", winner)
    last = again.json["explain"]["gates"][-1]
    assert (last["gate"], last["verdict"], last["message"]) == ("duplicate", "stop", winner)
    await world.send(SALE | {"campaign": "winter"})
    full = (await dry(world, SALE | {"campaign": "spring"})).json
    assert (full["outcome"], full["reason"]) == ("suppressed", "frequency_cap")
    last = full["explain"]["gates"][-1]
    assert last == full["cap"] | {"gate": "cap", "verdict": "stop", "detail": None}


@with_ingress()
async def test_what_cannot_be_sent_is_rejected_with_the_gate_and_what_cannot_be_read_is_a_422(
    world: World,
) -> None:
    answer = await dry(world, OTP | {"route": "pigeon"})
    real = await world.send(OTP | {"route": "pigeon"})
    assert (answer.status, answer.json["outcome"]) == (200, "rejected")
    assert answer.json["error"] == real.json
    (gate,) = answer.json["explain"]["gates"]
    assert (gate["gate"], gate["verdict"]) == ("route", "stop")
    invalid = await dry(world, OTP | {"to": "12"})
    assert (invalid.status, invalid.json["errors"][0]["pointer"]) == (422, "/to")


@with_ingress()
async def test_a_key_that_holds_an_answer_gives_it_and_a_dry_run_leaves_none(world: World) -> None:
    await dry(world, OTP, KEYED)
    first = await world.call("POST", "/v1/messages", OTP, KEYED)
    assert first.status == 202, "nothing was remembered"
    again = await dry(world, OTP, KEYED)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json == {
        "outcome": "accepted",
        "status": "queued",
        "explain": {"gates": [], "plan": []},
    }
    other = await dry(world, OTP | {"text": "Another"}, KEYED)
    assert (other.status, other.json["type"]) == (422, "/docs#idempotency-conflict")


@with_ingress(changed={'name = "bank"': 'name = "bank"\nday_max = 1'})
async def test_a_dry_run_spends_no_quota_and_is_refused_where_a_request_would_be(
    world: World,
) -> None:
    for _ in range(3):
        assert (await world.call("POST", DRY, OTP, key="bank-key")).status == 200
    sent = await world.call("POST", "/v1/messages", OTP, key="bank-key")
    assert sent.status == 202
    used_up = await world.call("POST", DRY, OTP, key="bank-key")
    assert (used_up.status, used_up.json["type"]) == (429, "/docs#day-max")


@with_ingress()
async def test_a_dry_run_takes_one_object_and_is_asked_for_by_true_or_false(world: World) -> None:
    body = json.dumps(OTP).encode()
    stream = {"content-type": "application/x-ndjson"}
    for path, sent, headers in (
        (DRY, [OTP], {}),
        (DRY, body, stream),
        ("/v1/messages?dry_run=yes", OTP, {}),
        ("/v1/messages?dry_run=true&dry_run=false", OTP, {}),
    ):
        answer = await world.call("POST", path, sent, headers)
        assert (answer.status, answer.json["type"]) == (400, "/docs#query"), path
    assert (await world.call("POST", "/v1/messages?dry_run=false", OTP)).status == 202
    assert (await world.call("POST", "/v1/messages?dry=true", OTP)).status == 400


@with_ingress()
async def test_a_message_is_explained_as_it_was_before_it_was_sent(world: World) -> None:
    told = (await dry(world, SALE)).json["explain"]
    id_ = (await world.send(SALE)).json["id"]
    answer = await world.call("GET", f"/v1/messages/{id_}/explain")
    assert answer.status == 200
    assert answer.json["plan"] == told["plan"]
    names = [(gate["gate"], gate["verdict"]) for gate in told["gates"]]
    assert [(gate["gate"], gate["verdict"]) for gate in answer.json["gates"]] == names
    other = await world.call("GET", f"/v1/messages/{id_}/explain", key="bank-key")
    assert other.status == 404
