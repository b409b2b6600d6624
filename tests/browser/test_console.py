"""The console in a real browser: every page, wide and narrow, light and dark, and what is done
there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.worlds.chromium import Chromium
from tests.worlds.report_site import Site

pytestmark = pytest.mark.browser

PHONE = "+79161230001"
PHONE_WIDTH = 390


def call(site: Site, method: str, path: str, body: Any = None) -> Any:
    """What the API answers to the operator."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {site.operators_key}", "content-type": "application/json"}
    asked = Request(site.origin + path, data, headers, method=method)  # noqa: S310 - our own
    with urlopen(asked) as answer:  # noqa: S310
        return json.load(answer)


@pytest.fixture(scope="module")
def message(site: Site) -> str:
    """The id of a message of a campaign that waits for its pace."""
    call(site, "PUT", "/v1/campaigns/spring", {"category": "marketing", "pace": "600/m"})
    hook = {"url": "https://hooks.example/in", "events": ["message.delivered"]}
    call(site, "PUT", "/v1/webhooks/till", hook)
    send = {"to": PHONE, "campaign": "spring", "text": "Spring!", "user": "u-1"}
    return str(call(site, "POST", "/v1/messages", send)["id"])


@pytest.fixture
def page(browser: Chromium, message: str) -> Iterator[Chromium]:
    """Whatever the browser complains of in the test's course is a failure."""
    yield browser
    assert message
    assert browser.complaints == []


def open_at(page: Chromium, site: Site, path: str) -> None:
    page.open(site.with_operators_key + path)


def find(page: Chromium, site: Site, place: str, by: str, text: str) -> None:
    open_at(page, site, place)
    page.evaluate(f"document.querySelector('.seek [name=by]').value = {json.dumps(by)}")
    page.evaluate(f"document.querySelector('.seek [name=text]').value = {json.dumps(text)}")
    with page.loading():
        page.click(".seek button")


def submit(page: Chromium, action: str, **fields: str) -> None:
    """Fills in a form and sends it."""
    form = f"#act-{action}"
    for name, value in fields.items():
        field = json.dumps(f"{form} [name={name}]")
        page.evaluate(f"document.querySelector({field}).value = {json.dumps(value)}")
    with page.loading():
        page.click(f"{form} button")


@pytest.mark.parametrize(
    ("path", "shows"),
    [
        ("/console", "#waiting"),
        ("/console/providers", "#providers tbody tr"),
        ("/console/providers/viber", "#act-pause"),
        ("/console/messages", ".seek"),
        ("/console/messages/MESSAGE", "#timeline tr"),
        ("/console/campaigns", "#campaigns tbody tr"),
        ("/console/campaigns/spring", "#act-campaign-cancel"),
        ("/console/people", ".seek"),
        ("/console/webhooks", "#webhooks tbody tr"),
        ("/console/webhooks/shop/till", "#act-webhook-disable"),
        ("/console/leftovers", ".empty"),
        ("/console/money", "#budgets tbody tr"),
        ("/console/money/2026-10", "#hash"),
        ("/console/audit", "#deeds tbody tr"),
    ],
)
def test_a_page_fits_a_desk_and_a_phone_by_day_and_by_night(
    page: Chromium, site: Site, message: str, path: str, shows: str
) -> None:
    grounds = set()
    for width, dark in ((1280, False), (PHONE_WIDTH, True)):
        page.look(width=width, dark=dark)
        open_at(page, site, path.replace("MESSAGE", message))
        assert page.texts(shows), shows
        assert page.text("nav a[aria-current]")
        menu = (
            "Array.from(document.querySelectorAll('nav a'), a => a.getBoundingClientRect().right)"
        )
        assert max(page.evaluate(menu)) <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_messages_and_people_are_found_without_their_number_in_the_address(
    page: Chromium, site: Site, message: str
) -> None:
    find(page, site, "/console/messages", "phone", PHONE)
    assert page.texts("#messages tbody th") == [message]
    assert PHONE[1:] not in page.evaluate("location.href")
    with page.loading():
        page.click("#messages tbody a")
    assert page.text("h1") == message
    find(page, site, "/console/people", "phone", PHONE)
    assert page.texts("#channels tbody th") == ["viber", "sms"]


def test_a_form_does_what_its_curl_says_and_the_page_follows_by_itself(
    page: Chromium, site: Site
) -> None:
    open_at(page, site, "/console/providers/viber")
    said = page.evaluate("document.querySelector('#act-pause pre').textContent")
    assert "/v1/ops/providers/viber/pause" in said
    submit(page, "pause", reason="maintenance", confirm="viber")
    assert page.text("h1") == "Done"
    assert '"detail": "maintenance"' in page.text("#answer")
    with page.loading():
        page.click("#back")
    assert page.text(".fault").startswith("Paused (operator)")
    open_at(page, site, "/console/providers")
    state = "document.querySelector('#providers tbody tr:last-child .state').textContent"
    assert page.evaluate(state) == "paused"
    call(site, "POST", "/v1/ops/providers/viber/resume", {})
    page.wait_until(f"{state} === 'up'")


def test_money_says_how_full_budgets_are_and_a_month_what_it_was_closed_with(
    page: Chromium, site: Site
) -> None:
    open_at(page, site, "/console/money")
    assert page.texts("#budgets tbody th") == ["autumn", "all-of-it"]
    drawn = page.evaluate(
        "Array.from(document.querySelectorAll('#budgets .reserved'), r => r.width.baseVal.value)"
    )
    assert drawn[0] > drawn[1] > 0
    assert page.texts("#months .state") == ["whole"]
    with page.loading():
        page.click("#months a")
    assert page.text("h1") == "2026-10"
    assert page.text("#late") == "0"
    assert len(page.text("#hash")) == 64


def test_it_works_without_a_script(page: Chromium, site: Site) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        open_at(page, site, "/console")
        assert page.text("h1") == "Now"
        with page.loading():
            page.click("nav a:nth-child(2)")
        assert page.text("h1") == "Providers"
        assert page.texts("#providers tbody th") == ["sms", "viber"]
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
