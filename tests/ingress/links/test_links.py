"""`/v1/links`: links that an app makes for itself, changes, ends and prints."""

from __future__ import annotations

from gateway.store.reactions import links
from gateway.store.reactions.clicks import counts_of
from tests.ingress.links.test_following import BROWSER, code, delivered, follow
from tests.worlds.ingress_world import World, with_ingress

POSTER = {"url": "https://shop.example/autumn?x=осень", "campaign": "autumn", "title": "Poster"}
ENDS = "2026-11-18T12:00:00Z"
JSON = "application/problem+json"


@with_ingress(shards=2)
async def test_a_link_of_its_own_leads_where_it_says_and_counts(world: World) -> None:
    made = await world.call("POST", "/v1/links", POSTER)
    assert made.status == 200
    here = made.json["code"]
    assert made.json["link"].endswith(f"/l/{here}")
    assert len(here) == 8
    target = made.json["target"]
    assert target == "https://shop.example/autumn?x=%D0%BE%D1%81%D0%B5%D0%BD%D1%8C"
    for path in (f"/l/{here}", f"/l/{here}?q=1", f"/l/{here}?q=1&utm=2"):
        assert (await follow(world, path)).headers["location"] == target
    assert (await follow(world, f"/l/{here}", User_Agent="TelegramBot")).status == 302
    await world.app.clicks.drained()
    view = (await world.call("GET", f"/v1/links/{here}", key="shop-key")).json
    assert view | {"link": "", "target": ""} == {
        "code": here,
        "link": "",
        "target": "",
        "title": "Poster",
        "campaign": "autumn",
        "channel": None,
        "message": None,
        "expires_at": None,
        "clicks": 3,
        "clickers": None,
        "qr_clicks": 2,
        "bot_clicks": 1,
        "by_hour": {"2026-11-18T11:00:00.000Z": 3},
        "by_country": {},
        "by_device": {"phone": 3},
        "bots_by_reason": {"previewer": 1},
    }


@with_ingress()
async def test_a_link_is_led_elsewhere_and_ended(world: World) -> None:
    slug = {"slug": "autumn26"}  # looks like a code, and is none
    assert (await world.call("POST", "/v1/links", POSTER | slug)).json["code"] == "autumn26"
    taken = await world.call("POST", "/v1/links", {"url": "https://a.example"} | slug)
    assert (taken.status, taken.json["errors"][0]["pointer"]) == (422, "/slug")
    winter = {"url": "https://shop.example/winter", "expires_at": ENDS}
    changed = await world.call("PATCH", "/v1/links/autumn26", winter)
    assert changed.json["target"] == "https://shop.example/winter"
    assert changed.json["title"] == "Poster"
    assert changed.json["expires_at"] == "2026-11-18T12:00:00.000Z"
    assert (await follow(world, "/l/autumn26")).headers["location"].endswith("/winter")
    world.clock.now_ms += 3_600_000
    assert (await follow(world, "/l/autumn26")).status == 410
    again = await world.call("PATCH", "/v1/links/autumn26", {"expires_at": None, "title": None})
    assert (again.json["expires_at"], again.json["title"]) == (None, None)
    assert (await follow(world, "/l/autumn26")).status == 302
    for passed in ("2020-01-01T00:00:00Z", "1969-01-01T00:00:00Z"):
        ended = await world.call("PATCH", "/v1/links/autumn26", {"expires_at": passed})
        assert ended.status == 200
        assert (await follow(world, "/l/autumn26")).status == 410


@with_ingress(changed={"[prices]\n": '[links]\nbase_url = "https://k.example"\n[prices]\n'})
async def test_what_cannot_be_a_link_is_refused(world: World) -> None:
    for body, pointer in (
        ({"url": "ftp://shop.example"}, "/url"),
        ({"url": "https://127.0.0.1/"}, "/url"),
        ({"url": "https://k.example/AbCdEfGh"}, "/url"),
        (POSTER | {"slug": "a/b"}, "/slug"),
        (POSTER | {"slug": ""}, "/slug"),
        (POSTER | {"campaign": " "}, "/campaign"),
        (POSTER | {"campaign": "a\tb"}, "/campaign"),
        (POSTER | {"campaign": "é" * 129}, "/campaign"),
        (POSTER | {"title": "\x00"}, "/title"),
        (POSTER | {"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        (POSTER | {"more": 1}, "/more"),
    ):
        refused = await world.call("POST", "/v1/links", body)
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, pointer)
    assert (await world.call("POST", "/v1/links", POSTER, key="reader-key")).status == 403


@with_ingress()
async def test_a_links_campaign_is_taken_as_that_of_a_message(world: World) -> None:
    made = await world.call("POST", "/v1/links", POSTER | {"campaign": " " + "e\u0301" * 128})
    assert (made.status, made.json["campaign"]) == (200, "é" * 128)


@with_ingress()
async def test_a_link_is_its_apps_alone_and_a_messages_is_not_to_be_changed(world: World) -> None:
    await world.call("POST", "/v1/links", POSTER | {"slug": "autumn"})
    winter = {"url": "https://shop.example/winter"}
    for method, body in (("GET", b""), ("PATCH", winter)):
        path = "/v1/links/autumn"
        assert (await world.call(method, path, body, key="bank-key")).status == 404
        assert (await world.call(method, "/v1/links/spring", body)).status == 404
    of_message = await code(world, await delivered(world))
    assert (await world.call("PATCH", f"/v1/links/{of_message}", winter)).status == 404
    assert (await follow(world, f"/l/{of_message}")).status == 302
    await world.app.clicks.drained()
    view = (await world.call("GET", f"/v1/links/{of_message}")).json
    assert (view["clicks"], view["clickers"], view["channel"]) == (1, 1, "viber")
    assert view["by_country"] == {"RU": 1}


@with_ingress()
async def test_a_link_may_end_in_a_slash(world: World) -> None:
    await world.call("POST", "/v1/links", POSTER | {"slug": "autumn"})
    of_message = await code(world, await delivered(world))
    for here in ("autumn", of_message):
        assert (await follow(world, f"/l/{here}/")).status == 302
        assert (await follow(world, f"/l/{here}/more/")).status == 404
    assert (await follow(world, f"/before/{of_message}/")).status == 302, "where it stood before"
    for path, kind in (("/l/winter/", "text/html"), ("/autumn/", JSON), ("/l//", JSON)):
        nothing = await follow(world, path)
        assert nothing.status == 404
        assert nothing.headers["content-type"].startswith(kind)


@with_ingress(changed={"[prices]\n": '[links]\nbase_url = "https://k.example"\n[prices]\n'})
async def test_so_it_may_on_a_domain_of_its_own(world: World) -> None:
    await world.call("POST", "/v1/links", POSTER | {"slug": "autumn"})
    for path, status in (("/autumn", 302), ("/autumn/", 302), ("/winter/", 404)):
        assert (await follow(world, path, Host="k.example")).status == status


@with_ingress()
async def test_nobody_takes_over_the_link_of_a_message_by_a_slug(world: World) -> None:
    of_message = await code(world, await delivered(world))
    before = (await follow(world, f"/l/{of_message}")).headers["location"]
    taken = await world.call("POST", "/v1/links", POSTER | {"slug": of_message}, key="bank-key")
    assert (taken.status, taken.json["errors"][0]["pointer"]) == (422, "/slug")
    assert (await follow(world, f"/l/{of_message}")).headers["location"] == before


@with_ingress()
async def test_a_picture_leads_to_the_link_with_its_mark(world: World) -> None:
    await world.call("POST", "/v1/links", POSTER | {"slug": "autumn"})
    svg = await world.call("GET", "/v1/links/autumn/qr.svg")
    assert svg.headers["content-type"] == "image/svg+xml"
    assert b"<svg" in svg.body
    png = await world.call("GET", "/v1/links/autumn/qr.png")
    assert png.headers["content-type"] == "image/png"
    assert png.body.startswith(b"\x89PNG")
    assert (await world.call("GET", "/v1/links/winter/qr.svg")).status == 404


@with_ingress()
async def test_links_that_are_made_at_once_have_codes_of_their_own(world: World) -> None:
    codes = [(await world.call("POST", "/v1/links", POSTER)).json["code"] for _ in range(20)]
    assert len(set(codes)) == 20
    await follow(world, f"/l/{codes[0]}", **BROWSER)
    await world.app.clicks.drained()
    for here, clicks in ((codes[0], 1), (codes[1], 0)):
        link = await links.find(world.store.redis, world.store.links, 1, here)
        assert link is not None
        assert (await counts_of(world.store, link)).clicks == clicks
