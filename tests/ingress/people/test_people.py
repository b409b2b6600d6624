"""What an app may ask of a person, how the person is forgotten, and whose opt-out is whose."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog.testing

from gateway.core import cascade
from gateway.core import events as ev
from gateway.core.people.opt_outs import Origin
from gateway.core.policy import TTL_MAX_MS
from gateway.core.records.content import content_codec
from gateway.core.records.entries import index_codec
from gateway.core.records.message_codec import unpack_message
from gateway.finance.reports.verify import verify_ledger
from gateway.ingress.api.people import users
from gateway.redis.errors import CommandRefused
from gateway.store import quarantine
from gateway.store.compression import unpack
from gateway.store.installation import api_keys
from gateway.store.installation.api_keys import Scope
from gateway.store.keys import keys_of
from gateway.store.messages import reads, unindexed
from gateway.store.messages.apply import Item
from gateway.store.messages.receipts import take_receipts
from gateway.store.people import opt_outs, persons
from gateway.store.shared_keys import INDEXED_FIELD, META
from providers.contract import Fault, Receipt
from tests.worlds.ingress_world import OTP, PHONE, SALE, T0, Answer, World, with_ingress

DIGITS = PHONE[1:]
OTHER = "+79160000001"
USER = "/v1/users/u1"


async def key_of(world: World, app: str, *scopes: Scope) -> str:
    return await api_keys.create(world.redis, app, scopes, T0)


async def deliver(world: World, id_: str, provider: str, now_ms: int = T0) -> None:
    for event in (ev.Claimed(0), ev.Accepted(0)):
        await world.store.apply([Item(id_, event)], now_ms)
    await take_receipts(world.store, provider, [Receipt("delivered", ref=f"{id_}.0")], now_ms)


async def accepted(world: World, message: dict[str, Any], key: str = "shop-key") -> str:
    answer = await world.call("POST", "/v1/messages", message, key=key)
    assert answer.json["outcome"] == "accepted", answer.json
    return str(answer.json["id"])


async def everything(world: World) -> dict[str, bytes]:
    """All that Redis holds, by key, as one text each."""
    (names,) = await world.redis.call([("KEYS", "*")])
    found = {}
    for name in names:
        (kind,) = await world.redis.call([("TYPE", name)])
        kind = kind if isinstance(kind, str) else kind.decode()
        command: dict[str, Any] = {
            "string": ("GET", name),
            "hash": ("HGETALL", name),
            "set": ("SMEMBERS", name),
            "zset": ("ZRANGE", name, 0, -1),
            "stream": ("XRANGE", name, "-", "+"),
        }
        (value,) = await world.redis.call([command[kind]])
        text = repr(value).encode() if kind != "stream" else b""
        for _, fields in value if kind == "stream" else ():
            text += b" ".join(unpack(each) for each in fields)
        found[name.decode()] = text
    return found


# --- what is kept


@with_ingress()
async def test_only_a_few_persons_are_looked_for_at_once(world: World) -> None:
    await accepted(world, OTP | {"user": "u1"})
    answers = await asyncio.gather(
        *(world.call("GET", USER) for _ in range(users.SEARCHES_MAX + 1))
    )
    assert sorted(answer.status for answer in answers) == [200, 200, 503]
    assert (await world.call("GET", USER)).status == 200


@with_ingress(shards=3)
async def test_a_person_is_shown_as_the_app_knows_it(world: World) -> None:
    sale = await accepted(world, SALE | {"user": "u1"})
    await deliver(world, sale, "viber")
    code = await accepted(world, OTP | {"user": "u1"})
    await accepted(world, OTP | {"user": "u1"}, key="bank-key")
    await world.call("PUT", f"/v1/optouts/{PHONE}", {"scope": "marketing", "reason": "asked"})
    found = (await world.call("GET", USER)).json
    assert found["user"] == "u1"
    assert [m["id"] for m in found["messages"]] in ([code, sale], [sale, code])
    assert [(c["campaign"], c["message"]) for c in found["claims"]] == [("autumn", sale)]
    (cap,) = found["caps"]
    assert (cap["name"], cap["count"], cap["limit"], cap["retry_at"]) == ("two-a-day", 1, 2, None)
    (opt_out,) = found["optouts"]
    assert (opt_out["phone"], opt_out["scope"], opt_out["reason"]) == (PHONE, "marketing", "asked")
    assert found["channels"]["viber"] == {
        "reachable": None,
        "reachable_at": None,
        "exposures": 0.0,
        "reactions": 0.0,
        "rate": 0.06,
        "rate_low": 0.006089,
        "rate_high": 0.399396,
    }


@with_ingress()
async def test_a_person_without_a_channel_is_shown_as_not_reachable_there(world: World) -> None:
    sale = await accepted(world, SALE | {"user": "u1"})
    nobody = Fault("7002", "EC_UNKNOWN_USER", True)
    receipt = Receipt("undelivered", ref=f"{sale}.0", fault=nobody, unreachable=True)
    for event in (ev.Claimed(0), ev.Accepted(0), ev.Reported(0, receipt, "viber")):
        await world.store.apply([Item(sale, event)], T0)
    channels = (await world.call("GET", USER)).json["channels"]
    assert (channels["viber"]["reachable"], channels["sms"]["reachable"]) == (False, None)
    assert channels["viber"]["reachable_at"] is not None


@with_ingress()
async def test_nobody_of_whom_nothing_is_kept_is_a_404(world: World) -> None:
    assert (await world.call("GET", USER)).status == 404
    assert (await world.call("DELETE", USER)).status == 404
    await accepted(world, OTP | {"user": "u1"}, key="bank-key")
    assert (await world.call("GET", USER)).status == 404, "another app's person"
    assert (await world.call("GET", "/v1/users/u1", key="reader-key")).status == 404
    assert (await world.call("DELETE", USER, key="reader-key")).status == 403


# --- erased


@with_ingress(shards=3)
async def test_of_a_person_who_was_erased_nothing_is_left_but_money(world: World) -> None:
    """Redis as a whole has neither number, address, id, text nor metadata."""
    person = {"to": {"phone": PHONE, "email": "anna@shop.example"}, "user": "client-4711"}
    more = person | {"metadata": {"order": "A-17"}, "text": "Hello Anna"}
    delivered = await accepted(world, SALE | more)
    await deliver(world, delivered, "viber")
    live = await accepted(world, SALE | more | {"campaign": "winter"})
    await accepted(world, OTP | more)
    stray = Receipt("delivered", ref="stray", to=DIGITS)
    await take_receipts(world.store, "viber", [stray], T0)
    await world.call("PUT", f"/v1/optouts/{PHONE}", {"scope": "all", "reason": "Anna asked"})
    manager = await key_of(world, "shop", "send", "manage")
    before = (await world.call("GET", f"/v1/messages/{delivered}")).json
    answer = await world.call("DELETE", "/v1/users/client-4711", key=manager)
    assert (answer.status, answer.json) == (200, {"messages": 3, "cancelled": 2})
    for key, text in (await everything(world)).items():
        for secret in (DIGITS, "anna", "client-4711", "A-17", "Hello", "Anna"):
            assert secret not in key, key
            assert secret.encode() not in text, (key, secret)
    after = (await world.call("GET", f"/v1/messages/{delivered}")).json
    assert (after["to"], after["user"], after["metadata"]) == (None, None, None)
    for same in ("status", "steps", "billing", "campaign", "app"):
        assert after[same] == before[same]
    gone = (await world.call("GET", f"/v1/messages/{live}")).json
    assert (gone["status"], gone["final"]) == ("cancelled", True)
    assert {step["error"]["code"] for step in gone["steps"]} == {"erased"}
    assert (await verify_ledger(world.redis, 3, full=True)).agrees
    assert (await world.call("DELETE", "/v1/users/client-4711", key=manager)).status == 404


@with_ingress(shards=3)
async def test_an_opt_out_outlives_its_person(world: World) -> None:
    await accepted(world, SALE | {"user": "u1"})
    await world.call("PUT", f"/v1/optouts/{PHONE}", {"scope": "marketing"})
    manager = await key_of(world, "shop", "send", "read", "manage")
    assert (await world.call("DELETE", USER, key=manager)).status == 200
    assert (await world.send(SALE)).json["reason"] == "opted_out"
    assert (await world.send(OTP)).status == 202
    joined = SALE | {"to": {"phone": OTHER, "email": "a@b.example"}}
    assert (await world.send(joined)).status == 202
    found = (await world.call("GET", f"/v1/optouts/{PHONE}")).json
    assert (found["scope"], found["by"]) == ("marketing", "shop")
    assert (await world.call("DELETE", f"/v1/optouts/{PHONE}")).status == 204
    assert (await world.send(SALE)).status == 202


@with_ingress()
async def test_a_step_that_waits_hears_of_an_opt_out_of_somebody_who_was_erased(
    world: World,
) -> None:
    await opt_outs.put(world.redis, 1, DIGITS, "all", Origin())
    await opt_outs.make_nameless(world.redis, 1, [DIGITS])
    await world.call("DELETE", f"/v1/optouts/{OTHER}")
    waiting = await accepted(world, SALE | {"to": OTHER})
    await opt_outs.put(world.redis, 1, OTHER[1:], "marketing", Origin())
    await opt_outs.make_nameless(world.redis, 1, [OTHER[1:]])
    await world.store.apply([Item(waiting, ev.Claimed(0))], T0)
    found = await reads.message(world.store, waiting)
    assert found is not None
    assert found.reason == "opted_out"


@with_ingress(shards=2)
async def test_an_app_erases_its_own_and_the_rest_stays(world: World) -> None:
    mine = await accepted(world, OTP | {"user": "u1"})
    theirs = await accepted(world, SALE | {"user": "u1"}, key="bank-key")
    assert (await world.call("DELETE", USER)).json == {"messages": 1, "cancelled": 1}
    assert (await world.call("GET", f"/v1/messages/{mine}")).json["to"] is None
    other = (await world.call("GET", f"/v1/messages/{theirs}", key="bank-key")).json
    assert (other["to"], other["status"]) == (PHONE, "queued")
    assert (await world.send(SALE)).json["outcome"] == "duplicate", "the other app's claim stays"


@with_ingress(shards=2)
async def test_another_apps_claim_stays_also_where_its_message_is_found_no_more(
    world: World,
) -> None:
    theirs = await accepted(world, SALE | {"user": "u1"}, key="bank-key")
    await deliver(world, theirs, "viber")
    shard = world.store.shard_of_message(theirs)
    await world.redis.call([("DEL", keys_of(shard).message(theirs))])
    await accepted(world, OTP | {"user": "u1"})
    assert (await world.call("DELETE", USER)).json["messages"] == 1
    assert (await world.send(SALE)).json["outcome"] == "duplicate"


@with_ingress(shards=2)
async def test_what_is_accepted_while_a_person_is_erased_keeps_its_claim(world: World) -> None:
    await accepted(world, OTP | {"user": "u1"})
    found = await persons.find(world.store, "u:u1", T0)
    await accepted(world, SALE | {"user": "u1"})
    await persons.erase(world.store, found, T0)
    assert (await world.send(SALE)).json["outcome"] == "duplicate"


@with_ingress(shards=2)
async def test_claims_and_cap_slots_of_the_erased_go(world: World) -> None:
    for campaign in ("autumn", "winter"):
        id_ = await accepted(world, SALE | {"user": "u1", "campaign": campaign})
        await deliver(world, id_, "viber")
    full = (await world.send(SALE | {"campaign": "spring"})).json
    assert full["reason"] == "frequency_cap"
    manager = await key_of(world, "shop", "send", "manage")
    assert (await world.call("DELETE", USER, key=manager)).json["messages"] == 2
    assert (await world.send(SALE)).json["outcome"] == "accepted"


@with_ingress()
async def test_what_is_out_when_its_person_is_erased_still_settles(world: World) -> None:
    id_ = await accepted(world, SALE | {"user": "u1"})
    for event in (ev.Claimed(0), ev.Accepted(0)):
        await world.store.apply([Item(id_, event)], T0)
    await world.call("DELETE", USER)
    receipts = [Receipt("delivered", ref=f"{id_}.0", to=DIGITS)] * 2
    await take_receipts(world.store, "viber", receipts, T0)
    found = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert (found["status"], found["final"]) == ("cancelled", True)
    assert found["billing"] == {"billed": "0.0080", "cost": "0.0050", "currency": "EUR"}
    assert (await verify_ledger(world.redis, 1, full=True)).agrees


@with_ingress(shards=2)
async def test_an_erase_that_was_interrupted_is_finished_when_it_is_repeated(world: World) -> None:
    ids = [await accepted(world, OTP | {"user": "u1"}) for _ in range(4)]
    await world.store.apply([Item(ids[0], ev.Cancelled(erase=True))], T0)
    manager = await key_of(world, "shop", "send", "manage")
    assert (await world.call("DELETE", USER, key=manager)).json["messages"] == 3
    for id_ in ids:
        assert (await world.call("GET", f"/v1/messages/{id_}")).json["to"] is None


@with_ingress(shards=3)
async def test_what_was_accepted_before_there_was_an_index_is_found_while_it_is_kept(
    world: World,
) -> None:
    """Two codes, which hold no claim or slot; the second knows the person by another address."""
    to = {"phone": PHONE, "email": "anna@shop.example"}
    ids = [await accepted(world, OTP | {"user": "u1"}), await accepted(world, OTP | {"to": to})]
    for shard in range(3):
        await world.redis.call([("DEL", keys_of(shard).index)])
    await world.redis.call([("HSET", META, INDEXED_FIELD, T0 - 1)])
    found = await persons.find(world.store, "e:anna@shop.example", T0)
    assert set(found.messages) == set(ids)
    later = T0 + unindexed.UPGRADE_MS + 2 * TTL_MAX_MS + world.store.retention.message_ms
    assert (await persons.find(world.store, "u:u1", later)).messages == {}, "none is kept so long"
    await world.redis.call([("HSET", META, INDEXED_FIELD, 0)])
    assert (await persons.find(world.store, "u:u1", T0)).messages == {}, "all were indexed"
    await world.redis.call([("HSET", META, INDEXED_FIELD, T0 - 2 * unindexed.UPGRADE_MS)])
    assert (await persons.find(world.store, "u:u1", T0)).messages == {}, "since then all were"
    await world.redis.call([("HDEL", META, INDEXED_FIELD)])

    async def forbidden(*_: Any) -> Any:
        raise CommandRefused("EVALSHA", "NOPERM")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unindexed, "server_states", forbidden)
        assert set((await persons.find(world.store, "u:u1", T0)).messages) == set(ids)
    manager = await key_of(world, "shop", "send", "manage")
    assert (await world.call("DELETE", USER, key=manager)).json["messages"] == 2


@with_ingress(shards=2)
async def test_what_was_set_aside_says_nothing_of_a_person_who_was_erased(world: World) -> None:
    id_ = await accepted(world, SALE | {"user": "client-4711", "text": "Hello Anna"})
    shard = world.store.shard_of_message(id_)
    keys = keys_of(shard)

    def fails(*_: Any) -> Any:
        raise ZeroDivisionError("a fault of ours")

    with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs():
        patch.setattr(cascade, "advance", fails)
        await world.store.apply([Item(id_, ev.Claimed(0))], T0)
        receipt = Receipt("delivered", ref=f"{id_}.0", to=DIGITS)
        assert (await take_receipts(world.store, "viber", [receipt], T0)).set_aside == 1
    claim = keys_of(0).claim("u:client-4711", "autumn")
    stray = b"rubbish of " + DIGITS.encode()
    for what, raw in ((claim, b""), (f"{keys.unmatched_receipts} 00", stray), ("another", b"!")):
        await quarantine.set_aside(world.redis, shard, {what: raw}, "why", T0)
    kept = {each.what: each.raw for each in await quarantine.listed(world.redis, 2)}
    assert len(kept) == 5
    assert b"Hello" not in b"".join(kept.values())
    manager = await key_of(world, "shop", "send", "manage")
    assert (await world.call("DELETE", "/v1/users/client-4711", key=manager)).status == 200
    for key, text in (await everything(world)).items():
        for secret in (DIGITS, "client-4711", "Hello"):
            assert secret not in key, key
            assert secret.encode() not in text, (key, secret)
    left = {each.what for each in await quarantine.listed(world.redis, 2)}
    assert left == {what for what in kept if what.startswith(keys.message(id_))} | {"another"}
    (receipt_of,) = [raw for what, raw in kept.items() if " receipt " in what]
    assert b"delivered" in receipt_of, "what the ledger lacks is told all the same"


@with_ingress()
async def test_the_ledger_and_the_index_hold_nobodys_data(world: World) -> None:
    id_ = await accepted(world, SALE | {"user": "client-4711", "metadata": {"order": "A-17"}})
    await deliver(world, id_, "viber")
    found = await everything(world)
    for key in (keys_of(0).ledger, keys_of(0).index):
        for secret in (DIGITS.encode(), b"client-4711", b"A-17"):
            assert secret not in found[key]
    ((_, fields),) = (await world.redis.call([("XRANGE", keys_of(0).index, "-", "+")]))[0]
    (item,) = index_codec.decode(unpack(fields[1])).items
    assert (item.message, item.campaign, len(item.buckets)) == (id_, "autumn", 2)


async def end(world: World, id_: str, how: str) -> None:
    """Makes a message final, whatever way."""
    if how == "cancelled":
        await world.call("DELETE", f"/v1/messages/{id_}")
    elif how == "delivered":
        await deliver(world, id_, "viber")
    elif how == "opted out":
        await opt_outs.put(world.redis, 1, DIGITS, "all", Origin())
        await world.store.apply([Item(id_, ev.Claimed(0))], T0)
    elif how == "expired":
        await world.store.apply([Item(id_, ev.TimerDue())], T0 + TTL_MAX_MS)
    else:
        for step, provider in enumerate(("viber", "sms")):
            for event in (ev.Claimed(step), ev.Accepted(step)):
                await world.store.apply([Item(id_, event)], T0)
            receipt = Receipt("undelivered", ref=f"{id_}.{step}", to=DIGITS)
            await take_receipts(world.store, provider, [receipt], T0)


@pytest.mark.parametrize("how", ["cancelled", "delivered", "opted out", "expired", "undelivered"])
@with_ingress()
async def test_no_text_is_left_anywhere_once_its_message_is_final(world: World, how: str) -> None:
    """Neither in its record nor in an answer that is remembered, an event, what was set aside."""
    said = {"text": "Hello Anna", "sms": {"text": "Hello by SMS"}, "idempotency_key": "k"}
    id_ = await accepted(world, SALE | said)
    (record,) = await world.redis.call([("GET", keys_of(0).message(id_))])
    assert content_codec.decode(unpack_message(id_, record).content).text == "Hello Anna"

    def fails(*_: Any) -> Any:
        raise ZeroDivisionError("a fault of ours")

    with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs():
        patch.setattr(cascade, "advance", fails)
        await world.store.apply([Item(id_, ev.Claimed(0))], T0)
    assert await quarantine.count(world.redis, 1) == 1
    await take_receipts(world.store, "viber", [Receipt("delivered", ref="stray", to=DIGITS)], T0)
    await end(world, id_, how)
    assert (await world.call("GET", f"/v1/messages/{id_}")).json["final"]
    for key, text in (await everything(world)).items():
        assert b"Hello" not in text, key


# --- opt-outs


async def put(world: World, scope: str, key: str = "shop-key", **more: str) -> Answer:
    return await world.call("PUT", f"/v1/optouts/{PHONE}", {"scope": scope, **more}, key=key)


@with_ingress()
async def test_an_opt_out_says_who_set_it_when_and_why(world: World) -> None:
    told = (await put(world, "marketing", reason="by phone")).json
    assert told["by"] == "shop"
    assert told["at"].startswith("2026-")
    assert told["reason"] == "by phone"
    other = (await world.call("GET", f"/v1/optouts/{PHONE}", key="bank-key")).json
    assert (other["scope"], other["by"], other["reason"]) == ("marketing", "shop", None)


@with_ingress()
async def test_an_opt_out_of_another_app_is_taken_back_with_manage_only(world: World) -> None:
    await put(world, "all", key="bank-key")
    path = f"/v1/optouts/{PHONE}"
    for answer in (await world.call("DELETE", path), await put(world, "marketing")):
        assert (answer.status, answer.json["type"]) == (403, "/docs#forbidden")
    assert (await world.call("GET", path)).json["scope"] == "all"
    manager = await key_of(world, "shop", "send", "manage")
    assert (await world.call("DELETE", path, key=manager)).status == 204
    assert (await world.call("GET", path)).status == 404


@with_ingress()
async def test_an_opt_out_of_the_person_is_theirs_also_when_an_app_widens_it(world: World) -> None:
    await opt_outs.put(world.redis, 1, DIGITS, "marketing", Origin("", T0, "STOP"))
    widened = (await put(world, "all")).json
    assert (widened["scope"], widened["by"]) == ("all", "person")
    assert (await world.call("DELETE", f"/v1/optouts/{PHONE}")).status == 403
    assert (await world.send(OTP)).json["reason"] == "opted_out"


@with_ingress(shards=2)
async def test_an_e_mail_address_opts_out_too(world: World) -> None:
    path = "/v1/optouts/Anna%40Shop.example"
    told = (await world.call("PUT", "/v1/optouts/Anna@Shop.example", {"scope": "all"})).json
    assert told["email"] == "anna@shop.example"
    assert "phone" not in told
    to = {"phone": PHONE, "email": "anna@shop.example"}
    assert (await world.send(OTP | {"to": to})).json["reason"] == "opted_out"
    assert (await world.call("GET", "/v1/optouts/anna@shop.example")).status == 200
    assert (await world.call("DELETE", "/v1/optouts/anna@shop.example")).status == 204
    assert (await world.call("GET", "/v1/optouts/@")).status == 422
    assert path


# --- of whom an address was before


async def changed_hands(world: World) -> tuple[str, str]:
    """The number was u1's, who was sent something, and is u2's, who was as well; what they were
    sent."""
    await world.call("PUT", USER, {"phone": PHONE, "email": "anna@shop.example"})
    first = await accepted(world, SALE | {"user": "u1", "to": PHONE})
    await deliver(world, first, "viber")
    await world.call("PUT", "/v1/users/u2", {"phone": PHONE})
    return first, await accepted(world, SALE | {"user": "u2", "campaign": "winter"})


@with_ingress(shards=3)
async def test_who_had_a_number_is_not_shown_what_its_next_user_is_sent(world: World) -> None:
    first, second = await changed_hands(world)
    for user, sent, campaigns in (("u1", first, ["autumn"]), ("u2", second, ["autumn", "winter"])):
        found = (await world.call("GET", f"/v1/users/{user}")).json
        assert [message["id"] for message in found["messages"]] == [sent]
        assert [claim["campaign"] for claim in found["claims"]] == campaigns


@with_ingress(shards=3)
async def test_who_had_a_number_is_forgotten_and_its_next_user_is_not(world: World) -> None:
    first, second = await changed_hands(world)
    manager = await key_of(world, "shop", "send", "manage")
    told = (await world.call("DELETE", USER, key=manager)).json
    assert told == {"messages": 1, "cancelled": 0}
    assert (await world.call("GET", f"/v1/messages/{first}")).json["to"] is None
    kept = (await world.call("GET", f"/v1/messages/{second}")).json
    assert (kept["to"], kept["status"]) == (PHONE, "queued")
    assert (await world.call("GET", "/v1/users/u2")).json["phone"] == PHONE
    again = await world.send(SALE | {"user": "u2", "campaign": "winter"})
    assert again.json["outcome"] == "duplicate"


@with_ingress(shards=3)
async def test_by_its_number_a_person_is_forgotten_wherever_that_stands(world: World) -> None:
    first, second = await changed_hands(world)
    await persons.erase(world.store, await persons.find(world.store, f"p:{PHONE[1:]}", T0), T0)
    for id_ in (first, second):
        assert (await world.call("GET", f"/v1/messages/{id_}")).json["to"] is None
    assert (await world.call("GET", USER)).json["email"] == "anna@shop.example"
    assert (await world.call("GET", "/v1/users/u2")).status == 404
