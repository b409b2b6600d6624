"""`GET /v1/ledger` over a ledger in a real Redis: what it answers, and to whom."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gateway.core.records.entries import Post
from gateway.ingress.api.reports import ledger
from gateway.store.installation import api_keys
from gateway.store.money import ledger as entries
from tests.finance.reports.test_ledger import GROUP, NOON, book, money
from tests.worlds.ingress_world import Answer, World, with_ingress

TODAY = "from=2026-11-21&to=2026-11-21"
KEYS = [
    *("id", "at", "kind", "message", "step", "app", "campaign", "category", "route", "channel"),
    *("provider", "country", "parts", "amount", "list_amount", "currency", "reason"),
]


async def fill(world: World) -> None:
    bank = Post(replace(GROUP, app="bank"), {"cost": 7}, message="b", step=0)
    for n in range(3):
        await book(world.redis, 0, [money(delivered=1, cost=5_000 + n, billed=9_000)])
    await book(world.redis, 0, [bank], NOON)


async def lines(world: World, query: str, key: str = "shop-key") -> Answer:
    return await world.call("GET", f"/v1/ledger?{query}", key=key)


@with_ingress()
async def test_a_line_has_the_keys_of_the_contract(world: World) -> None:
    await fill(world)
    answer = await lines(world, TODAY)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    page = answer.json
    assert list(page) == ["items", "next"]
    assert [list(line) for line in page["items"]] == [KEYS] * 6
    assert page["items"][0] == {
        "id": page["items"][0]["id"],
        "at": "2026-11-21T12:00:00.000Z",
        "kind": "cost",
        "message": "m",
        "step": 0,
        "app": "shop",
        "campaign": "autumn",
        "category": "marketing",
        "route": None,
        "channel": "viber",
        "provider": "infobip-viber",
        "country": "RU",
        "parts": None,
        "amount": "0.0050",
        "list_amount": None,
        "currency": "EUR",
        "reason": None,
    }
    assert len({line["id"] for line in page["items"]}) == 6


@with_ingress()
async def test_pages_go_on_where_the_last_ended(world: World) -> None:
    await fill(world)
    told: list[str] = []
    cursor = ""
    for _ in range(9):
        page = (await lines(world, f"{TODAY}&limit=2{cursor}")).json
        told += [line["amount"] for line in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
        await book(world.redis, 0, [money(cost=1)])
    assert told[:6] == ["0.0050", "0.0090", "0.005001", "0.0090", "0.005002", "0.0090"]
    assert set(told[6:]) == {"0.000001"}


@with_ingress()
async def test_one_request_reads_so_much_and_says_where_to_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "BOOKINGS_MAX", 1)
    monkeypatch.setattr(entries, "ENTRIES_A_PAGE", 1)
    await fill(world)
    found: list[str] = []
    page = (await lines(world, f"{TODAY}&kind=bill")).json
    while page["next"] is not None:
        assert len(page["items"]) <= 1
        found += [line["kind"] for line in page["items"]]
        page = (await lines(world, f"{TODAY}&kind=bill&cursor={page['next']}")).json
    assert found == ["bill"] * 3


@with_ingress()
async def test_the_scope_report_shows_the_keys_own_lines(world: World) -> None:
    await fill(world)
    own = (await lines(world, TODAY)).json
    assert {line["app"] for line in own["items"]} == {"shop"}
    assert (await lines(world, f"{TODAY}&app=bank")).status == 403
    key = await api_keys.create(world.redis, "finance", ["report-all"], world.clock())
    every = (await lines(world, TODAY, key)).json
    assert [line["app"] for line in every["items"]] == ["shop"] * 6 + ["bank"]
    one = (await lines(world, f"{TODAY}&app=bank&provider=infobip-viber&campaign=autumn", key)).json
    assert [line["amount"] for line in one["items"]] == ["0.000007"]


@with_ingress()
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 400),
        ("limit=1001", 400),
        ("limit=5&limit=6", 422),
        ("cursor=zz", 400),
        ("kind=gift", 400),
        ("group_by=day", 400),
        ("channel=pigeon", 400),
        ("colour=red", 400),
        ("from=2026-12-01&to=2026-11-01", 422),
    ],
)
async def test_what_cannot_be_answered_is_refused(world: World, query: str, status: int) -> None:
    assert (await lines(world, query)).status == status
