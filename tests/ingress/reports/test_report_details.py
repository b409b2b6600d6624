"""The pages behind the report's numbers, over messages in a real Redis: what they show, and to
whom."""

from __future__ import annotations

import base64
import io
import re
import sys
from html import unescape

import pytest
import python_calamine

from gateway.store.installation import api_keys
from tests.finance.reports.test_ledger import book, money
from tests.worlds.ingress_world import OTP, SALE, Answer, World, with_ingress


async def page(world: World, path: str, key: str = "shop-key") -> Answer:
    token = base64.b64encode(f"any:{key}".encode()).decode()
    return await world.call("GET", path, headers={"authorization": f"Basic {token}"}, key="")


def links(answer: Answer, pattern: str) -> list[str]:
    found = re.findall(r'href="([^"]+)"', answer.body.decode())
    return [unescape(each) for each in found if re.search(pattern, unescape(each))]


@with_ingress()
async def test_a_count_leads_to_its_messages_and_these_to_their_timelines(world: World) -> None:
    sale = (await world.send(SALE)).json["id"]
    await world.send(OTP)
    report = await page(world, "/reports?group_by=campaign")
    (accepted,) = [
        each for each in links(report, "count=accepted") if f"campaign={SALE['campaign']}" in each
    ]
    messages = await page(world, accepted)
    assert links(messages, r"/reports/messages/\w+$") == [f"/reports/messages/{sale}"]
    every = next(each for each in links(report, "count=accepted") if "campaign" not in each)
    assert len(links(await page(world, every), r"/reports/messages/\w+$")) == 2
    timeline = (await page(world, f"/reports/messages/{sale}")).body.decode()
    assert "accepted" in timeline
    assert SALE["to"].strip("+") not in timeline
    assert SALE["text"] not in timeline


@with_ingress()
async def test_an_amount_leads_to_its_lines(world: World) -> None:
    await book(
        world.redis, 0, [money(sent=1, delivered=1, cost=5_000, billed=9_000)], world.clock()
    )
    report = await page(world, "/reports?group_by=day,campaign")
    assert report.status == 200
    cost = next(each for each in links(report, "/reports/lines") if "kind=cost" in each)
    body = (await page(world, cost)).body.decode()
    assert "0.0050" in body
    assert "0.0090" not in body
    assert 'href="/reports/messages/m"' in body


@with_ingress()
async def test_another_apps_messages_and_lines_need_report_all(world: World) -> None:
    id_ = (await world.send(SALE)).json["id"]
    own = await api_keys.create(world.redis, "bank", ["report"], world.clock())
    every = await api_keys.create(world.redis, "finance", ["report-all"], world.clock())
    assert (await page(world, f"/reports/messages/{id_}", own)).status == 404
    assert (await page(world, f"/reports/messages/{id_}", every)).status == 200
    assert (await page(world, "/reports/messages/none", every)).status == 404
    asked = "/reports/messages?count=accepted"
    assert links(await page(world, asked, own), id_) == []
    assert len(links(await page(world, asked, every), id_)) == 1
    assert (await page(world, "/reports/lines?app=shop", own)).status == 403


@with_ingress()
async def test_what_cannot_be_shown_is_refused(world: World) -> None:
    assert (await page(world, "/reports/messages?count=gifts")).status == 400
    assert (await page(world, "/reports/messages")).status == 422
    assert (await page(world, "/reports/messages?count=sent&cursor=1")).status == 400
    assert (await page(world, "/reports/lines?kind=gift")).status == 400
    assert (await world.call("GET", "/reports/lines", key="")).status == 401


@with_ingress()
async def test_the_page_gives_a_workbook_that_the_worker_did_not_make(world: World) -> None:
    await book(world.redis, 0, [money(sent=1, delivered=1, cost=5_000)], world.clock())
    answer = await page(world, "/reports?group_by=campaign&format=xlsx")
    assert answer.status == 200
    assert answer.headers["content-disposition"].endswith('.xlsx"')
    file = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(answer.body))
    header, row = file.get_sheet_by_name("Cost").to_python()
    assert dict(zip(header, row, strict=True))["cost"] == 0.005
    # The API has two formats, and no third.
    assert (await world.call("GET", "/v1/reports/cost?format=xlsx")).status == 422


@with_ingress()
async def test_without_its_library_there_is_no_workbook_and_it_says_why(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert (await page(world, "/reports?format=xlsx")).status == 503
