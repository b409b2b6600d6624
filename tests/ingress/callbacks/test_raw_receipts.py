"""Receipts as they came: what is kept of a callback, where it is shown, and when it goes."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.ingress.api.callbacks.raw_receipts import with_raw
from gateway.store.installation import api_keys
from gateway.store.keys import keys_of
from gateway.store.messages import raw_receipts
from providers.contract import Receipt
from tests.worlds.ingress_world import SALE, T0, World, with_ingress
from tests.worlds.operator import operator

CALLBACK = "/v1/callbacks/viber?token=tok"
PRICES = "[prices]\n"
KEPT = {PRICES: '[retention]\nraw_receipts = "72h"\n' + PRICES}


def raw(body: Any, *names: str) -> list[Any]:
    """What stands with receipts that bear these names."""
    octets = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = with_raw([Receipt("delivered", ref=name) for name in names], octets)
    return [json.loads(each.raw) if each.raw else None for each in found]


def test_of_a_body_with_several_each_has_its_own() -> None:
    results = [{"messageId": name, "to": f"7916{name}", "status": {"id": 5}} for name in "ab"]
    assert raw({"results": results}, "a", "b") == results
    assert raw(results, "b", "a") == [results[1], results[0]]
    nested = {"users": [{"id": 1, "events": [{"data": {"job": "a"}}, {"data": {"job": "b"}}]}]}
    assert raw(nested, "b", "a") == [{"data": {"job": "b"}}, {"data": {"job": "a"}}]


def test_one_that_stands_alone_has_the_whole_body() -> None:
    body = {"event": "delivered", "message": {"id": "a"}}
    assert raw(body, "a") == [body]
    assert raw({"Message": json.dumps(body)}, "a") == [{"Message": body}]
    form = urlencode({"MessageSid": "a", "MessageStatus": "delivered"}).encode()
    assert raw(form, "a") == [{"MessageSid": "a", "MessageStatus": "delivered"}]


def test_what_cannot_be_told_from_others_is_not_kept() -> None:
    assert raw({"Message": '[{"id":"a"},{"id":"b"}]'}, "a", "b") == [None, None]


def test_secrets_texts_and_queries_are_out() -> None:
    body = {
        "id": "a",
        "signature": {"timestamp": 1, "token": "t0ken"},
        "api_key": "k",
        "sign": "s",
        "Text": "Your code is 1234",
        "url": "https://shop.example/x?who=me",
        "tags": [{"authToken": "x"}],
    }
    (told,) = raw(body, "a")
    assert told == {
        "id": "a",
        "signature": "***",
        "api_key": "***",
        "sign": "***",
        "Text": "***",
        "url": "https://shop.example/x?***",
        "tags": [{"authToken": "***"}],
    }


def test_they_are_out_of_a_document_within_a_text_too() -> None:
    inside = {"id": "a", "headers": {"subject": "Your code is 1234"}}
    (told,) = raw({"Message": json.dumps(inside), "other": "{broken"}, "a")
    assert told == {"Message": {"id": "a", "headers": {"subject": "***"}}, "other": "***"}


def test_a_body_that_is_very_deep_is_no_fault() -> None:
    deep = b'{"id": "a", "rest": ' + b"[" * 500 + b"]" * 500 + b"}"
    assert raw(deep, "a")[0]["id"] == "a"
    assert raw(b"[" * 100_000, "a") == [{}]


async def report(world: World, id_: str, status: str = "DELIVERED", **more: Any) -> None:
    result = {
        "messageId": f"{id_}.0",
        "to": "79161234567",
        "status": {"groupId": 3, "name": status},
    }
    answer = await world.call("POST", CALLBACK, {"results": [result | more]})
    assert answer.status == 200, answer.body


@with_ingress(changed=KEPT, shards=3)
async def test_a_messages_page_has_its_receipts_until_the_person_is_erased(world: World) -> None:
    by = await operator(world)
    id_ = (await world.send(SALE | {"user": "u-1"})).json["id"]
    await world.hand_over(id_)
    await report(world, id_, token="t0ken")
    page = (await by.get(f"/console/messages/{id_}")).body.decode()
    assert "79161234567" in page.partition("Receipts as they came")[2].partition("</section>")[0]
    assert "t0ken" not in page
    (kept,) = await raw_receipts.read(world.store, id_)
    assert (kept.provider, kept.status) == ("viber", "delivered")
    key = await api_keys.create(world.redis, "shop", ("send", "manage"), T0, by="ann@here")
    assert (await world.call("DELETE", "/v1/users/u-1", key=key)).status == 200
    assert await raw_receipts.read(world.store, id_) == []
    await report(world, id_, "DELIVERED")
    assert await raw_receipts.read(world.store, id_) == [], "there is nobody any more"


@with_ingress(changed=KEPT)
async def test_they_are_few_short_and_lapse(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_receipts, "RECEIPTS_MAX", 2)
    id_ = (await world.send(SALE)).json["id"]
    await world.hand_over(id_)
    for number in range(3):
        await report(world, id_, n=number, long="я" * 3_000)
    kept = await raw_receipts.read(world.store, id_)
    assert len(kept) == 2
    assert all(len(each.text.encode()) <= raw_receipts.BYTES_MAX for each in kept)
    (left,) = await world.redis.call([("PTTL", keys_of(0).raw_receipts(id_))])
    assert isinstance(left, int)
    assert 0 < left <= 72 * 3_600_000


@with_ingress(changed=KEPT)
async def test_of_a_message_that_there_is_not_none_is_kept_but_with_what_waits(
    world: World,
) -> None:
    by = await operator(world)
    unknown = world.store.new_message_id("79161234567", world.clock.now_ms)
    await report(world, unknown, network="25001")
    assert await raw_receipts.read(world.store, unknown) == []
    assert "25001" in (await by.get("/console/leftovers")).body.decode()


@with_ingress()
async def test_by_default_nothing_is_kept(world: World) -> None:
    by = await operator(world)
    id_ = (await world.send(SALE)).json["id"]
    await world.hand_over(id_)
    await report(world, id_)
    assert await raw_receipts.read(world.store, id_) == []
    assert "None are kept" in (await by.get(f"/console/messages/{id_}")).body.decode()
