"""`GET /o/{code}.gif`: always the picture; a person's opening is a reaction, a program's is not."""

from __future__ import annotations

from typing import Any

from gateway.core.reactions.clickers import MAIL_SOON_MS
from gateway.core.reactions.opens import Opened, code_of
from gateway.ingress.api.links.opening import PICTURE
from tests.core.test_clickers import GMAIL_PROXY
from tests.worlds.ingress_world import T0, Answer, World, with_ingress

BY_MAIL = {
    "[routes.both]": '[providers.mail]\nkind = "smtp"\nhost = "127.0.0.1"\nport = 1\ntls = "none"\n'
    'from = "news@shop.example"\n[routes.mail]\n'
    'steps = [{ provider = "mail", wait = "2h" }]\n[routes.both]'
}
MAIL = {
    "to": {"email": "ann@shop.example"},
    "category": "marketing",
    "campaign": "autumn",
    "route": "mail",
    "text": "Sale!",
    "email": {"subject": "Sale", "html": '<a href="https://shop.example/sale">Sale</a>'},
    "links": "track",
}


async def sent(world: World) -> str:
    answer = await world.send(MAIL)
    id_: str = answer.json["id"]
    await world.hand_over(id_)
    world.clock.now_ms = T0 + MAIL_SOON_MS
    return id_


async def open_mail(world: World, id_: str, user_agent: str = GMAIL_PROXY, **more: Any) -> Answer:
    code = code_of(Opened(id_, 0), await world.store.links.key(world.store.redis))
    return await fetch(world, code, user_agent, **more)


async def fetch(world: World, code: str, user_agent: str, method: str = "GET") -> Answer:
    answer = await world.call(method, f"/o/{code}.gif", headers={"user-agent": user_agent}, key="")
    await world.app.clicks.drained()
    return answer


async def reaction(world: World, id_: str) -> Any:
    return (await world.call("GET", f"/v1/messages/{id_}")).json["reaction"]


@with_ingress(changed=BY_MAIL, shards=2)
async def test_a_persons_opening_is_seen_also_through_a_proxy(world: World) -> None:
    id_ = await sent(world)
    answer = await open_mail(world, id_)
    assert (answer.status, answer.headers["content-type"]) == (200, "image/gif")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body == PICTURE
    assert await reaction(world, id_) == "seen"


@with_ingress(changed=BY_MAIL)
async def test_programs_and_apples_proxy_open_nothing(world: World) -> None:
    id_ = await sent(world)
    for user_agent in ("Mozilla/5.0", "Barracuda Sentinel (EE)", "curl/8.5.0", ""):
        assert (await open_mail(world, id_, user_agent)).body == PICTURE
    assert (await open_mail(world, id_, method="HEAD")).status == 200
    world.clock.now_ms = T0 + MAIL_SOON_MS - 1
    await open_mail(world, id_)
    assert await reaction(world, id_) is None


@with_ingress(changed=BY_MAIL)
async def test_it_is_a_picture_whatever_is_asked_and_while_redis_is_away(world: World) -> None:
    id_ = await sent(world)
    nobodys = code_of(Opened(world.store.new_message_id("1", T0), 0), b"k" * 32)
    for code in ("x", "A" * 22, nobodys):
        assert (await fetch(world, code, GMAIL_PROXY)).body == PICTURE
    world.redis.away = True
    code = code_of(Opened(id_, 0), b"k" * 32)
    answer = await world.call("GET", f"/o/{code}.gif", key="")
    assert (answer.status, answer.body) == (200, PICTURE)
    world.redis.away = False
