"""Who clicks and opens: user agents as they were met, held against the one table of rules."""

from __future__ import annotations

import pytest

from gateway.core.reactions.clickers import (
    MAIL_SOON_MS,
    SIGNS,
    BotReason,
    Visitor,
    clicked_by,
    named_in,
    opened_by,
    visitor_of,
)

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
CHROME = f"Mozilla/5.0 (Linux; Android 14; SM-S911B) {WEBKIT} Chrome/126.0.0.0 Mobile Safari/537.36"
GMAIL_PROXY = (
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
)
RENDERER = "Google-PageRenderer Google (+https://developers.google.com/+/web/snippet/)"


def phone(named: str, browser: str = "Chrome/78.0.3904.96 Mobile Safari/537.36") -> str:
    return f"Mozilla/5.0 (Linux; {named}) {WEBKIT} {browser}"


def iphone(browser: str) -> str:
    return f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) {SAFARI} {browser}"


PEOPLE = [
    CHROME,
    iphone("Version/17.5 Mobile/15E148 Safari/604.1"),
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/124.0.0.0 YaBrowser/24.6.0.0",
    # Messengers' own browsers bear the messenger's name.
    iphone("Mobile/15E148 Viber/22.3.0"),
    phone("Android 13; wv", "Version/4.0 Chrome/125.0.0.0 Mobile Safari/537.36 Line/14.2.0/IAB"),
    phone("Android 8.1.0; S550 Pro; wv", "Chrome/74.0.3729.157 Instagram 94.0.0.22.116 Android"),
    # Telephones and computers whose names look like programs'.
    phone("Android 8.0.0; CUBOT_P20"),
    phone("Android 7.0; M bot 54"),
    phone("Android 13; Spider 8"),
    phone("Android 9; Google Pixelbook"),
    # Old ones.
    "Opera/9.80 (J2ME/MIDP; Opera Mini/7.1.32052/29.3709; U; en) Presto/2.8.119 Version/11.10",
    "Nokia6300/2.0 (05.50) Profile/MIDP-2.0 Configuration/CLDC-1.1",
    "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0)",
]
PROGRAMS: list[tuple[BotReason, str]] = [
    ("no_user_agent", ""),
    ("apple_proxy", "Mozilla/5.0"),
    ("image_proxy", GMAIL_PROXY),
    ("image_proxy", "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"),
    ("image_proxy", "RamblerMail/6.0 (incompatible; ImageProxy/6.0)"),
    ("app", "Microsoft Office Word/16.78.1008 (Mac OS/14.0; Desktop; en-US; NonAppStore)"),
    ("app", "Mozilla/4.0 (compatible; ms-office; MSOffice 16)"),
    ("app", "Dalvik/2.1.0 (Linux; U; Android 6.0.1; XT1635-03 Build/MCN24.104-35.2)"),
    ("previewer", "ViberUrlDownloader"),
    ("previewer", "Mozilla/5.0 (Windows NT 6.1; WOW64) ViberUrlDownloader"),
    ("previewer", "WhatsApp/2.23.20.0 A"),
    ("previewer", "WhatsApp/2.18.65 Android/6.0 Device/NOA-NOA_H4se"),
    ("previewer", "TelegramBot (like TwitterBot)"),
    ("previewer", "Mozilla/5.0 (compatible; vkShare; +http://vk.com/dev/Share)"),
    ("previewer", "Mozilla/5.0 (compatible; OdklBot/1.0 like Linux; klass@odnoklassniki.ru)"),
    ("previewer", "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5"),
    ("previewer", "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"),
    ("previewer", "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)"),
    ("previewer", "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)"),
    ("previewer", f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Chrome/56.0.2924.87 {RENDERER}"),
    ("scanner", "Barracuda Sentinel (EE)"),
    ("scanner", "Mozilla/5.0 (compatible; YandexAntivirus/2.0; +http://yandex.com/bots)"),
    ("prefetch", "Chrome Privacy Preserving Prefetch Proxy"),
    ("bot", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"),
    ("bot", "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)"),
    ("bot", "Mozilla/5.0 (compatible; Linux x86_64; Mail.RU_Bot/2.0; +http://go.mail.ru/help)"),
    ("bot", f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} HeadlessChrome/121.0.6167.57 Safari/537.36"),
    ("tool", "curl/8.5.0"),
    ("tool", "python-requests/2.31.0"),
    ("tool", "Go-http-client/2.0"),
]
MARKS = {b"accept-language": b"ru-RU,ru;q=0.9", b"sec-fetch-mode": b"navigate"}


def visitor(user_agent: str = CHROME, method: str = "GET") -> Visitor:
    return visitor_of(method, MARKS | {b"user-agent": user_agent.encode()})


def bare(user_agent: str) -> Visitor:
    return visitor_of("GET", {b"user-agent": user_agent.encode()})


@pytest.mark.parametrize("user_agent", PEOPLE)
def test_a_browser_in_a_persons_hand_is_a_person(user_agent: str) -> None:
    assert visitor(user_agent) == Visitor(None)


@pytest.mark.parametrize(("reason", "user_agent"), PROGRAMS)
def test_a_program_is_named_by_its_sort(reason: BotReason, user_agent: str) -> None:
    assert named_in(user_agent) == reason
    assert clicked_by(visitor(user_agent), None) == reason


def test_each_row_of_the_table_names_somebody_of_these() -> None:
    assert {reason for reason, _ in SIGNS} <= {reason for reason, _ in PROGRAMS}


def test_a_head_is_no_click() -> None:
    assert clicked_by(visitor(method="HEAD"), None) == "head"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (b"sec-purpose", b"prefetch;prerender"),
        (b"purpose", b"prefetch"),
        (b"x-purpose", b"preview"),
        (b"x-moz", b"prefetch"),
    ],
)
def test_a_browser_that_fetches_ahead_is_no_click(header: bytes, value: bytes) -> None:
    fields = MARKS | {header: value, b"user-agent": CHROME.encode()}
    assert clicked_by(visitor_of("GET", fields), None) == "prefetch"


def test_what_comes_at_once_and_unmarked_scanned_the_mail() -> None:
    assert clicked_by(bare(CHROME), MAIL_SOON_MS - 1) == "scanner"


@pytest.mark.parametrize("age_ms", [MAIL_SOON_MS, None])
def test_one_small_sign_alone_is_not_enough(age_ms: int | None) -> None:
    assert clicked_by(bare(CHROME), age_ms) is None
    assert clicked_by(visitor(CHROME), 0) is None


@pytest.mark.parametrize(
    "user_agent", [GMAIL_PROXY, "Microsoft Outlook 16.0.5134; ms-office", CHROME]
)
def test_a_mail_services_proxy_opens_for_a_person_and_clicks_for_nobody(user_agent: str) -> None:
    assert opened_by(bare(user_agent), 60_000) is None


@pytest.mark.parametrize("user_agent", ["Mozilla/5.0", "Barracuda Sentinel (EE)", "curl/8.5.0", ""])
def test_apples_proxy_and_scanners_open_nothing(user_agent: str) -> None:
    assert opened_by(bare(user_agent), 60_000) is not None


def test_nobody_opens_a_mail_at_the_moment_it_is_handed_over() -> None:
    assert opened_by(bare(GMAIL_PROXY), 0) == "scanner"


def test_a_user_agent_without_end_is_looked_at_in_front() -> None:
    assert clicked_by(visitor(CHROME + "x" * 100_000), None) is None
