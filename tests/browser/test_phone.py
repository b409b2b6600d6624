"""What people open on a phone: links that lead nowhere, the page for unsubscribing, and a report
that was shared with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.worlds.chromium import Chromium
from tests.worlds.http_client import Client
from tests.worlds.report_site import CAMPAIGNS, Site

pytestmark = pytest.mark.browser

WIDTHS = (320, 390)
FINGER = 40  # pixels of what is pressed, at least
CAMPAIGN, BY_VIBER, BY_SMS = CAMPAIGNS[0][1], *CAMPAIGNS[0][3:5]
NOBODYS = "A" * 22


@pytest.fixture(params=WIDTHS)
def phone(request: pytest.FixtureRequest, browser: Chromium) -> Iterator[Chromium]:
    browser.look(width=request.param, height=700)
    yield browser
    assert browser.evaluate("document.documentElement.scrollWidth") == request.param
    assert browser.outside() == []
    # It is as wide as the phone, instead of a desk's page made small.
    assert browser.evaluate("innerWidth") == request.param


def call(site: Site, method: str, path: str, body: Any = None) -> Any:
    port = int(site.origin.rpartition(":")[2])
    with Client(port, site.operators_key) as client:
        answer = client.request(method, path, body)
    assert answer.status == 200, answer.body
    return answer.json


@pytest.fixture(scope="module")
def shared(site: Site) -> str:
    """The address of a report on a campaign to which people reacted."""
    campaign = quote(CAMPAIGN or "")
    found = call(site, "GET", f"/v1/messages?campaign={campaign}&limit=100")["items"]
    ids = [each["id"] for each in found if each["status"] == "delivered"]
    told = [
        {"message": id_, "kind": kind, "at": "2026-11-21T11:00:00Z"}
        for n, id_ in enumerate(ids)
        for kind in ("seen", "clicked")
        if kind == "seen" or n % 3 == 0
    ]
    answers = call(site, "POST", "/v1/reactions", told)
    assert {each["outcome"] for each in answers} == {"accepted"}
    asked = {"query": f"campaign={campaign}", "expires_at": "2026-12-31T00:00:00Z"}
    url: str = call(site, "POST", "/v1/reports/shares", asked)["url"]
    return site.origin + url[url.index("/shared/") :]


def test_a_link_that_leads_nowhere_says_so(phone: Chromium, site: Site, tmp_path: Path) -> None:
    phone.open(f"{site.origin}/l/AAAAAAAA")
    assert phone.text("h1") == "This link leads nowhere"
    assert float(phone.evaluate("parseFloat(getComputedStyle(document.body).fontSize)")) >= 15
    phone.screenshot(tmp_path / "nowhere.png")


def test_a_link_that_is_over_says_so(phone: Chromium, site: Site) -> None:
    code = call(site, "POST", "/v1/links", {"url": "https://shop.example/autumn"})["code"]
    call(site, "PATCH", f"/v1/links/{code}", {"expires_at": "2026-01-01T00:00:00Z"})
    phone.open(f"{site.origin}/l/{code}")
    assert phone.text("h1") == "This link has expired"


def test_who_unsubscribes_can_press_the_buttons_and_take_it_back(
    phone: Chromium, site: Site
) -> None:
    phone.open(f"{site.origin}/u/{NOBODYS}")
    assert phone.text("h1") == "Advertising"
    heights = "Array.from(document.querySelectorAll('button'), b => b.offsetHeight)"
    assert min(phone.evaluate(heights)) >= FINGER
    with phone.loading():
        phone.click("button[value=channel]")
    assert phone.text("h1") == "You are unsubscribed"
    assert min(phone.evaluate(heights)) >= FINGER
    with phone.loading():
        phone.click("button[value=none]")
    assert phone.text("h1") == "Advertising"
    assert phone.complaints == []


def test_a_shared_report_is_read_without_a_key_and_leads_nowhere(
    phone: Chromium, shared: str, tmp_path: Path
) -> None:
    phone.open(shared)
    assert phone.text("header p").endswith(f"campaign {CAMPAIGN}")
    assert "Shared to be read" in phone.text("main > .muted")
    assert phone.evaluate("document.querySelectorAll('form, main a').length") == 0
    steps = phone.texts("#reactions tbody th")
    assert steps == ["1. Viber", "2. SMS"]
    beyond = phone.evaluate(
        "Array.from(document.querySelectorAll('td svg'), s =>"
        " s.getBoundingClientRect().right - s.parentElement.getBoundingClientRect().right)"
    )
    assert len(beyond) == len(steps)
    assert max(beyond) <= 0  # a chart stays in its cell
    phone.screenshot(tmp_path / "shared.png")
    assert phone.complaints == []


def test_it_shows_when_people_react(phone: Chromium, shared: str) -> None:
    phone.open(shared)
    delivered = BY_VIBER + BY_SMS
    clicked = len(range(0, delivered, 3))
    heard = phone.evaluate("Array.from(document.querySelectorAll('.hours'), e => e.ariaLabel)")
    assert heard == [
        f"Clicked by the hour of the day: most from 12 to 13 o'clock: {clicked} of {clicked}",
        f"Seen by the hour of the day: most from 12 to 13 o'clock: {delivered} of {delivered}",
    ]
    bars = phone.evaluate(
        "Array.from(document.querySelectorAll('.hours .moment'),"
        " b => b.getBoundingClientRect().height)"
    )
    assert [height for height in bars if height] == [60, 60]
    phone.click("#hours-heading ~ details summary")
    rows = phone.evaluate(
        "Array.from(document.querySelectorAll('#hours tbody tr'),"
        " r => Array.from(r.cells, c => c.innerText))"
    )
    assert len(rows) == 24
    assert rows[12] == ["12:00", str(clicked), str(delivered)]
