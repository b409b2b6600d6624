"""The console: who may open it, what its pages show, and that what is done there is a call of the
API by that key."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from typing import Any

import pytest

from gateway.ingress.console import endpoints
from gateway.ingress.console.actions import ACTIONS
from gateway.ingress.pages.console import MENU
from gateway.store.installation import api_keys, drains
from gateway.store.installation.api_keys import SCOPES, Scope
from gateway.store.keys import keys_of
from gateway.store.people import opt_outs
from gateway.store.providers import pauses, temporary_rates
from tests.ingress.operators.test_ops import SHARED_SMS, tell
from tests.worlds.ingress_world import OTP, PHONE, SALE, T0, World, settings, with_ingress
from tests.worlds.operator import Operator, operator

ALL = tuple(SCOPES)
CLICKED = {"to": PHONE, "text": "Hi", "route": "sms-only"}


async def deeds(by: Operator) -> list[str]:
    page = (await by.get("/console/audit")).body.decode()
    return re.findall(
        r"<td>((?:provider|campaign|drain|optout|person|message)\.[a-z.]+)</td>", page
    )


@pytest.mark.parametrize("name", MENU)
@with_ingress()
async def test_a_page_needs_a_key_that_operates_and_uses_nothing_from_elsewhere(
    world: World, name: str
) -> None:
    path = "/console" if name == "now" else f"/console/{name}"
    for headers in ({}, (await operator(world, "send", "read", "manage")).headers):
        refused = await world.call("GET", path, headers=headers, key="")
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith('Basic realm="Kaskad"')
        assert b"the scope operate" in refused.body
    page = await (await operator(world)).get(path)
    assert page.status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["cache-control"] == "no-store"
    assert not re.search(rb"(src|href)=\"(https?:)?//", page.body)
    assert f"<h1>{MENU[name]}</h1>".encode() in page.body


@with_ingress(server="admin_port = 9")
async def test_it_is_on_the_admin_port_alone_where_there_is_one(world: World) -> None:
    assert (await (await operator(world)).get("/console")).status == 404
    assert settings("admin_port = 9").server.admin_port == 9


@with_ingress()
async def test_what_waits_and_what_is_to_be_looked_at_stands_first(world: World) -> None:
    by = await operator(world)
    assert (await world.send(OTP)).status == 202
    await world.app.backlog.sample()
    await pauses.hold(world.redis, "viber", "maintenance", "ann", T0)
    page = (await by.get("/console")).body.decode()
    assert re.search(r'id="waiting">1<', page)
    assert "viber is paused by ann" in page
    assert "No dispatcher runs" in page


@with_ingress()
async def test_a_second_look_tells_how_many_a_second(world: World) -> None:
    by = await operator(world)
    await world.app.publish()
    assert re.search(r'id="accepted">–<', (await by.get("/console")).body.decode())
    for _ in range(4):
        world.clock.now_ms += 500
        assert (await world.send(OTP)).status == 202
    await world.app.publish()
    assert re.search(r'id="accepted">2\.0<', (await by.get("/console")).body.decode())


@with_ingress()
async def test_callbacks_that_are_refused_meanwhile_are_to_be_looked_at(world: World) -> None:
    by = await operator(world)
    for again in (False, True):
        refused = await world.call("POST", "/v1/callbacks/viber?token=other", b"{}")
        assert refused.status == 401
        await world.app.publish()
        page = (await by.get("/console")).body.decode()
        assert ("1 callbacks of viber were refused lately" in page) is again
        world.clock.now_ms += 1_000


@with_ingress()
async def test_a_provider_is_paused_by_its_name_and_resumed(world: World) -> None:
    by = await operator(world)
    page = "/console/providers/sms"
    refused = await by.act(page, "pause", reason="maintenance", confirm="viber")
    assert refused.status == 400
    assert "Nothing was done" in refused.body.decode()
    assert await pauses.read(world.redis) == {}
    done = await by.act(page, "pause", reason="maintenance", confirm="sms")
    assert done.status == 200
    text = done.body.decode()
    assert "curl -X POST" in text
    assert "/v1/ops/providers/sms/pause" in text
    assert (await pauses.read(world.redis))["sms"].detail == "maintenance"
    await by.act(page, "resume", reason="")
    assert await pauses.read(world.redis) == {}
    assert await deeds(by) == ["provider.resume", "provider.pause"]


@with_ingress(changed=SHARED_SMS)
async def test_shares_of_a_channel_are_shown_where_there_are_such(world: World) -> None:
    by = await operator(world)
    await tell(world, "dispatch-a-1", handed_over_recently=4)

    async def rows(page: str) -> list[list[str]]:
        shown = (await by.get(page)).body.decode()
        table = re.search(r'<table id="shares">.*?</table>', shown, re.DOTALL)
        found = re.findall(r"<tr>(.*?)</tr>", table[0], re.DOTALL) if table else []
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in found[1:]]
        return [[re.sub("<.*?>", "", cell) for cell in row] for row in cells]

    assert await rows("/console/providers") == [
        ["sms", "sms", "70", "70.0 %", "77.8 %", "–", "4"],
        ["sms-2", "sms", "20", "20.0 %", "22.2 %", "–", "0"],
        ["sms-3", "sms", "10", "10.0 %", "0.0 %", "retired", "0"],
        ["sms-4", "sms", "0", "0.0 %", "0.0 %", "–", "0"],
    ]
    await by.act("/console/providers/sms", "pause", reason="maintenance", confirm="sms")
    assert await rows("/console/providers/sms") == [
        ["sms", "sms", "70", "70.0 %", "0.0 %", "operator", "4"]
    ]
    assert await rows("/console/providers/viber") == []


@with_ingress()
async def test_a_rate_for_a_while_and_a_drain_are_set_and_ended(world: World) -> None:
    by = await operator(world)
    page = "/console/providers/sms"
    await by.act(page, "rate", rate="50/s", for_="10m")
    assert (await temporary_rates.read(world.redis, ["sms"], {}))["sms"].rate_per_s == 50
    assert "for a while" in (await by.get("/console/providers")).body.decode()
    await by.act(page, "rate-end")
    assert await temporary_rates.read(world.redis, ["sms"], {}) == {}
    faulty = await by.act(page, "rate", rate="fast", for_="10m")
    assert (faulty.status, "Not done" in faulty.body.decode()) == (422, True)
    await by.act("/console", "drain", reason="move", confirm="everything")
    assert await drains.read(world.redis) is not None
    await by.act("/console", "drain-end")
    assert await drains.read(world.redis) is None


@with_ingress()
async def test_a_test_goes_out_by_a_route_that_begins_with_the_provider(world: World) -> None:
    by = await operator(world, *ALL)
    sent = await by.act("/console/providers/sms", "test-send", **CLICKED)
    assert sent.status == 200
    assert "accepted" in sent.body.decode()


@with_ingress()
async def test_a_test_that_is_clicked_twice_goes_out_once(world: World) -> None:
    by = await operator(world, *ALL)
    page = (await by.get("/console/providers/sms")).body.decode()
    found = re.search(r'<form[^>]*id="act-test-send".*?</form>', page, re.DOTALL)
    assert found is not None
    hidden = dict(re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', found[0]))
    form = hidden | CLICKED
    both = await asyncio.gather(*(by.post("/console/act", form) for _ in range(2)))
    again = await by.post("/console/act", form)
    other = await by.post("/console/act", form | {"text": "Hello"})
    anew = await by.act("/console/providers/sms", "test-send", **CLICKED)
    ids = [
        re.findall(r'"id": "(\w+)"', unescape(each.body.decode()))
        for each in (*both, again, other, anew)
    ]
    assert ids[0] == ids[1] == ids[2] != []
    assert len({str(each) for each in ids}) == 3


@with_ingress()
async def test_a_campaign_with_a_slash_in_its_name_is_reached(world: World) -> None:
    by = await operator(world)
    manage = await _key(world, "manage")
    await world.call("PUT", "/v1/campaigns/2026%2Fautumn", {}, key=manage)
    path = "/console/campaigns/2026%2Fautumn"
    assert f'href="{path}"' in (await by.get("/console/campaigns")).body.decode()
    assert (await by.get(path)).status == 200


@with_ingress()
async def test_a_campaign_is_paused_paced_and_cancelled_with_the_number_it_hits(
    world: World,
) -> None:
    by = await operator(world, *ALL)
    await world.call("PUT", "/v1/campaigns/autumn", {}, key=await _key(world, "manage"))
    assert (await world.send(SALE)).status == 202
    page = "/console/campaigns/autumn"
    assert "Ends 1 messages that are not final" in (await by.get(page)).body.decode()
    await by.act(page, "campaign-pause")
    assert 'state paused">paused' in (await by.get("/console/campaigns")).body.decode()
    await by.act(page, "campaign-pace", pace="600/m")
    await by.act(page, "campaign-resume")
    assert (await by.act(page, "campaign-cancel", confirm="spring")).status == 400
    await by.act(page, "campaign-cancel", confirm="autumn")
    assert 'id="act-' not in (await by.get(page)).body.decode(), "that is for good"


@with_ingress()
async def test_what_a_key_may_not_do_is_shown_and_refused(world: World) -> None:
    await world.call("PUT", "/v1/campaigns/autumn", {}, key=await _key(world, "manage"))
    by = await operator(world)
    page = (await by.get("/console/campaigns/autumn")).body.decode()
    assert "needs a key with the scope <code>manage</code>" in page
    refused = await by.act("/console/campaigns/autumn", "campaign-pause")
    assert refused.status == 403
    assert "`manage`" in refused.body.decode().replace("&#39;", "'")


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"csrf": "0" * 32}, {}),
        ({"csrf": ""}, {}),
        ({}, {"origin": "https://evil.example"}),
        ({}, {"sec_fetch_site": "cross-site"}),
        ({}, {"sec_fetch_site": "same-site"}),
    ],
)
@with_ingress()
async def test_no_other_site_can_have_a_browser_do_something(
    world: World, fields: dict[str, str], headers: dict[str, str]
) -> None:
    by = await operator(world)
    shown = (await by.get("/console/providers/sms")).body.decode()
    found = re.search(r'name="csrf" value="([^"]+)"', shown)
    assert found is not None
    sent = {"csrf": found[1], "action": "pause", "name": "sms", "confirm": "sms"} | fields
    assert (await by.post("/console/act", sent, **headers)).status == 403
    assert await pauses.read(world.redis) == {}
    other = await operator(world)  # a form of another key's page is none of this one's
    assert (await other.post("/console/act", sent)).status == 403
    assert (await by.post("/console/act", sent | {"csrf": found[1]})).status == 200


@with_ingress()
async def test_no_action_is_done_by_a_form_without_the_token(world: World) -> None:
    by = await operator(world, *ALL)
    for name in ACTIONS:
        fields = {"action": name, "name": "sms", "id": "x", "user": "u-1", "address": PHONE}
        fields |= {"what": "everything", "confirm": "sms"}
        assert (await by.post("/console/act", fields)).status == 403, name
    assert await deeds(by) == []


@with_ingress()
async def test_messages_of_every_app_are_found_and_told_of(world: World) -> None:
    by = await operator(world)
    id_ = (await world.call("POST", "/v1/messages", SALE | {"user": "u-1"}, key="bank-key")).json[
        "id"
    ]
    for kind, text in (("phone", PHONE), ("campaign", "autumn"), ("user", "u-1")):
        found = await by.post("/console/messages", {"by": kind, "text": text})
        assert id_ in found.body.decode(), kind
    led = await by.post("/console/messages", {"by": "id", "text": id_})
    assert (led.status, led.headers["location"]) == (303, f"/console/messages/{id_}")
    page = (await by.get(led.headers["location"])).body.decode()
    for text in ("marketing of bank", PHONE, "accepted", "opt_out", "queued"):
        assert text in page
    assert "act-message-cancel" not in page, "another app's"
    nobody = await by.post("/console/messages", {"by": "phone", "text": "nonsense"})
    assert (nobody.status, b"alert" in nobody.body) == (400, True)
    assert (await by.get("/console/messages/none")).status == 404


@with_ingress()
async def test_a_person_is_shown_opted_out_and_erased(world: World) -> None:
    by = await operator(world, *ALL)
    assert (await world.send(SALE | {"user": "u-1"})).status == 202
    await by.world.call("PUT", "/v1/users/u-1", {"phone": PHONE}, key="shop-key")
    fields = {"by": "phone", "text": PHONE}
    page = (await by.post("/console/people", fields)).body.decode()
    for text in ("two-a-day", "1 of 2", "not known", "autumn"):
        assert text in page
    token = re.search(r'name="csrf" value="([^"]+)"', page)
    assert token is not None
    out = {"csrf": token[1], "action": "opt-out", "address": PHONE, "scope": "all"}
    assert (await by.post("/console/act", out)).status == 200
    assert await opt_outs.find(world.redis, 1, PHONE[1:])
    erase = {"csrf": token[1], "action": "erase", "user": "u-1", "confirm": "u-1"}
    assert (await by.post("/console/act", erase)).status == 200
    gone = (await by.post("/console/people", fields)).body.decode()
    assert "Nothing is kept of this person" in gone


@with_ingress()
async def test_webhooks_are_shown_tested_and_disabled(world: World) -> None:
    by = await operator(world, *ALL)
    body = {"url": "https://hooks.example/in", "events": ["message.delivered"]}
    for scope_app in ("shop", "bank"):
        key = await api_keys.create(world.redis, scope_app, ("manage",), T0, by="ann@here")
        answer = await world.call("PUT", "/v1/webhooks/till", body, key=key)
        assert answer.status == 200
    page = (await by.get("/console/webhooks")).body.decode()
    assert page.count("hooks.example") == 2
    assert "act-webhook-test" not in (await by.get("/console/webhooks/bank/till")).body.decode()
    page = "/console/webhooks/shop/till"
    assert (await by.act(page, "webhook-test")).status == 200
    again = await by.act(page, "webhook-recover", since="2026-11-01T00:00:00Z")
    assert again.status == 200
    assert (await by.act(page, "webhook-disable", confirm="till")).status == 200
    assert (await by.act(page, "webhook-enable")).status == 200


@with_ingress()
async def test_what_nobody_knows_and_what_was_set_aside_is_listed(world: World) -> None:
    by = await operator(world)
    receipt = {"results": [{"messageId": "p-77", "status": {"groupId": 3, "name": "DELIVERED"}}]}
    path = "/v1/callbacks/viber?token=tok"
    assert (await world.call("POST", path, receipt)).status == 200
    await world.redis.call([("HSET", keys_of(0).quarantine, "{k0}m:x", b"?")])
    page = (await by.get("/console/leftovers")).body.decode()
    assert "p-77" in page
    assert "{k0}m:x" in page


@with_ingress()
async def test_the_live_part_follows_until_the_key_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "LIVE_EVERY_S", 0.0)
    by = await operator(world)
    exchange = world.begin("GET", "/console/live?page=providers", by.headers, key="")
    exchange.feed(b"", more=False)
    assert b'id="providers"' in await exchange.until(b"\n\n")
    await pauses.hold(world.redis, "sms", "now", "ann", T0)
    await exchange.until(b'state paused">paused')
    world.app.console.close()
    assert (await exchange.answer()).status == 200
    wrong = await by.get("/console/live?page=secrets")
    assert wrong.status == 400


@pytest.mark.parametrize("path", ["", "/campaigns", "/audit", "/providers", "/webhooks", "/money"])
@with_ingress()
async def test_while_redis_is_away_a_page_says_so(world: World, path: str) -> None:
    by = await operator(world)
    assert (await by.get(f"/console{path}")).status == 200
    world.redis.away = True
    page = await by.get(f"/console{path}")
    assert (page.status, b"secret-host" in page.body) == (503, False)
    assert b"The store is unavailable" in page.body
    assert page.headers["retry-after"] == "2"
    await asyncio.sleep(0)


async def _key(world: World, scope: Scope) -> Any:
    return await api_keys.create(world.redis, "shop", (scope, "read"), T0, by="ann@here")


@with_ingress(changed={"[prices]": '[links]\nbase_url = "https://go.example/"\n[prices]'})
async def test_links_on_a_domain_of_their_own_do_not_catch_its_calls(world: World) -> None:
    assert (await (await operator(world)).get("/console/audit")).status == 200
