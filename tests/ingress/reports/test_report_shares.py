"""`POST /v1/reports/shares`: one report for who has its link, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gateway.store.shared_keys import report_share
from tests.worlds.ingress_world import SALE, T0, World, with_ingress

QUERY = "group_by=campaign&campaign=autumn"
END = "2100-01-01T00:00:00Z"  # Redis drops by its own clock what is over
END_MS = 4_102_444_800_000


async def share(world: World, key: str = "shop-key", **changes: Any) -> Any:
    body = {"query": QUERY, "expires_at": END} | changes
    return await world.call("POST", "/v1/reports/shares", body, key=key)


async def shown(world: World, answer: Any) -> Any:
    path = answer.json["url"].removeprefix("http://127.0.0.1:8080")
    assert re.fullmatch(r"/shared/[\w-]{32}", path)
    return await world.call("GET", path, key="")


@with_ingress()
async def test_who_has_the_link_reads_the_one_report_without_a_key(world: World) -> None:
    await world.send(SALE)
    await world.send(SALE | {"campaign": "winter", "to": "+79161234500"})
    answer = await share(world)
    assert (answer.status, answer.json["expires_at"]) == (200, "2100-01-01T00:00:00.000Z")
    page = await shown(world, answer)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["x-robots-tag"] == "noindex"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "no-store" in page.headers["cache-control"]
    text = page.body.decode()
    assert "autumn" in text
    assert "until 2100-01-01" in text


@with_ingress()
async def test_it_leads_nowhere_and_names_nothing_else(world: World) -> None:
    await world.send(SALE)
    await world.send(SALE | {"campaign": "winter", "to": "+79161234500"})
    text = (await shown(world, await share(world))).body.decode()
    assert "winter" not in text
    assert "<form" not in text
    assert set(re.findall(r'(?:href|action|src)="([^"]{0,5})', text)) == {"data:"}


@with_ingress()
async def test_a_parameter_of_its_own_changes_nothing(world: World) -> None:
    await world.send(SALE | {"campaign": "winter"})
    path = (await share(world)).json["url"].removeprefix("http://127.0.0.1:8080")
    for more in ("?campaign=winter", "?format=csv&group_by=campaign"):
        text = (await world.call("GET", path + more, key="")).body.decode()
        assert "winter" not in text
        assert text.startswith("<!doctype html>")


@with_ingress()
async def test_it_shows_what_its_maker_may_see(world: World) -> None:
    await world.send(SALE)
    await world.call("POST", "/v1/messages", SALE | {"to": "+79161234500"}, key="bank-key")
    own = (await shown(world, await share(world))).body.decode()
    every = (await shown(world, await share(world, "finance-key"))).body.decode()
    accepted = re.compile(r'<td class="number">(\d+)</td>')
    assert (accepted.findall(own)[0], accepted.findall(every)[0]) == ("1", "2")
    assert (await share(world, query="app=bank")).status == 403
    assert (await share(world, "reader-key")).status == 403


@with_ingress()
async def test_its_days_are_fixed_and_it_ends(world: World) -> None:
    answer = await share(world, query={"group_by": "day", "campaign": ["autumn", "winter"]})
    world.clock.now_ms = T0 + 5 * 86_400_000
    await world.send(SALE)
    text = (await shown(world, answer)).body.decode()
    assert "2026-11-18" in text
    assert "2026-11-23" not in text
    world.clock.now_ms = END_MS
    ended = await shown(world, answer)
    never = await world.call("GET", "/shared/" + "x" * 32, key="")
    assert (ended.status, ended.body) == (never.status, never.body) == (404, ended.body)


@with_ingress()
async def test_its_secret_is_not_kept(world: World) -> None:
    url = (await share(world)).json["url"]
    secret = url.rpartition("/")[2]
    (names,) = await world.store.redis.call([("KEYS", "*shared*")])
    assert len(names) == 1
    assert names[0].decode().startswith(report_share(""))
    (life,) = await world.store.redis.call([("PTTL", names[0])])
    (record,) = await world.store.redis.call([("GET", names[0])])
    assert life > 0
    assert secret.encode() not in names[0] + record


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"expires_at": "2026-11-18T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2026-12-01"}, "/expires_at"),
        ({"expires_at": None}, "/expires_at"),
        ({"query": "group_by=colour"}, "/query"),
        ({"query": "nonsense=1"}, "/query"),
        ({"query": 7}, "/query"),
        ({"query": "&".join(f"a{n}=1" for n in range(99))}, "/query"),
        ({"name": "x"}, "/name"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    redis_url: str, changes: dict[str, Any], pointer: str
) -> None:
    @with_ingress()
    async def work(world: World) -> None:
        answer = await share(world, **changes)
        assert answer.status == 422
        assert answer.json["errors"][0]["pointer"] == pointer

    work(redis_url=redis_url)
