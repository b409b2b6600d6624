"""`GET /l/{code}`: people are sent to what is kept, and counted behind the answer, once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.core.links.link_codes import code_of
from gateway.core.money.days import HOUR_MS
from gateway.core.reactions.clickers import Visitor
from gateway.ingress.archived import ArchivedMessages
from gateway.ingress.clicks import ClickRecorder
from gateway.ingress.http.problems import refuse
from gateway.ingress.misses import MISSES_MAX, Misses
from gateway.store.messages import reads
from gateway.store.reactions import clicks, links
from gateway.store.reactions.links import Link
from tests.worlds.ingress_world import OTP, PHONE, SALE, T0, Answer, World, with_ingress

TARGET = "https://shop.example/sale?x=1"
TRACKED = SALE | {"text": f"Sale! {TARGET}", "links": "track"}
PHONE_UA = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E"
BROWSER = {"User-Agent": PHONE_UA, "Accept-Language": "ru"}
BASE = {"[prices]\n": '[links]\nbase_url = "https://k.example"\nttl = "1d"\n[prices]\n'}
UTM = {
    "[prices]\n": '[links]\nutm = { utm_source = "{app}", utm_medium = "{channel}", '
    'utm_campaign = "{campaign}", x = "no" }\n[prices]\n'
}


async def delivered(world: World, **changes: Any) -> str:
    """A tracked message whose first step arrived."""
    id_: str = (await world.send(TRACKED | changes)).json["id"]
    await world.deliver(id_)
    return id_


async def code(world: World, id_: str, step: int = 0) -> str:
    message = await reads.message(world.store, id_)
    assert message is not None
    assert message.links is not None
    key = await world.store.links.key(world.store.redis)
    return code_of(message.links.numbers_of(step)[0], key)


async def last_code(world: World, id_: str) -> str:
    message = await reads.message(world.store, id_)
    assert message is not None
    assert message.links is not None
    return code_of(message.links.numbers_of(0)[-1], await world.store.links.key(world.store.redis))


async def follow(world: World, path: str, method: str = "GET", **headers: str) -> Answer:
    told = BROWSER | {name.replace("_", "-"): value for name, value in headers.items()}
    return await world.call(method, path, headers=told, key="")


async def counted(world: World, code: str) -> tuple[int, int, int]:
    """Clicks of people, of these by QR, and of programs, once all are recorded."""
    await world.app.clicks.drained()
    link = await links.find(world.store.redis, world.store.links, 1, code)
    assert link is not None
    found = await clicks.counts_of(world.store, link)
    return found.clicks, found.qr, found.bots


@with_ingress()
async def test_who_follows_a_link_is_sent_on_and_has_reacted(world: World) -> None:
    id_ = await delivered(world)
    answer = await follow(world, f"/l/{await code(world, id_)}?fbclid=1&url=https://evil.example")
    assert answer.status == 302
    assert answer.headers["location"] == TARGET
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.body == b""
    assert await counted(world, await code(world, id_)) == (1, 0, 0)
    message = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert (message["status"], message["reaction"], message["final"]) == (
        "clicked",
        "clicked",
        True,
    )
    assert message["steps"][1]["error"]["code"] in ("delivered", "reacted")


@with_ingress()
async def test_where_there_is_an_archive_clicks_are_listed_for_it(world: World) -> None:
    world.store.retention = replace(world.store.retention, archives=True)
    id_ = await delivered(world)
    here = await code(world, id_)
    await follow(world, f"/l/{here}")
    await follow(world, f"/l/{here}", User_Agent="ViberUrlDownloader")
    await world.app.clicks.drained()
    listed = await clicks.listed(world.store.redis, 0, (0, 0), (10**15, 0))
    told = [(c.link, c.message, c.channel, c.who, c.clicks) for _, items in listed for c in items]
    assert sorted(told) == [
        (here, id_, "viber", "person", 1),
        (here, id_, "viber", "previewer", 1),
    ]


@with_ingress()
async def test_a_storm_on_one_link_counts_each_and_reacts_once(world: World) -> None:
    id_ = await delivered(world)
    here = await code(world, id_)
    answers = await asyncio.gather(*(follow(world, f"/l/{here}") for _ in range(200)))
    assert {answer.status for answer in answers} == {302}
    assert await counted(world, here) == (200, 0, 0)
    total = (await world.call("GET", "/v1/reports/cost", key="finance-key")).json["total"]
    assert total["clicked"] == 1


@with_ingress()
async def test_head_counts_nothing_and_other_methods_are_none(world: World) -> None:
    id_ = await delivered(world)
    path = f"/l/{await code(world, id_)}"
    head = await follow(world, path, "HEAD")
    assert (head.status, head.headers["location"], head.body) == (302, TARGET, b"")
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        refused = await follow(world, path, method)
        assert refused.status == 405
        assert refused.headers["allow"] == "GET, HEAD"
    assert await counted(world, path[3:]) == (0, 0, 0)
    message = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert message["reaction"] is None


@with_ingress()
async def test_programs_are_kept_apart_and_are_no_reaction(world: World) -> None:
    id_ = await delivered(world)
    here = await code(world, id_)
    for headers in (
        {"User_Agent": "ViberUrlDownloader"},
        {"User_Agent": "WhatsApp/2.23"},
        {"User_Agent": ""},
        {"Sec_Purpose": "prefetch;prerender"},
    ):
        assert (await follow(world, f"/l/{here}", **headers)).status == 302
    assert await counted(world, here) == (0, 0, 4)
    message = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert message["reaction"] is None
    link = await links.find(world.store.redis, world.store.links, 1, here)
    assert link is not None
    found = await clicks.counts_of(world.store, link)
    assert found.by_reason == {"previewer": 2, "no_user_agent": 1, "prefetch": 1}
    query = "group_by=channel,provider"
    report = (await world.call("GET", f"/v1/reports/cost?{query}", key="finance-key")).json
    assert [(r["provider"], r["bot_clicks"]) for r in report["rows"]] == [("viber", 4)]
    assert (report["total"]["clicked"], report["total"]["bot_clicks"]) == (0, 4)


async def forget_links(world: World) -> None:
    """Their time is over."""
    names = [
        name
        for (reply,) in [await world.store.redis.call([("KEYS", "*}l:*")])]
        if isinstance(reply, list)
        for name in reply
    ]
    await world.store.redis.call([("DEL", name) for name in names])


@with_ingress()
async def test_a_link_that_leads_nowhere_has_a_page_for_people(world: World) -> None:
    id_ = await delivered(world)
    here = await code(world, id_)
    for path in ("/l/AAAAAAAA", "/l/spring", "/l/%D0%B0", "/l/x' OR 1"):
        unknown = await follow(world, path, Accept_Language="en")
        assert unknown.status == 404
        assert unknown.headers["content-type"].startswith("text/html")
        assert "This link leads nowhere" in unknown.body.decode()
    await forget_links(world)
    gone = await follow(world, f"/l/{here}")
    assert gone.status == 410
    assert "истёк" in gone.body.decode()


@with_ingress()
async def test_who_guesses_has_to_wait(world: World) -> None:
    id_ = await delivered(world)
    here = await code(world, id_)
    for number in range(MISSES_MAX):
        assert (await follow(world, f"/l/guess-{number}")).status == 404
    waits = await follow(world, f"/l/{here}")
    assert (waits.status, waits.headers["retry-after"]) == (429, "60")
    world.clock.now_ms += 60_000
    assert (await follow(world, f"/l/{here}")).status == 302


@with_ingress()
async def test_who_guesses_behind_a_proxy_that_nobody_named_keeps_no_other_waiting(
    world: World,
) -> None:
    id_ = await delivered(world)
    here = await code(world, id_)
    for number in range(MISSES_MAX):
        guess = await follow(world, f"/l/guess-{number}", X_Forwarded_For=f"{number}, 192.0.2.1")
        assert guess.status == 404
    path = f"/l/{here}"
    assert (await follow(world, path, X_Forwarded_For="9, 192.0.2.1")).status == 429
    assert (await follow(world, path, X_Forwarded_For="192.0.2.2")).status == 302
    assert (await follow(world, path)).status == 302


@with_ingress()
async def test_who_invents_whom_it_asks_for_is_bounded_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = Misses.note

    def note_much(misses: Misses, peer: str) -> None:
        for _ in range(misses._most // 5):
            note(misses, peer)

    monkeypatch.setattr(Misses, "note", note_much)
    here = await code(world, await delivered(world))
    for number in range(5):
        guess = await follow(world, f"/l/guess-{number}", X_Forwarded_For=f"192.0.2.{number}")
        assert guess.status == 404
    assert (await follow(world, f"/l/{here}", X_Forwarded_For="192.0.2.99")).status == 429


@with_ingress()
async def test_who_follows_links_that_lapsed_guesses_nothing(world: World) -> None:
    id_ = await delivered(world)
    here = await code(world, id_)
    await forget_links(world)
    for _ in range(MISSES_MAX + 1):
        assert (await follow(world, f"/l/{here}")).status == 410


@with_ingress()
async def test_while_redis_is_away_a_page_says_so(world: World) -> None:
    id_ = await delivered(world)
    here = await code(world, id_)
    world.redis.away = True
    away = await follow(world, f"/l/{here}")
    assert away.status == 503
    assert int(away.headers["retry-after"]) > 0
    assert "<h1>" in away.body.decode()


@with_ingress()
async def test_clicks_wait_while_redis_is_away_and_count_once(world: World) -> None:
    id_ = await delivered(world)
    here = await code(world, id_)
    for _ in range(3):
        assert (await follow(world, f"/l/{here}")).status == 302
    world.redis.away = True
    draining = asyncio.ensure_future(world.app.clicks.drained())
    await world.redis.refused.wait()
    world.redis.away = False
    await draining
    assert await counted(world, here) == (3, 0, 0)


@with_ingress()
async def test_what_was_taken_is_recorded_before_the_worker_ends(world: World) -> None:
    id_ = await delivered(world)
    here = await code(world, id_)
    for _ in range(50):
        assert (await follow(world, f"/l/{here}")).status == 302
    world.app.stop()
    await world.app.drained()
    link = await links.find(world.store.redis, world.store.links, 1, here)
    assert link is not None
    assert (await clicks.counts_of(world.store, link)).clicks == 50


@with_ingress()
async def test_clicks_that_redis_takes_from_no_worker_that_ends_are_told_as_lost(
    world: World,
) -> None:
    here = await code(world, await delivered(world))
    for _ in range(3):
        assert (await follow(world, f"/l/{here}")).status == 302
    world.redis.away = True
    with capture_logs() as logs:
        await world.app.clicks.drained(0)
    assert [log["clicks"] for log in logs if log["event"] == "clicks_lost"] == [3]
    (metric,) = world.app.metrics.clicks.lost.collect()
    assert metric.samples[0].value == 3


@with_ingress()
async def test_while_the_archive_is_away_clicks_count_and_nothing_is_told_as_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreadable(_: object) -> None:
        raise refuse("unavailable", "The archive cannot be read now: ask again later.")

    here = await code(world, await delivered(world))
    monkeypatch.setattr(world.app._messages, "bring_back", unreadable)
    with capture_logs() as logs:
        assert (await follow(world, f"/l/{here}")).status == 302
        await world.app.clicks.drained()
    assert await counted(world, here) == (1, 0, 0)
    assert [log for log in logs if log["log_level"] == "error"] == []


@with_ingress()
async def test_more_clicks_than_can_wait_are_lost_and_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.ingress.clicks.WAITING_MAX", 2)
    messages = ArchivedMessages(world.store, world.app.archived)
    recorder = ClickRecorder(world.store, messages, world.app.metrics.clicks, world.clock)
    id_ = await delivered(world)
    link = await links.find(world.store.redis, world.store.links, 1, await code(world, id_))
    assert link is not None
    for hour in range(5):
        for _ in range(2):  # who is like one that waits costs nothing
            recorder.note(a_click(link, world.clock.now_ms + hour * HOUR_MS))
    (metric,) = world.app.metrics.clicks.lost.collect()
    assert metric.samples[0].value == 6


@pytest.mark.parametrize(("unmarked", "one"), [(False, True), (True, False)])
def test_clicks_are_one_number_unless_the_moment_says_who_it_was(unmarked: bool, one: bool) -> None:
    link, visitor = Link("AAAAAAAA", "shop", TARGET, message="m"), Visitor(None, unmarked)
    first, then = (clicks.Click(link, T0 + ms, visitor, "phone") for ms in (0, 1))
    assert (first.sort == then.sort) is one


def a_click(link: Link, at_ms: int) -> clicks.Click:
    return clicks.Click(link, at_ms, Visitor(None), "phone")


@with_ingress(changed=UTM)
async def test_parameters_are_added_when_the_link_is_followed(world: World) -> None:
    id_ = await delivered(world, text="See https://shop.example/?utm_medium=mine#top")
    answer = await follow(world, f"/l/{await code(world, id_)}")
    assert answer.headers["location"] == (
        "https://shop.example/?utm_medium=mine&utm_source=shop&utm_campaign=autumn&x=no#top"
    )


@with_ingress(changed=BASE)
async def test_a_domain_of_its_own_has_links_and_nothing_else(world: World) -> None:
    id_ = await delivered(world)
    here = await code(world, id_)
    assert (await follow(world, f"/{here}", Host="k.example")).status == 302
    assert (await follow(world, f"/{here}", Host="K.EXAMPLE")).status == 302
    assert (await follow(world, "/healthz", Host="k.example")).status == 404
    assert (await follow(world, "/v1/messages", Host="k.example")).status == 404
    assert (await world.call("GET", "/healthz")).status == 200
    assert (await follow(world, f"/l/{here}")).status == 302, "as it stood before"
    assert (await follow(world, f"/was/here/{here}", Host="old.example")).status == 302
    assert (await follow(world, f"/v1/{here}")).status == 404
    assert await counted(world, here) == (4, 0, 0)


@with_ingress(changed={"[prices]\n": '[links]\nbase_url = "https://k.example/new"\n[prices]\n'})
async def test_links_go_on_where_their_domain_has_another_path_now(world: World) -> None:
    here = await code(world, await delivered(world))
    await world.call("POST", "/v1/links", {"url": TARGET, "slug": "poster"})
    for path in ("/new", "", "/r", "/r/s", "/l"):
        assert (await follow(world, f"{path}/{here}", Host="k.example")).status == 302
        assert (await follow(world, f"{path}/{here}/", Host="k.example")).status == 302
        assert (await follow(world, f"{path}/poster", Host="k.example")).status == 302
    for nothing in ("/", "/r/", "/favicon.ico", "/healthz", "/v1/messages", f"/r/{here}/x"):
        assert (await follow(world, nothing, Host="k.example")).status == 404


async def asked_where_they_were(world: World) -> None:
    """What stands beside links, of a `base_url` that was such as https://k.example/shop/l."""
    for host in ("k.example", "127.0.0.1"):
        for path in ("/shop/u/", "/a/shop/u/", "/u/"):
            page = await follow(world, f"{path}{'A' * 22}", Host=host)
            assert (page.status, page.headers["content-type"][:9]) == (200, "text/html")
            assert (await follow(world, f"{path}{'A' * 22}", "POST", Host=host)).status == 200
        picture = await follow(world, f"/shop/o/{'A' * 22}.gif", Host=host)
        assert (picture.status, picture.headers["content-type"]) == (200, "image/gif")


@with_ingress(changed=BASE)
async def test_unsubscribing_goes_on_where_its_path_was_longer(world: World) -> None:
    await asked_where_they_were(world)


@with_ingress(changed={"[prices]\n": '[links]\nbase_url = "https://k.example/new"\n[prices]\n'})
async def test_so_it_does_where_links_have_a_path_still(world: World) -> None:
    await asked_where_they_were(world)


@with_ingress()
async def test_so_it_does_where_links_stand_beside_the_api(world: World) -> None:
    await asked_where_they_were(world)


@with_ingress()
async def test_a_code_is_never_tracked_and_off_is_off(world: World) -> None:
    for message in (
        OTP | {"text": f"Code 1 {TARGET}", "links": "track"},
        TRACKED | {"links": "off", "campaign": "spring"},
        SALE | {"text": f"Sale! {TARGET}", "campaign": "winter"},
    ):
        id_ = (await world.send(message)).json["id"]
        found = await reads.message(world.store, id_)
        assert found is not None
        assert found.links is None


@with_ingress(changed={"[prices]\n": '[links]\nhosts = ["shop.example"]\n[prices]\n'})
async def test_a_url_of_another_host_is_refused_where_it_stands(world: World) -> None:
    viber = {"button": {"caption": "x", "url": "https://evil.example/"}}
    answer = await world.send(TRACKED | {"text": "See https://evil.example/a", "viber": viber})
    assert answer.status == 422
    assert [error["pointer"] for error in answer.json["errors"]] == [
        "/text",
        "/viber/button/url",
    ]
    assert (await world.send(TRACKED)).status == 202
    free = TRACKED | {"text": "https://evil.example", "links": "off", "campaign": "free"}
    assert (await world.send(free)).status == 202


@with_ingress(changed=BASE)
async def test_a_dry_run_counts_parts_with_links(world: World) -> None:
    text = "Sale! https://shop.example/" + "a" * 200
    message = {"to": PHONE, "category": "transactional", "text": text, "route": "sms-only"}
    parts = {}
    for links_ in ("track", "off"):
        told = await world.call("POST", "/v1/messages?dry_run=true", message | {"links": links_})
        (step,) = told.json["explain"]["plan"]
        parts[links_] = step["parts"]
    assert parts == {"track": 1, "off": 2}
    message |= {"text": "Sale! http://a.example " + "b" * 135, "links": "track"}
    told = await world.call("POST", "/v1/messages?dry_run=true", message)
    (step,) = told.json["explain"]["plan"]
    assert step["parts"] == 2
    assert step["detail"] == "2 parts with its links, 1 without"


async def all_in_redis(world: World) -> bytes:
    """What stands under every key, as it is."""
    keys = await world.store.redis.call([("KEYS", "*")])
    assert isinstance(keys[0], list)
    dumps = await world.store.redis.call([("DUMP", key) for key in keys[0]])
    return b"".join(each for each in dumps if isinstance(each, bytes))


@with_ingress()
async def test_where_a_link_of_nobody_else_led_goes_with_its_person(world: World) -> None:
    """The address may name the person, as that of an order's page does; it is part of the text."""
    steps = 17  # more than stand in one place
    own = " ".join(f"https://shop.example/of-ann/{number}" for number in range(steps))
    id_ = await delivered(world, text=own, user="ann")
    first, last = await code(world, id_), await last_code(world, id_)
    others = [await delivered(world, to=f"+7916555000{n}", user=f"u{n}") for n in range(6)]
    shared = await code(world, others[-1])
    assert (await follow(world, f"/l/{last}")).status == 302
    assert b"of-ann" in await all_in_redis(world)
    for user in ("ann", "u5"):
        answer = await world.call("DELETE", f"/v1/users/{user}")
        assert answer.status == 200
    assert b"of-ann" not in await all_in_redis(world)
    for gone in (first, last):
        assert (await follow(world, f"/l/{gone}")).status == 410
    assert (await follow(world, f"/l/{shared}")).status == 302  # it names nobody
