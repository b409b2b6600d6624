"""The report page in a real browser: what a finance analyst sees, clicks and downloads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.worlds.chromium import Chromium
from tests.worlds.report_site import CAMPAIGNS, Site

pytestmark = pytest.mark.browser

VIBER, SMS = Decimal("0.0052"), Decimal("0.0410")
BY_VIBER = sum(c[3] for c in CAMPAIGNS)
BY_SMS = sum(c[4] for c in CAMPAIGNS)
DELIVERED = BY_VIBER + BY_SMS
COST = BY_VIBER * VIBER + BY_SMS * SMS


@pytest.fixture
def page(browser: Chromium, site: Site) -> Iterator[Chromium]:
    """The page as it opens; whatever it complains of in the test's course is a failure."""
    browser.open(site.with_key + "/reports")
    yield browser
    assert browser.complaints == []


def table(page: Chromium) -> list[dict[str, str]]:
    heads = page.texts("#rows thead th")
    rows = page.evaluate(
        "Array.from(document.querySelectorAll('#rows tbody tr'),"
        " r => Array.from(r.cells, c => c.innerText))"
    )
    return [dict(zip(heads, row, strict=True)) for row in rows]


def colour(page: Chromium, selector: str, of: str) -> tuple[int, ...]:
    found = page.evaluate(
        f"getComputedStyle(document.querySelector({json.dumps(selector)}))[{json.dumps(of)}]"
    )
    return tuple(int(part) for part in found.strip("rgb()").split(",")[:3])


def test_the_tiles_say_what_was_delivered_and_what_it_cost(page: Chromium) -> None:
    sms_only = DELIVERED * SMS
    assert page.text("#delivered") == str(DELIVERED)
    assert page.text("#cost-per-delivered") == f"{COST / DELIVERED:.6f} EUR"
    assert page.text("#saved") == f"{100 * (sms_only - COST) / sms_only:.2f}%"
    fell_back = sum(c[2] - c[3] for c in CAMPAIGNS)
    lost = sum(c[2] - c[3] - c[4] for c in CAMPAIGNS)
    assert page.text("#undelivered") == f"{lost} messages"
    assert page.texts(".tile .muted")[3].startswith(f"{fell_back + lost} steps")
    assert f"of {sum(c[2] for c in CAMPAIGNS)} accepted" in page.text(".tile")


def test_the_table_has_a_row_a_campaign_and_their_total(page: Chromium) -> None:
    rows = {row["Campaign"]: row for row in table(page)}
    assert set(rows) == {"–", "=limit-offer", "autumn-sale", "Осенняя распродажа"}
    autumn = rows["autumn-sale"]
    assert (autumn["Accepted"], autumn["Duplicates"], autumn["Delivered"]) == ("120", "12", "110")
    assert Decimal(autumn["Cost"]) == 70 * VIBER + 40 * SMS
    total = page.texts("#rows tfoot td")
    heads = page.texts("#rows thead th")[1:]
    assert Decimal(total[heads.index("Cost")]) == COST
    assert sum(Decimal(row["Billed"]) for row in rows.values()) == Decimal(
        total[heads.index("Billed")]
    )


def test_the_chart_draws_each_channel_to_scale_and_says_it_in_words(page: Chromium) -> None:
    widths = page.evaluate(
        "Object.fromEntries(Array.from(document.querySelectorAll('.chart .bar'),"
        " b => [b.classList[1], b.getBoundingClientRect().width]))"
    )
    # A channel's bar has the colour of its place in the table of channels.
    assert list(widths) == ["channel-0", "channel-1", "all", "without"]
    full = page.evaluate("document.querySelector('.chart').getBoundingClientRect().width")
    assert widths["channel-1"] == widths["without"] == full
    assert abs(widths["channel-0"] / full - float(VIBER / SMS)) < 0.002
    assert abs(widths["all"] / full - float(COST / DELIVERED / SMS)) < 0.002
    assert page.evaluate(
        "Array.from(document.querySelectorAll('.chart .name'), e => e.textContent)"
    ) == ["Viber", "SMS", "Together", "Had all been SMS"]
    assert "Viber 0.005200 EUR; SMS 0.041000 EUR" in page.evaluate(
        "document.getElementById('chart-desc').textContent"
    )
    by_channel = "[aria-label='Cost per delivered by channel'] tbody tr"
    assert len(page.texts(by_channel)) == 4


def test_the_browser_names_everything_for_those_who_cannot_see_it(page: Chromium) -> None:
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {
        (node["role"]["value"], node.get("name", {}).get("value"))
        for node in tree
        if not node["ignored"]
    }
    charts = [name or "" for role, name in named if role in ("image", "img", "graphics-document")]
    by_channel, over_time = sorted(charts, key=lambda name: name == "Cost by day")
    assert by_channel.startswith("Cost per delivered message, by channel Viber 0.005200 EUR; SMS")
    assert over_time == "Cost by day"
    assert ("button", "Show") in named
    assert ("heading", "Cost report") in named
    assert any(role == "group" and name == "Group by" for role, name in named)


def test_filters_are_sent_answered_and_kept(page: Chromium) -> None:
    page.evaluate("document.querySelector('[name=app]').value = 'bank'")
    page.click("[name=group_by][value=channel]")
    with page.loading():
        page.click("button")
    asked = parse_qs(urlsplit(page.evaluate("location.href")).query)
    assert asked["app"] == ["bank"]
    assert asked["group_by"] == ["campaign", "channel"]
    assert page.text("#delivered") == "54"
    keys = [(row["Campaign"], row["Channel"]) for row in table(page)]
    assert keys == [
        ("–", "sms"),
        ("–", "viber"),
        ("=limit-offer", "sms"),
        ("=limit-offer", "viber"),
    ]
    assert "Accepted" not in page.texts("#rows thead th")
    assert page.evaluate("document.querySelector('[name=app]').value") == "bank"
    checked = "Array.from(document.querySelectorAll('[name=group_by]:checked'), e => e.value)"
    assert page.evaluate(checked) == ["campaign", "channel"]


def test_days_are_one_click_away(page: Chromium) -> None:
    with page.loading():
        page.click("nav a:first-child")
    assert page.text("header p").startswith("2026-11-21 to 2026-11-21, UTC")
    assert {row["Campaign"] for row in table(page)} == {"–", "=limit-offer"}
    assert page.text("nav a[aria-current]") == "Today"


def test_the_csv_link_downloads_what_the_table_shows(page: Chromium, tmp_path: Path) -> None:
    page.call(
        "Browser.setDownloadBehavior",
        behavior="allow",
        downloadPath=str(tmp_path),
        eventsEnabled=True,
    )
    page.click("#csv")
    done = page.wait_for("Browser.downloadProgress", lambda p: p["state"] != "inProgress")
    assert done["state"] == "completed"
    (file,) = tmp_path.iterdir()
    assert file.name == "cost-2026-10-23-to-2026-11-21.csv"
    rows = list(csv.DictReader(io.StringIO(file.read_bytes().decode(), newline="")))
    assert [row["campaign"] for row in rows] == [
        "(none)",
        "'=limit-offer",
        "autumn-sale",
        "Осенняя распродажа",
    ]
    assert sum(Decimal(row["cost"]) for row in rows) == COST


def test_a_question_that_cannot_be_answered_says_why(browser: Chromium, site: Site) -> None:
    browser.open(site.with_key + "/reports?from=2026-11-21&to=2026-11-01")
    assert "swap them" in browser.text("[role=alert]")
    assert browser.evaluate("document.querySelector('[name=from]').value") == "2026-11-21"


def test_days_without_messages_say_so(page: Chromium, site: Site) -> None:
    page.open(site.with_key + "/reports?from=2025-01-01&to=2025-01-31")
    assert page.text(".empty").startswith("Nothing was booked in these days")
    assert page.text("#cost-per-delivered") == "– EUR"


# What a campaign of millions fills the table with.
LARGE = """
const large = {"Cost": 1, "Billed": 1, "SMS only": 1, "Saved": 1};
const heads = Array.from(document.querySelectorAll('#rows thead th'), e => e.textContent);
for (const row of document.querySelectorAll('#rows tbody tr'))
  heads.forEach((head, n) => { if (n) row.cells[n].textContent =
    head in large ? '123,456.7890' : head.includes('Per') || head.includes('%') ?
    row.cells[n].textContent : '1,234,567'; });
"""


@pytest.mark.parametrize("width", [1280, 1366, 1440, 1600, 1920])
def test_no_column_is_cut_on_a_screen_of_a_desk(page: Chromium, width: int) -> None:
    page.look(width=width, height=900)
    page.evaluate(LARGE)
    assert page.evaluate(
        "Array.from(document.querySelectorAll('.scroll'), e => e.scrollWidth - e.clientWidth)"
    ) == [0, 0, 0]


def test_each_column_says_what_it_means_where_it_stands(page: Chromium) -> None:
    meant = page.evaluate(
        "Array.from(document.querySelectorAll('#rows thead th.number'),"
        " e => [e.innerText, e.title])"
    )
    assert all(title for _, title in meant)
    page.click("#columns summary")
    assert page.texts("#columns dt") == [label for label, _ in meant]
    heads = [label for label, _ in meant]
    at = heads.index("Undelivered steps")
    assert heads[at + 1] == "Undelivered messages"
    lost = [c[2] - c[3] - c[4] for c in CAMPAIGNS]
    total = page.texts("#rows tfoot td")
    assert total[at + 1] == str(sum(lost))


def test_paper_keeps_what_the_report_is_about(page: Chromium, site: Site) -> None:
    page.open(site.with_key + "/reports?campaign=autumn-sale&category=marketing")
    page.call("Emulation.setEmulatedMedia", media="print")
    shown = page.evaluate("document.body.innerText")
    assert "campaign autumn-sale · category marketing" in shown
    assert "Last month" not in shown
    page.look(width=1000)  # of a landscape page
    page.call("Emulation.setEmulatedMedia", media="print")
    page.evaluate(LARGE)
    fits = "document.querySelector('#rows').scrollWidth <= document.body.clientWidth"
    assert page.evaluate(fits)


def test_months_are_one_click_away(page: Chromium) -> None:
    with page.loading():
        page.click("nav a:last-child")
    assert page.text("nav a[aria-current]") == "Last month"
    assert page.text("header p").startswith("2026-10-01 to 2026-10-31, UTC")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("chanel=sms", "There is no parameter 'chanel'"),
        ("category=marketting", "There can be no category 'marketting'"),
        ("provider=vibre", "No provider 'vibre' is configured"),
        ("group_by=campain", "A report has no key 'campain'"),
    ],
)
def test_a_wrong_filter_is_an_error_and_not_zeros(
    browser: Chromium, site: Site, asked: str, says: str
) -> None:
    browser.open(f"{site.with_key}/reports?{asked}")
    assert says in browser.text("[role=alert]")
    assert browser.texts(".tile") == []


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_runs_off_a_narrow_screen(page: Chromium, width: int, tmp_path: Path) -> None:
    page.look(width=width, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.outside() == []
    page.screenshot(tmp_path / f"narrow-{width}.png")


def test_it_follows_the_systems_colours(page: Chromium, tmp_path: Path) -> None:
    seen = {}
    for dark in (False, True):
        page.look(dark=dark)
        ground = sum(colour(page, "body", "backgroundColor"))
        for text in ("body", ".muted", "#rows thead th", "a", ".tile h2"):
            assert (
                contrast(colour(page, text, "color"), colour(page, ".card", "backgroundColor"))
                >= 4.5
            )
        assert (
            contrast(colour(page, "button", "color"), colour(page, "button", "backgroundColor"))
            >= 4.5
        )
        picture = tmp_path / f"{'dark' if dark else 'light'}.png"
        page.screenshot(picture)
        seen[dark] = (ground, picture.read_bytes())
    assert seen[True][0] < 150 < 600 < seen[False][0]
    assert seen[True][1] != seen[False][1]


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """As the web's accessibility guidelines count it: 1 to 21; text needs 4.5."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(rgb: tuple[int, ...]) -> float:
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_without_a_key_there_is_only_the_question_for_one(browser: Chromium, site: Site) -> None:
    # Another name of this machine: the browser has no key for it yet.
    browser.call("Page.navigate", url=site.origin.replace("127.0.0.1", "localhost") + "/reports")
    answer = browser.wait_for("Network.responseReceived", lambda p: p["type"] == "Document")
    assert answer["response"]["status"] == 401
    assert answer["response"]["headers"]["www-authenticate"].startswith("Basic ")


def test_the_browsers_content_policy_is_in_force(browser: Chromium, site: Site) -> None:
    browser.open(site.with_key + "/reports")
    browser.evaluate("document.body.setAttribute('style', 'color: red')")
    browser.evaluate("document.head.insertAdjacentHTML('beforeend', '<style>p{color:red}</style>')")
    assert len(browser.complaints) == 2
    assert all("Content Security Policy" in text for text in browser.complaints)


def test_the_chart_over_time_draws_each_day_to_scale_and_says_it_in_a_table(
    page: Chromium,
) -> None:
    cells = page.evaluate(
        "Array.from(document.querySelectorAll('#time-table tbody tr'),"
        " r => Array.from(r.cells, c => c.textContent))"
    )
    days = {day: cost for day, _, cost in cells}
    assert len(days) == 30
    costs = {"2026-11-19": 70 * VIBER + 40 * SMS, "2026-11-12": 25 * VIBER + 10 * SMS}
    assert {day: Decimal(days[day]) for day in costs} == costs
    heights = page.evaluate(
        "Object.fromEntries(Array.from(document.querySelectorAll('#time .moment'),"
        " m => [m.textContent.slice(0, 10), m.getBoundingClientRect().height]))"
    )
    assert heights["2026-11-19"] == 120
    share = costs["2026-11-12"] / costs["2026-11-19"]
    assert abs(heights["2026-11-12"] / 120 - float(share)) < 0.01
    assert heights["2026-11-13"] == 0


def test_an_amount_leads_to_its_lines_and_a_line_to_its_message(page: Chromium, site: Site) -> None:
    page.open(site.with_key + "/reports?campaign=autumn-sale&group_by=channel")
    with page.loading():
        page.click("#rows tbody tr:nth-child(2) a[href*='kind=bill']")
    amounts = page.evaluate(
        "Array.from(document.querySelectorAll('.details tbody tr'), r => r.cells[10].innerText)"
    )
    assert amounts == ["0.0090"] * 70
    with page.loading():
        page.click(".details a")
    assert page.text("h1").startswith("Message ")
    happened = page.evaluate(
        "Array.from(document.querySelectorAll('.details')[0].tBodies[0].rows,"
        " r => r.cells[1].innerText)"
    )
    assert happened[0] == "accepted"
    assert "delivered" in happened


def test_a_count_leads_to_its_messages(page: Chromium, site: Site) -> None:
    page.open(site.with_key + "/reports?campaign=autumn-sale&group_by=provider")
    with page.loading():
        page.click("#rows tbody tr:nth-child(1) a[href*='count=delivered']")
    assert len(page.texts(".details tbody tr")) == 40
    assert "campaign autumn-sale" in page.text("header p")


def test_the_time_before_is_what_the_tiles_compare_with(page: Chromium, site: Site) -> None:
    page.open(site.with_key + "/reports?from=2026-11-19&to=2026-11-21")
    assert page.texts(".change") == []  # nothing was sent in the three days before
    page.open(site.with_key + "/reports?from=2026-11-13&to=2026-11-21")
    told = page.texts(".change")
    sent = sum(c[3] + c[4] for c in CAMPAIGNS if c[5] < 9)
    before = sum(c[3] + c[4] for c in CAMPAIGNS if c[5] == 9)
    change = f"{Decimal(100 * (sent - before)) / before:.1f}"
    assert told[0] == f"+{change}% against 2026-11-04 to 2026-11-12"


def test_each_ratio_says_its_formula(page: Chromium) -> None:
    page.click("#columns summary")
    assert "cost / delivered" in page.texts("#columns code")
