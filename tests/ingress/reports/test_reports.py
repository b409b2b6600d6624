"""The report's two addresses over totals in a real Redis: what they answer, on both loops, and to
whom."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import re
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gateway.core.records.entries import Post
from gateway.finance.reports.report import ReportTally
from gateway.ingress.api.reports import reports as endpoint
from gateway.ingress.api.reports.reports import ReportEndpoints
from gateway.ingress.http.auth import Principal
from gateway.ingress.http.problems import Refusal
from gateway.ingress.http.request import Request
from gateway.ingress.http.request_ids import RequestIds
from gateway.ingress.http.waiting import WaitingBytes
from gateway.ingress.pages import report_reading
from gateway.ingress.pages import reports as page
from gateway.redis.client import RedisClient
from gateway.store.installation.api_keys import granted
from gateway.store.money import totals
from gateway.store.money.totals import at_once
from tests.finance.reports.test_ledger import GROUP, NOON, POLICY, book, money, on
from tests.worlds.ingress_world import ENV, OTP, SALE, World, with_ingress
from tests.worlds.ingress_world import Answer as WorkerAnswer
from tests.worlds.loops import Loop
from tests.worlds.patience import PATIENCE_S

KEY = ENV["SHOP_KEY"]
API, PAGE = "/v1/reports/cost", "/reports"
TODAY = "from=2026-11-21&to=2026-11-21"
EVERY_APP = Principal("finance", granted(["report-all"]), b"")
BANK = Principal("bank", granted(["report"]), b"")


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: str


def basic(password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"anyone:{password}".encode())


async def ask(
    redis: RedisClient, path: str, query: str = "", principal: Principal = EVERY_APP
) -> Answer:
    """The answer of the endpoint itself to whoever got there."""
    endpoints = ReportEndpoints(redis, 2, POLICY, lambda: NOON, at_once)
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    async def receive() -> Any:
        raise AssertionError("a report has no body to read")

    scope = {
        "method": "GET",
        "path": path,
        "headers": [(b"x-request-id", b"one")],
        "query_string": query.encode(),
    }
    handler = endpoints.cost if path == API else endpoints.page
    request = Request(scope, receive, send, RequestIds(), WaitingBytes(0))
    request.principal = principal
    await handler(request)
    start, body = sent
    told = {name.decode(): value.decode() for name, value in start["headers"]}
    assert told["content-length"] == str(len(body["body"]))
    return Answer(start["status"], told, body["body"].decode())


async def get(world: World, path: str, query: str, authorization: bytes | None) -> WorkerAnswer:
    """The answer of a worker to a request with that header."""
    headers = {} if authorization is None else {"authorization": authorization.decode()}
    return await world.call("GET", f"{path}?{query}", headers=headers, key="")


async def fill(redis: RedisClient) -> None:
    requests = replace(GROUP, channel="", provider="")
    sms = replace(GROUP, channel="sms", provider="infobip-sms")
    await book(redis, 0, [Post(requests, {"accepted": 3, "duplicates": 1, "suppressed": 2})])
    await book(
        redis, 0, [money(sent=3, delivered=2, undelivered=1, cost=10_000, sms_only_cost=80_000)]
    )
    await book(
        redis, 1, [Post(sms, {"sent": 1, "delivered": 1, "cost": 40_000, "sms_only_cost": 40_000})]
    )


def asked(loop: Loop, url: str, path: str, query: str = "") -> Answer:
    async def main(redis: RedisClient) -> Answer:
        await fill(redis)
        return await ask(redis, path, query)

    answer: Answer = on(loop, url, main)
    return answer


# --- for programs ---------------------------------------------------------------------------------


def test_json_is_the_default(loop: Loop, redis_url: str) -> None:
    answer = asked(loop, redis_url, API, TODAY + "&group_by=channel,country")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    document = json.loads(answer.body)
    assert [row["channel"] for row in document["rows"]] == ["sms", "viber"]
    assert document["total"]["cost"] == "0.0500"
    assert document["total"]["cost_per_delivered"] == "0.016667"


def test_csv_is_a_file_with_the_same_rows(loop: Loop, redis_url: str) -> None:
    answer = asked(loop, redis_url, API, TODAY + "&group_by=campaign&format=csv")
    assert answer.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert "cost-2026-11-21-to-2026-11-21.csv" in answer.headers["content-disposition"]
    (row,) = csv.DictReader(io.StringIO(answer.body, newline=""))
    assert (row["campaign"], row["accepted"], row["cost"]) == ("autumn", "3", "0.0500")


@pytest.mark.parametrize("path", [API, PAGE])
def test_csv_has_a_byte_order_mark_where_it_is_asked_for(
    loop: Loop, redis_url: str, path: str
) -> None:
    async def main(redis: RedisClient) -> list[Answer]:
        await fill(redis)
        return [await ask(redis, path, f"{TODAY}&format=csv{more}") for more in ("", "&bom=1")]

    plain, marked = on(loop, redis_url, main)
    assert marked.body == "\ufeff" + plain.body


def test_rates_are_behind_the_other_columns_where_they_are_asked_for(
    loop: Loop, redis_url: str
) -> None:
    async def main(redis: RedisClient) -> list[Answer]:
        await fill(redis)
        asked = ("&format=csv", "&format=csv&rates=1", "&rates=1")
        return [await ask(redis, API, TODAY + more) for more in asked]

    plain, rated, document = on(loop, redis_url, main)
    heads = [answer.body.splitlines()[0] for answer in (plain, rated)]
    assert heads[1] == heads[0] + ",click_pct,click_pct_low,click_pct_high"
    total = json.loads(document.body)["total"]
    assert (total["click_pct"], total["click_pct_low"]) == ("0.00", "0.00")


def test_filters_narrow_the_report(loop: Loop, redis_url: str) -> None:
    answer = asked(loop, redis_url, API, TODAY + "&channel=sms")
    assert json.loads(answer.body)["total"]["delivered"] == 1


@pytest.mark.parametrize(
    ("query", "parameter", "status"),
    [
        ("format=xml", "format", 422),
        ("format=csv&format=json", "format", 422),
        ("format=csv&bom=yes", "bom", 422),
        ("rates=yes", "rates", 422),
        ("from=2026-13-01", "from", 422),
        ("&".join(f"a{n}=1" for n in range(40)), "", 422),
        # What there cannot be.
        ("group_by=colour", "group_by", 400),
        ("key=" + KEY, "key", 400),
        ("category=marketting", "category", 400),
        ("provider=infobip-vibre", "provider", 400),
        ("route=vibre-then-sms", "route", 400),
        ("day=2026-02-30", "day", 400),
        ("channel=", "channel", 400),
        ("campaign=" + "x" * 129, "campaign", 400),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_parameter_at_fault(
    loop: Loop, redis_url: str, query: str, parameter: str, status: int
) -> None:
    with pytest.raises(Refusal) as caught:
        asked(loop, redis_url, API, query)
    (error,) = caught.value.problem.errors or ()
    assert caught.value.problem.status == status
    assert error.pointer == (f"/{parameter}" if parameter else "")


@pytest.mark.parametrize("path", [API, PAGE])
@pytest.mark.parametrize("query", [TODAY, TODAY + "&app=bank"])
def test_the_scope_report_shows_the_keys_own_app_only(
    loop: Loop, redis_url: str, path: str, query: str
) -> None:
    async def main(redis: RedisClient) -> tuple[Answer, Answer]:
        await fill(redis)
        await book(redis, 0, [Post(replace(GROUP, app="bank", campaign="loans"), {"sent": 4_321})])
        return await ask(redis, path, query, BANK), await ask(redis, path, TODAY)

    own, every = on(loop, redis_url, main)
    assert "shop" not in own.body
    assert "autumn" not in own.body  # in the page's suggestions neither
    if path == API:
        assert json.loads(own.body)["total"]["sent"] == 4_321
        assert json.loads(every.body)["total"]["sent"] == 4_325
    else:
        assert all(name in every.body for name in ("shop", "autumn", "bank", "loans"))


@pytest.mark.parametrize("path", [API, PAGE])
def test_another_apps_money_needs_a_scope_that_is_named(
    loop: Loop, redis_url: str, path: str
) -> None:
    async def main(redis: RedisClient) -> Answer:
        return await ask(redis, path, TODAY + "&app=shop", BANK)

    with pytest.raises(Refusal, match="report-all") as caught:
        on(loop, redis_url, main)
    assert caught.value.problem.status == 403


@with_ingress(shards=2)
async def test_a_key_for_every_app_opens_what_asks_for_the_own(world: World) -> None:
    bearer = f"Bearer {ENV['FINANCE_KEY']}".encode()
    assert (await get(world, API, TODAY, bearer)).status == 200
    assert (await get(world, PAGE, TODAY, basic(ENV["FINANCE_KEY"]))).status == 200


@pytest.mark.parametrize("authorization", [None, b"Bearer wrong", basic("wrong"), b"Basic ?"])
@with_ingress(shards=2)
async def test_without_a_good_key_there_is_no_report(
    world: World, authorization: bytes | None
) -> None:
    assert (await get(world, API, TODAY, authorization)).status == 401


@pytest.mark.parametrize("path", [API, PAGE])
@with_ingress(shards=2)
async def test_a_key_in_the_address_opens_nothing(world: World, path: str) -> None:
    assert (await get(world, path, f"key={KEY}&token={KEY}", None)).status == 401


@pytest.mark.parametrize("scheme", [b"Basic", b"BASIC", b"basic"])
@with_ingress(shards=2)
async def test_the_page_takes_the_key_as_a_basic_password_and_the_api_does_not(
    world: World, scheme: bytes
) -> None:
    authorization = basic(KEY).replace(b"Basic", scheme)
    assert (await get(world, PAGE, "", authorization)).status == 200
    assert (await get(world, PAGE, "", f"Bearer {KEY}".encode())).status == 200
    assert (await get(world, API, "", authorization)).status == 401


@pytest.mark.parametrize("chosen", ["json", "csv"])
def test_the_page_gives_the_same_data_as_the_api(loop: Loop, redis_url: str, chosen: str) -> None:
    query = TODAY + "&group_by=campaign,channel&format=" + chosen

    async def main(redis: RedisClient) -> tuple[Answer, Answer]:
        await fill(redis)
        for_browsers = await ask(redis, PAGE, query)
        return for_browsers, await ask(redis, API, query)

    for_browsers, for_programs = on(loop, redis_url, main)
    assert for_browsers == for_programs


# --- for people -----------------------------------------------------------------------------------


@with_ingress(shards=2)
async def test_a_browser_without_a_good_key_is_asked_for_one(world: World) -> None:
    world.clock.now_ms = NOON
    await fill(world.redis)
    for authorization in (None, basic("wrong")):
        answer = await get(world, PAGE, "", authorization)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert answer.headers["cache-control"] == "no-store"
        assert b"0.0500" not in answer.body
    assert b"0.0500" in (await get(world, PAGE, "", basic(KEY))).body


def test_nothing_of_a_report_is_kept_by_caches_or_framed_or_loaded_from_elsewhere(
    loop: Loop, redis_url: str
) -> None:
    answer = asked(loop, redis_url, PAGE)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert re.findall(r"""(?:src|href|action)="(?!/|data:image)""", answer.body) == []
    assert "<script" not in answer.body
    assert 'style="' not in answer.body


def test_a_campaign_named_like_markup_is_only_text(loop: Loop, redis_url: str) -> None:
    name = '"><script>alert(1)</script>'

    async def main(redis: RedisClient) -> Answer:
        await book(redis, 0, [Post(replace(GROUP, campaign=name), {"sent": 1})])
        return await ask(redis, PAGE, "campaign=" + '"><script>alert(1)</script>')

    body = on(loop, redis_url, main).body
    assert "<script" not in body
    assert body.count("&lt;script&gt;alert(1)") >= 2


def test_a_question_that_cannot_be_answered_keeps_the_form_as_it_was(
    loop: Loop, redis_url: str
) -> None:
    answer = asked(loop, redis_url, PAGE, "from=2026-11-22&to=2026-11-21&campaign=autumn")
    assert answer.status == 422
    assert "swap them" in answer.body
    assert 'name="from" value="2026-11-22"' in answer.body
    assert 'name="campaign" list="campaigns" value="autumn"' in answer.body


def test_a_page_shows_some_rows_and_the_total_of_all(
    loop: Loop, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "ROWS_SHOWN_MAX", 3)

    async def main(redis: RedisClient) -> Answer:
        for n in range(5):
            await book(redis, 0, [Post(replace(GROUP, campaign=f"c{n}"), {"sent": 1_000})])
        return await ask(redis, PAGE)

    body = on(loop, redis_url, main).body
    assert re.findall(r'<th scope="row">(c\d)', body) == ["c0", "c1", "c2"]
    assert "2 more rows are in the CSV" in body
    assert "5,000" in body


def test_suggestions_are_bounded(
    loop: Loop, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_reading, "SUGGESTIONS_MAX", 2)

    async def main(redis: RedisClient) -> Answer:
        for n in range(5):
            await book(redis, 0, [Post(replace(GROUP, campaign=f"c{n}"), {"sent": 1})])
        return await ask(redis, PAGE)

    assert on(loop, redis_url, main).body.count("<option value=") == len(["all", "c0", "c1"])


TURNS = 50  # of the loop, while a report is stuck
SLOW_STEPS: list[tuple[str, Any, str]] = [
    ("adding up", ReportTally, "add"),
    ("the sums", ReportTally, "report"),
    ("decoding", totals, "total_rows"),
    ("JSON", endpoint, "to_json"),
    ("CSV", endpoint, "to_csv"),
    ("the page", endpoint, "report_page"),
]


@with_ingress()
@pytest.mark.parametrize(
    ("owner", "name"), [s[1:] for s in SLOW_STEPS], ids=[s[0] for s in SLOW_STEPS]
)
async def test_the_loop_goes_on_while_a_report_is_made(
    world: World, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """A step that ends only after so many turns of the loop: held up by it, the loop would never
    turn, and the step would give up."""
    await world.send(SALE)
    turned, gave_up = threading.Event(), []
    step: Callable[..., Any] = getattr(owner, name)

    def slow(*args: Any) -> Any:
        if not turned.wait(PATIENCE_S / 2):
            gave_up.append(name)
        return step(*args)

    monkeypatch.setattr(owner, name, slow)
    paths = [API, f"{API}?format=csv", PAGE]
    reports = [asyncio.ensure_future(world.call("GET", path)) for path in paths]
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert (await world.send(OTP)).status == 202
    turned.set()
    assert [(await report).status for report in reports] == [200, 200, 200]
    assert gave_up == []
