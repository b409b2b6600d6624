"""What an app keeps of a person, and how an address changes hands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from typing import Any

import pytest

from gateway.core.addresses import Addresses
from gateway.core.events import Claimed
from gateway.core.records.codec import SCHEMA
from gateway.core.records.user import StoredUser
from gateway.ingress.intake.known_users import LOOK_EVERY_MS
from gateway.redis.errors import RedisUnavailable
from gateway.store import quarantine
from gateway.store.base import StoreBase
from gateway.store.installation import audit
from gateway.store.keys import keys_of, shard_of
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.people import address_owners, persons, users
from gateway.store.people.address_owners import OwnedAddress
from gateway.store.people.users import UserChange
from gateway.store.shared_keys import COUNTRIES
from gateway.store.store import Store
from providers.contract import FcmAddress
from tests.ingress.people.test_people import everything, key_of
from tests.worlds.ingress_world import OTP, PHONE, SALE, T0, World, with_ingress

ANNA = "anna@shop.example"
USER = "/v1/users/u1"
OTHER = "+79160000001"
WHOLE: dict[str, Any] = {
    "phone": PHONE,
    "email": "Anna@Shop.Example",
    "push": [{"kind": "fcm", "token": "tok-1"}],
    "tz": "Europe/Moscow",
    "locale": "ru-RU",
    "consent": [
        {
            "category": "marketing",
            "channel": "sms",
            "given_at": "2026-11-01T12:00:00+03:00",
            "source": "checkout",
        }
    ],
}


async def stored(world: World, user: str, **said: Any) -> Any:
    answer = await world.call("PUT", f"/v1/users/{user}", said)
    assert answer.status == 200, answer.json
    return answer.json


async def shown(world: World, user: str, key: str = "shop-key") -> Any:
    return (await world.call("GET", f"/v1/users/{user}", key=key)).json


@with_ingress(shards=3)
async def test_what_was_stored_is_shown_in_its_one_spelling(world: World) -> None:
    answer = await stored(world, "u1", **WHOLE)
    consent = WHOLE["consent"][0] | {"given_at": "2026-11-01T09:00:00.000Z"}
    told = {"user": "u1", **WHOLE, "email": ANNA, "consent": [consent]}
    assert answer == told
    found = await shown(world, "u1")
    assert {key: found[key] for key in told} == told
    assert (found["messages"], found["claims"], found["optouts"]) == ([], [], [])
    assert [cap["count"] for cap in found["caps"]] == [0]


@with_ingress(shards=3)
async def test_put_keeps_what_it_says_alone_and_patch_changes_some(world: World) -> None:
    await stored(world, "u1", **WHOLE)
    answer = await world.call("PATCH", USER, {"tz": None, "phone": OTHER})
    assert (answer.json["tz"], answer.json["phone"], answer.json["email"]) == (None, OTHER, ANNA)
    assert answer.json["consent"] != []
    answer = await world.call("PATCH", "/v1/users/new", {"locale": "en"})
    assert (answer.status, answer.json["locale"]) == (200, "en")
    assert (await stored(world, "u1", email=ANNA))["phone"] is None
    found = await shown(world, "u1")
    assert (found["phone"], found["email"], found["push"], found["consent"]) == (
        None,
        ANNA,
        None,
        [],
    )


@with_ingress()
@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"phone": "123", "email": "none"}, {"/phone", "/email"}),
        ({"tz": "Mars/Olympus", "locale": "!"}, {"/tz", "/locale"}),
        ({"name": "Anna"}, {"/name"}),
        ({"push": [{"kind": "pigeon"}]}, {"/push/0/kind"}),
        (
            {"consent": [{"category": "sale", "given_at": "2026-11-01T12:00:00Z", "source": "x"}]},
            {"/consent/0/category"},
        ),
        (
            {"consent": [{"category": "otp", "given_at": "2026-11-01T12:00:00", "source": "x"}]},
            {"/consent/0/given_at"},
        ),
        *(
            (
                {"consent": [{"category": "otp", "given_at": moment, "source": "x"}]},
                {"/consent/0/given_at"},
            )
            for moment in ("2026-W48-1T10:00:00Z", "20261101T100000Z", "2026-11-01T10Z")
        ),
        (
            {
                "consent": [
                    {"category": "otp", "given_at": "2200-01-01T00:00:00Z", "source": "\x01"}
                ]
            },
            {"/consent/0/given_at", "/consent/0/source"},
        ),
        (
            {
                "consent": [
                    {
                        "category": "otp",
                        "channel": "fax",
                        "given_at": "2026-11-01T12:00:00Z",
                        "source": "x",
                    }
                ]
            },
            {"/consent/0/channel"},
        ),
        ([], {""}),
    ],
)
async def test_what_cannot_be_stored_is_told_with_every_fault(
    world: World, body: Any, pointers: set[str]
) -> None:
    answer = await world.call("PUT", USER, body)
    assert answer.status == 422
    assert {fault["pointer"] for fault in answer.json["errors"]} == pointers
    assert (await world.call("GET", USER)).status == 404


@with_ingress(shards=3)
async def test_lines_are_stored_and_answered_in_order(world: World) -> None:
    lines = [
        {"user": "u1", "phone": PHONE},
        {"user": "u2", "phone": "1"},
        {"user": "u3", "email": ANNA},
        {"phone": OTHER},
        {"user": "u1", "phone": OTHER},
    ]
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    answer = await world.call("POST", "/v1/users", body, {"content-type": "application/x-ndjson"})
    told = [(each["line"], each["outcome"], each.get("user")) for each in answer.lines]
    assert told == [
        (1, "stored", "u1"),
        (2, "rejected", None),
        (3, "stored", "u3"),
        (4, "rejected", None),
        (5, "stored", "u1"),
    ]
    assert [each["error"]["errors"][0]["pointer"] for each in answer.lines if "error" in each] == [
        "/phone",
        "/user",
    ]
    assert (await shown(world, "u1"))["phone"] == OTHER
    deeds = (await audit.read(world.redis, 10)).deeds
    assert [(deed.deed.action, deed.deed.detail) for deed in deeds] == [("user.store", "3 users")]
    assert (await world.call("POST", "/v1/users", {"user": "u1"})).status == 415


@with_ingress()
async def test_an_import_that_breaks_off_notes_all_that_it_stored(world: World) -> None:
    exchange = world.begin("POST", "/v1/users", {"content-type": "application/x-ndjson"})
    lines = [json.dumps({"user": f"u{n}", "phone": PHONE}).encode() + b"\n" for n in range(3)]
    exchange.feed(b"".join(lines))
    exchange.hang_up()
    await exchange.answer()
    deeds = (await audit.read(world.redis, 10)).deeds
    assert [deed.deed.detail for deed in deeds] == ["3 users"]


# --- one person


@with_ingress(shards=3)
async def test_the_identities_of_a_stored_user_are_one_person(world: World) -> None:
    await stored(world, "u1", phone=PHONE, email=ANNA)
    first = await world.send(SALE)
    for named in ({"to": {"email": ANNA, "phone": OTHER}}, {"user": "u1", "to": OTHER}):
        again = await world.send(SALE | named)
        assert (again.json["outcome"], again.json["id"]) == ("duplicate", first.json["id"])


@with_ingress(shards=3)
async def test_they_are_for_as_long_as_nothing_is_sent_too(world: World) -> None:
    await stored(world, "u1", phone=PHONE, email=ANNA)
    world.clock.now_ms += 300 * 86_400_000
    first = await world.send(SALE)
    again = await world.send(SALE | {"to": {"email": ANNA, "phone": OTHER}})
    assert (again.json["outcome"], again.json["id"]) == ("duplicate", first.json["id"])


@with_ingress(shards=3)
async def test_people_who_turn_out_to_be_one_keep_what_both_had(world: World) -> None:
    """Claims, caps and opt-outs of the phone and of the e-mail address count for both from then
    on."""
    by_phone = (await world.send(SALE)).json["id"]
    by_mail = {"to": {"email": ANNA, "phone": OTHER}}
    second = (await world.send(SALE | by_mail | {"campaign": "winter"})).json["id"]
    await stored(world, "u1", phone=PHONE, email=ANNA)
    again = await world.send(SALE | by_mail)
    assert (again.json["outcome"], again.json["id"]) == ("duplicate", by_phone)
    again = await world.send(SALE | {"campaign": "winter"})
    assert (again.json["outcome"], again.json["id"]) == ("duplicate", second)
    capped = await world.send(SALE | {"campaign": "spring"})
    assert (capped.json["reason"], capped.json["cap"]["count"]) == ("frequency_cap", 2)
    await world.call("PUT", f"/v1/optouts/{ANNA}", {"scope": "all"})
    assert (await world.send(OTP)).json["reason"] == "opted_out"


# --- an address changes hands


@with_ingress(shards=3)
async def test_an_address_moves_to_the_user_that_was_stored_with_it_last(world: World) -> None:
    await stored(world, "u1", phone=PHONE, email=ANNA)
    await stored(world, "u2", phone=PHONE)
    assert (await shown(world, "u1"))["phone"] is None
    assert (await shown(world, "u1"))["email"] == ANNA
    assert (await shown(world, "u2"))["phone"] == PHONE
    await world.call("PATCH", USER, {"phone": PHONE})
    assert (await shown(world, "u2"))["phone"] is None


@with_ingress(shards=3)
@pytest.mark.parametrize("moved", ["phone", "email"])
async def test_who_lost_an_address_is_another_person_than_who_has_it(
    world: World, moved: str
) -> None:
    """What was sent before counts for both, what is sent afterwards for one."""
    addresses = {"phone": PHONE, "email": ANNA}
    await stored(world, "u1", **addresses)
    before = (await world.send(SALE | {"user": "u1"})).json["id"]
    await stored(world, "u2", **{moved: addresses.pop(moved)})
    taken = {"phone": OTHER, "email": ANNA} if moved == "email" else {"phone": PHONE}
    theirs = SALE | {"user": "u2", "to": taken}
    ours = SALE | {"user": "u1", "to": {"phone": "+79160000002"} | addresses}
    for sale in (theirs, ours):
        again = await world.send(sale)
        assert (again.json["outcome"], again.json["id"]) == ("duplicate", before)
    for sale in (theirs, ours):
        winter = await world.send(sale | {"campaign": "winter"})
        assert winter.json["outcome"] == "accepted"
    await world.call("PUT", f"/v1/optouts/{taken[moved]}", {"scope": "all"})
    assert (await world.send(theirs)).json["reason"] == "opted_out"
    assert (await world.send(ours)).json["outcome"] == "duplicate"


@with_ingress(shards=3)
async def test_a_changed_number_leaves_and_the_user_keeps_its_claims(world: World) -> None:
    await stored(world, "u1", phone=PHONE)
    before = (await world.send(SALE | {"user": "u1"})).json["id"]
    await world.call("PATCH", USER, {"phone": OTHER})
    again = await world.send(SALE | {"user": "u1", "to": OTHER})
    assert (again.json["outcome"], again.json["id"]) == ("duplicate", before)
    for to in (OTHER, PHONE):
        sent = await world.send(SALE | {"to": to, "campaign": "winter"})
        assert sent.json["outcome"] == "accepted"


@with_ingress(shards=3)
@pytest.mark.parametrize("before", [True, False], ids=["sent to before", "never sent to"])
async def test_who_lost_a_number_got_by_a_change_is_another_person_than_who_has_it(
    world: World, *, before: bool
) -> None:
    """What the new number's next user gets counts for that one alone."""
    await stored(world, "u1", phone=PHONE)
    if before:
        await world.send(SALE | {"user": "u1"})
    await world.call("PATCH", USER, {"phone": OTHER})
    await stored(world, "u2", phone=OTHER)
    for user in (SALE | {"user": "u2", "to": OTHER}, SALE | {"user": "u1", "to": "+79160000002"}):
        sent = await world.send(user | {"campaign": "winter"})
        assert sent.json["outcome"] == "accepted", sent.json


@with_ingress(shards=3)
async def test_of_users_that_want_one_address_at_once_one_has_it(world: World) -> None:
    await asyncio.gather(*(stored(world, f"u{n}", phone=PHONE) for n in range(6)))
    holders = [n for n in range(6) if (await shown(world, f"u{n}"))["phone"] == PHONE]
    assert len(holders) == 1
    owners = await address_owners.read(world.store, [f"p:{PHONE[1:]}"])
    assert owners == {f"p:{PHONE[1:]}": {"": f"u{holders[0]}"}}


def phone_of(user: str, phone: str = PHONE) -> users.UserChange:
    addresses = Addresses(phone=phone[1:])
    return users.UserChange(
        user, "", addresses, lambda _: StoredUser("shop", T0, addresses=addresses)
    )


async def who_has_phone(world: World, *asked: str) -> list[str]:
    kept = await users.read(world.store, asked)
    return [user for user in asked if kept[user].addresses.phone == PHONE[1:]]


@with_ingress(shards=3)
@pytest.mark.parametrize("order", [("u1", "u2"), ("u2", "u1"), ("u1", "u3", "u2", "u1")])
async def test_of_users_that_name_one_address_in_a_batch_the_last_has_it(
    world: World, order: tuple[str, ...]
) -> None:
    await stored(world, "u2", phone=PHONE)
    await users.change(world.store, [phone_of(user) for user in order], T0)
    assert await who_has_phone(world, *sorted({*order})) == [order[-1]]
    sale = (await world.send(SALE | {"user": order[-1]})).json
    by_user = {key: SALE[key] for key in SALE if key != "to"} | {"user": order[-1]}
    assert (await world.send(by_user)).json["id"] == sale["id"]


@with_ingress(shards=3)
async def test_who_takes_an_address_back_meanwhile_keeps_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first loses the address to the second, and has it again before that was written down."""
    await stored(world, "u1", phone=PHONE)
    lose = users._lose

    async def late(store: StoreBase, lost: Collection[OwnedAddress]) -> None:
        monkeypatch.setattr(users, "_lose", lose)
        await users.change(world.store, [phone_of("u1")], T0)
        await lose(store, lost)

    monkeypatch.setattr(users, "_lose", late)
    await users.change(world.store, [phone_of("u2")], T0)
    assert await who_has_phone(world, "u1", "u2") == ["u1"]


@with_ingress(shards=3)
async def test_who_takes_an_address_back_while_it_is_lost_keeps_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of the first is the same before and after, and is watched meanwhile."""
    await stored(world, "u1", phone=PHONE)
    owned = address_owners.owned

    async def late(store: StoreBase, held: Collection[OwnedAddress]) -> set[OwnedAddress]:
        monkeypatch.setattr(address_owners, "owned", owned)
        found = await owned(store, held)
        await users.change(world.store, [phone_of("u1")], T0)
        return found

    monkeypatch.setattr(address_owners, "owned", late)
    await users.change(world.store, [phone_of("u2")], T0)
    assert await who_has_phone(world, "u1", "u2") == ["u1"]


@with_ingress(shards=3, changed={"[prices]": '[dedupe]\nusers = "app"\n[prices]'})
async def test_users_can_be_each_apps_own(world: World) -> None:
    await stored(world, "u1", phone=PHONE)
    assert (await world.call("GET", USER, key="bank-key")).status == 404
    await world.call("PUT", USER, {"phone": PHONE, "locale": "en"}, key="bank-key")
    assert (await shown(world, "u1"))["phone"] == PHONE
    assert (await shown(world, "u1"))["locale"] is None
    assert (await shown(world, "u1", "bank-key"))["phone"] == PHONE


@with_ingress()
async def test_a_device_that_is_gone_is_dropped(world: World) -> None:
    tokens = [{"kind": "fcm", "token": token} for token in ("tok-1", "tok-2")]
    await stored(world, "u1", push=tokens)
    await users.drop_device(world.store, "u1", FcmAddress("tok-1"))
    assert (await shown(world, "u1"))["push"] == tokens[1:]
    await users.drop_device(world.store, "nobody", FcmAddress("tok-1"))


# --- sends that name a user


@with_ingress(shards=3)
async def test_a_message_may_name_only_its_user(world: World) -> None:
    await stored(world, "u1", phone=PHONE, email=ANNA)
    code = {"user": "u1", "category": "otp", "text": "1234"}
    answer = await world.send(code, Idempotency_Key="k")
    assert (answer.status, answer.json["outcome"]) == (202, "accepted")
    message = (await world.call("GET", f"/v1/messages/{answer.json['id']}")).json
    assert message["to"] == {"phone": PHONE, "email": ANNA}
    assert [step["status"] for step in message["steps"]] == ["queued"]
    (reached,) = await world.redis.call([("SMEMBERS", COUNTRIES)])
    assert reached == [b"shop:RU"]
    manager = await key_of(world, "shop", "send", "read", "manage")
    await world.call("DELETE", USER, key=manager)
    again = await world.send(code, Idempotency_Key="k")
    assert (again.json["id"], again.headers["idempotent-replayed"]) == (answer.json["id"], "true")


@with_ingress(shards=3)
async def test_kinds_that_are_missing_are_filled_and_those_that_are_given_stay(
    world: World,
) -> None:
    await stored(world, "u1", phone=PHONE, email=ANNA)
    named: list[Any] = [OTHER, {"email": "new@shop.example"}]
    messages = [OTP | {"user": "u1", "to": to} for to in named]
    answer = await world.call("POST", "/v1/messages", messages)
    told = [
        (await world.call("GET", f"/v1/messages/{each['id']}")).json["to"] for each in answer.json
    ]
    assert told == [
        {"phone": OTHER, "email": ANNA},
        {"phone": PHONE, "email": "new@shop.example"},
    ]


@with_ingress()
async def test_the_zone_of_a_message_is_its_own_or_its_users(world: World) -> None:
    await stored(world, "u1", phone=PHONE, tz="Asia/Omsk")
    own = OTP | {"user": "u1"}
    for body, zone in ((own, "Asia/Omsk"), (own | {"tz": "Europe/Paris"}, "Europe/Paris")):
        id_ = (await world.send(body)).json["id"]
        message = await reads.message(world.store, id_)
        assert message is not None
        assert message.tz == zone


@with_ingress()
@pytest.mark.parametrize("category", ["otp", "marketing"])
async def test_who_is_not_stored_needs_an_address(world: World, category: str) -> None:
    await stored(world, "empty", tz="Europe/Moscow")
    for user in ("nobody", "empty"):
        body = {"user": user, "category": category, "campaign": "c", "text": "1"}
        answer = await world.send(body)
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/to")
        assert "stored" in answer.json["detail"]
    answer = await world.send({"category": "otp", "text": "1"})
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/to")
    answer = await world.send({"category": "otp", "text": "1", "to": None, "user": 7})
    assert {fault["pointer"] for fault in answer.json["errors"]} == {"/user"}


@with_ingress(changed={'key_env = "SHOP_KEY"': 'key_env = "SHOP_KEY"\ncountries = ["KZ"]'})
async def test_an_app_is_kept_to_its_countries_where_the_number_is_stored(world: World) -> None:
    await stored(world, "u1", phone=PHONE)
    answer = await world.send({"user": "u1", "category": "otp", "text": "1"})
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/to")
    assert "KZ" in answer.json["detail"]
    theirs = await world.call(
        "POST", "/v1/messages", {"user": "u1", "category": "otp", "text": "1"}, key="bank-key"
    )
    assert theirs.status == 202


@with_ingress()
async def test_while_nobody_is_stored_nobody_is_looked_for(world: World) -> None:
    """That there is nobody is asked now and then, and a send that names only a user reads."""
    await world.send(OTP | {"user": "u0"})
    calls = world.redis.calls
    await world.send(OTP)
    alone = world.redis.calls - calls
    calls = world.redis.calls
    await world.send(OTP | {"user": "u0"})
    assert world.redis.calls - calls == alone


@with_ingress()
async def test_the_first_user_that_another_process_stores_counts_soon(world: World) -> None:
    await world.send(OTP | {"user": "u1"})  # looked, and there was nobody
    theirs, anna = Store(world.redis, world.store.policy), Addresses(email=ANNA)
    change = UserChange("u1", "", anna, lambda _: StoredUser("shop", T0, anna))
    await users.change(theirs, [change], T0)
    only_user = {"user": "u2", "category": "otp", "text": "1"}
    assert (await world.send(only_user)).status == 422
    world.clock.now_ms += LOOK_EVERY_MS
    answer = await world.send(OTP | {"user": "u1"})
    message = (await world.call("GET", f"/v1/messages/{answer.json['id']}")).json
    assert message["to"]["email"] == ANNA


@with_ingress()
async def test_the_first_user_counts_from_its_answer_on(world: World) -> None:
    """Also where it was just seen that there is nobody."""
    await world.send(OTP | {"user": "u0"})
    await stored(world, "u1", phone=PHONE, email=ANNA)
    answer = await world.send(OTP | {"user": "u1"})
    message = (await world.call("GET", f"/v1/messages/{answer.json['id']}")).json
    assert message["to"]["email"] == ANNA
    by_mail = {"user": "u1", "to": {"email": ANNA}, "category": "otp", "text": "1"}
    assert (await world.send(by_mail)).status == 202


# --- consent

REQUIRED = {"[prices]": '[consent]\nrequire = ["marketing"]\n[prices]'}


def said_yes(**channel: str) -> list[dict[str, str]]:
    at = "2026-11-01T12:00:00Z"
    return [{"category": "marketing", "given_at": at, "source": "checkout"} | channel]


@with_ingress(shards=3, changed=REQUIRED)
async def test_who_did_not_say_yes_is_sent_no_marketing(world: World) -> None:
    await stored(world, "u1", phone=PHONE, consent=said_yes())
    await stored(world, "u2", phone=OTHER)
    for to, outcome in ((PHONE, "accepted"), (OTHER, "suppressed"), ("+79160000002", "suppressed")):
        answer = (await world.send(SALE | {"to": to})).json
        assert answer["outcome"] == outcome, to
        assert answer.get("reason") == ("opted_out" if outcome == "suppressed" else None)
    assert (await world.send(OTP | {"to": OTHER})).json["outcome"] == "accepted"
    only_user = {key: SALE[key] for key in SALE if key != "to"} | {"campaign": "winter"}
    for user, outcome in (("u1", "accepted"), ("u2", "suppressed")):
        assert (await world.send(only_user | {"user": user})).json["outcome"] == outcome


@with_ingress(shards=3, changed=REQUIRED)
async def test_a_yes_for_one_channel_is_for_that_one(world: World) -> None:
    await stored(world, "u1", phone=PHONE, consent=said_yes(channel="sms"))
    id_ = (await world.send(SALE)).json["id"]
    steps = (await world.call("GET", f"/v1/messages/{id_}")).json["steps"]
    assert [(step["status"], (step["error"] or {}).get("code")) for step in steps] == [
        ("skipped", "opted_out"),
        ("queued", None),
    ]


@with_ingress(shards=3, changed=REQUIRED)
async def test_a_dry_run_says_who_has_not_said_yes(world: World) -> None:
    await stored(world, "u1", phone=PHONE, consent=said_yes())
    for to, outcome, verdict in (
        (PHONE, "accepted", "pass"),
        (OTHER, "suppressed", "stop"),
    ):
        answer = await world.call("POST", "/v1/messages?dry_run=true", SALE | {"to": to})
        assert answer.json["outcome"] == outcome
        gates = {gate["gate"]: gate["verdict"] for gate in answer.json["explain"]["gates"]}
        assert (gates["opt_out"], gates["consent"]) == ("pass", verdict)
    only_user = {key: SALE[key] for key in SALE if key != "to"}
    for user, outcome in (("u1", "accepted"), ("nobody", "rejected")):
        body = only_user | {"user": user}
        answer = await world.call("POST", "/v1/messages?dry_run=true", body)
        assert answer.json["outcome"] == outcome


@with_ingress(shards=3, changed=REQUIRED)
async def test_a_yes_that_was_withdrawn_stops_what_has_not_left(world: World) -> None:
    await stored(world, "u1", phone=PHONE, consent=said_yes())
    id_ = (await world.send(SALE)).json["id"]
    await world.call("PATCH", USER, {"consent": None})
    await world.store.apply([Item(id_, Claimed(0))], T0)
    message = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert (message["status"], message["final"]) == ("suppressed", True)
    assert {step["error"]["code"] for step in message["steps"]} == {"opted_out"}


@with_ingress(shards=3, changed=REQUIRED)
@pytest.mark.parametrize("record", [bytes((SCHEMA + 1,)), b"\x00damaged"], ids=["newer", "damaged"])
async def test_a_user_that_cannot_be_read_costs_its_own_message_alone(
    world: World, record: bytes
) -> None:
    """What a newer Kaskad wrote is left to it; a damaged one said yes to nothing."""
    newer = record[0] > SCHEMA
    ids = []
    for user, phone in (("u1", PHONE), ("u2", OTHER)):
        await stored(world, user, phone=phone, consent=said_yes())
        ids.append((await world.send(SALE | {"to": phone})).json["id"])
    key = keys_of(shard_of("u1", world.store.shards)).user("u1")
    await world.redis.call([("SET", key, record, "XX")])
    applied = await world.store.apply([Item(id_, Claimed(0)) for id_ in ids], T0)
    found = {a.item.message_id: a for a in applied}
    assert [found[id_].newer for id_ in ids] == [newer, False]
    assert not any(a.set_aside or a.postponed for a in applied)
    statuses = [(await world.call("GET", f"/v1/messages/{id_}")).json["status"] for id_ in ids]
    assert statuses == ["queued" if newer else "suppressed", "queued"]
    assert await quarantine.count(world.redis, world.store.shards) == (0 if newer else 1)


# --- erased


@with_ingress(shards=3)
async def test_of_a_user_that_was_erased_nothing_is_left(world: World) -> None:
    await stored(world, "client-4711", phone=PHONE, email=ANNA, push=WHOLE["push"])
    manager = await key_of(world, "bank", "send", "manage")
    answer = await world.call("DELETE", "/v1/users/client-4711", key=manager)
    assert (answer.status, answer.json["messages"]) == (200, 0)
    for key, text in (await everything(world)).items():
        for secret in (PHONE[1:], "anna", "client-4711", "tok-1"):
            assert secret not in key, key
            assert secret.encode() not in text, (key, secret)
    assert (await world.call("DELETE", "/v1/users/client-4711", key=manager)).status == 404


async def took_only(world: World, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A process that stores u1 dies once the address is noted as the user's."""

    async def dies(*_: object) -> None:
        raise RedisUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(users, "_write", dies)
        assert (await world.call("PUT", USER, {"phone": PHONE}, key=key)).status == 503


@with_ingress(shards=3)
async def test_of_a_user_that_was_not_written_whole_nothing_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await took_only(world, monkeypatch, "shop-key")
    phone = f"p:{PHONE[1:]}"
    assert await address_owners.read(world.store, [phone]) == {phone: {"": "u1"}}
    found = await persons.find(world.store, phone, T0)
    await persons.erase(world.store, found, T0, "shop")
    assert await address_owners.read(world.store, [phone]) == {phone: {"": "u1"}}, "of every app"
    await persons.erase(world.store, found, T0)
    assert all(PHONE[1:] not in key for key in await everything(world))


@with_ingress(shards=3, changed={"[prices]": '[dedupe]\nusers = "app"\n[prices]'})
async def test_an_app_forgets_what_is_in_its_own_numbering_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("shop-key", "bank-key"):
        await took_only(world, monkeypatch, key)
    phone = f"p:{PHONE[1:]}"
    await persons.erase(world.store, await persons.find(world.store, phone, T0), T0, "shop")
    assert list((await address_owners.read(world.store, [phone]))[phone]) == ["bank"]


@with_ingress(shards=3)
async def test_an_app_forgets_the_users_that_it_stored(world: World) -> None:
    await stored(world, "u1", phone=PHONE)
    assert (await world.call("GET", USER, key="bank-key")).json["phone"] == PHONE
    await world.call("DELETE", USER, key="bank-key")
    assert (await shown(world, "u1"))["phone"] == PHONE
    assert (await world.call("DELETE", USER)).status == 200
    assert (await world.call("GET", USER)).status == 404
    assert await address_owners.read(world.store, [f"p:{PHONE[1:]}"]) == {}
    assert world.clock.now_ms == T0
