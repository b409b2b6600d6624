"""`/u/{code}`: one click opts out, a page is only looked at, and nobody learns which codes are."""

from __future__ import annotations

from typing import Any

from gateway.core.people.unsubscribing import code_for
from gateway.core.records.unsubscriber import Unsubscriber
from gateway.store.people import unsubscribing
from tests.worlds.ingress_world import SALE, World, with_ingress

MAIL = Unsubscriber("email", "ann@shop.example")
PHONE = Unsubscriber("sms", "79161234567")
ONE_CLICK = b"List-Unsubscribe=One-Click"
FORM = {"content-type": "application/x-www-form-urlencoded"}
NOBODYS = "A" * 22


async def code_of(world: World, who: Unsubscriber) -> str:
    code = code_for(who, await world.store.links.key(world.store.redis))
    await unsubscribing.keep(world.store, {code: who})
    return code


async def call(world: World, method: str, code: str, body: bytes = b"", **headers: str) -> Any:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return await world.call(method, f"/u/{code}", body, told, key="")


async def opt_out(world: World, address: str) -> Any:
    return (await world.call("GET", f"/v1/optouts/{address}")).json


@with_ingress(shards=3)
async def test_one_click_opts_out_of_marketing_on_that_channel(world: World) -> None:
    code = await code_of(world, MAIL)
    answer = await call(world, "POST", code, ONE_CLICK, **FORM)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"You are unsubscribed" in answer.body
    kept = (await opt_out(world, MAIL.address))["channels"]["email"]
    told = (kept["scope"], kept["by"], kept["reason"])
    assert told == ("marketing", "person", "unsubscribe_link")


@with_ingress()
async def test_it_may_come_as_multipart_or_as_nothing(world: World) -> None:
    for who, kind, body in (
        (MAIL, "multipart/form-data; boundary=x", b"--x\r\n\r\n" + ONE_CLICK + b"\r\n--x--"),
        (PHONE, "", b""),
    ):
        code = await code_of(world, who)
        headers = {"content-type": kind} if kind else {}
        assert (await call(world, "POST", code, body, **headers)).status == 200
        address = who.address if "@" in who.address else "+" + who.address
        assert who.channel in (await opt_out(world, address))["channels"]


@with_ingress()
async def test_looking_changes_nothing(world: World) -> None:
    code = await code_of(world, MAIL)
    for method in ("GET", "HEAD"):
        answer = await call(world, method, f"{code}?choice=all")
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"
    assert (await world.call("GET", f"/v1/optouts/{MAIL.address}")).status == 404
    assert (await call(world, "PUT", code)).status == 405


@with_ingress()
async def test_a_code_that_nobody_has_is_answered_alike(world: World) -> None:
    code = await code_of(world, MAIL)
    for method in ("GET", "POST"):
        there, not_there = [await call(world, method, each) for each in (code, NOBODYS)]
        no_code = await call(world, method, "x")
        assert there.status == not_there.status == no_code.status == 200
        assert there.body == not_there.body == no_code.body


@with_ingress()
async def test_the_page_shows_what_is_stopped_and_can_change_it(world: World) -> None:
    code = await code_of(world, PHONE)
    await call(world, "POST", code, b"choice=all", **FORM)
    page = (await call(world, "GET", code)).body
    assert b"no more advertising from us" in page
    assert b'value="none"' in page
    assert (await world.send(SALE)).json["reason"] == "opted_out"
    back = await call(world, "POST", code, b"choice=none", **FORM)
    assert b"Do you want no more of it?" in back.body
    assert (await world.send(SALE)).json["outcome"] == "accepted"
    ours = await call(world, "GET", code, accept_language="ru-RU,ru;q=0.9")
    assert "Рекламные сообщения".encode() in ours.body


@with_ingress()
async def test_while_redis_is_away_the_page_is_shown_and_nothing_is_promised(world: World) -> None:
    code = await code_of(world, MAIL)
    world.redis.away = True
    assert (await call(world, "GET", code)).status == 200
    answer = await call(world, "POST", code, ONE_CLICK, **FORM)
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    assert b"unsubscribed" not in answer.body
    world.redis.away = False
    assert (await call(world, "POST", code, ONE_CLICK, **FORM)).status == 200


@with_ingress()
async def test_the_code_of_who_was_erased_is_nobodys(world: World) -> None:
    code = await code_of(world, MAIL)
    await unsubscribing.forget(world.store, [MAIL.address])
    await call(world, "POST", code, ONE_CLICK, **FORM)
    assert (await world.call("GET", f"/v1/optouts/{MAIL.address}")).status == 404
