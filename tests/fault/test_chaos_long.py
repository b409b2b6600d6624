"""The long faults' own parts: what their rules catch, and what the page says of them."""

from __future__ import annotations

import re
import tomllib
from collections import Counter

import pytest

from bench.chaos import page, page_long
from bench.chaos.audience import CATEGORIES, bodies
from bench.chaos.audit import ARRIVED, NEVER_SENT, REASON
from bench.chaos.long_faults import LongOutcome
from bench.chaos.long_world import (
    COMPANIES,
    KINDS,
    LAST,
    LONG,
    NEW_NAME,
    RENAMED,
    WELL,
    config_text,
)
from bench.chaos.reach import Reached, grouped
from bench.load_spec import percentile

T0 = 1_700_000_000_000
LASTED_S = 240.0
SPANS = {kind: (T0, T0 + round(1000 * LASTED_S)) for kind in (*KINDS, WELL)}
ROUTES = [f"{kind}{last}" for kind in COMPANIES for last in ("", LAST)]


def sent(
    route: str, category: str, wait_s: float | None, *, channel: str = "viber", at_s: float = 0.0
) -> Reached:
    """A message that took so long; None: nobody ever had it."""
    accepted_ms = T0 + round(1000 * at_s)
    return Reached(
        route=f"{route}-{category}",
        category=category,
        accepted_ms=accepted_ms,
        reached_ms=0 if wait_s is None else accepted_ms + round(1000 * wait_s),
        channel=channel,
        status="expired" if wait_s is None else "delivered",
        reason="away" if wait_s is None else None,
    )


def quick() -> list[Reached]:
    """A message of every route and category, at once."""
    return [sent(route, category, 1.0) for route in ROUTES for category in set(CATEGORIES)]


def faults(*more: Reached) -> list[str]:
    return grouped([*quick(), *more], SPANS, LONG)[1]


def test_nothing_is_wrong_with_messages_that_keep_to_their_rules() -> None:
    assert not faults(
        sent("refused", "otp", 84.0, channel="sms"),  # its step's time, and what is added
        sent("paused", "marketing", 2 * LASTED_S + 30.0),
        sent("slow-last", "otp", 310.0, channel="sms"),
        sent("5xx-last", "otp", None),  # over before the provider was found again
    )


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (sent("well", "otp", 21.0), "took longer than 20 s (at once)"),
        (sent("silent", "marketing", 21.0), "took longer than 20 s (at once)"),
        (sent("5xx", "otp", 86.0, channel="sms"), "took longer than 85 s (step)"),
        (sent("paused", "marketing", 520.0), "took longer than 515 s (return)"),
        (sent("slow-last", "otp", 321.0), "took longer than 320 s (worth)"),
        (sent("refused", "marketing", 9.0, channel="sms"), "1 came as SMS and not over Viber"),
        (sent("silent", "otp", 9.0, channel="sms"), "1 came as SMS and not over Viber"),
        (sent("refused", "otp", None), "1 never reached a person"),
        (sent("refused-last", "marketing", None), "1 never reached a person"),
        # It had lived to see its provider come back.
        (sent("refused-last", "otp", None, at_s=239.0), "1 never reached a person"),
    ],
)
def test_each_rule_is_held_against_every_message(message: Reached, said: str) -> None:
    (found,) = faults(message)
    assert said in found


def test_codes_that_do_not_go_on_at_once_are_a_fault_though_each_keeps_to_its_step() -> None:
    slow = [sent("paused", "otp", 60.0, channel="sms") for _ in range(3)]
    assert faults(*slow) == ["paused, otp: half of them took longer than 20 s"]


def test_a_route_over_which_nothing_was_sent_is_a_fault() -> None:
    assert "well, otp: nothing was sent" in grouped([], SPANS, LONG)[1]


def test_the_page_names_tests_that_are_there() -> None:
    named = {word for *_, shown in page_long.CHANGES for word in re.findall(r"`(.+?)`", shown)}
    named |= set(re.findall(r"`(.+?)`", page_long.TROUBLE_INTRO))
    assert named
    assert [name for name in named if not (page.ROOT / name).is_file()] == []


def test_a_quantile_is_a_value_that_was_there() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (50, 99, 100)] == [2.0, 4.0, 4.0]
    assert percentile([], 50) == 0.0


def test_every_message_names_a_route_of_the_configuration() -> None:
    urls = dict.fromkeys(COMPANIES, "http://127.0.0.1:1")
    for renamed in (False, True):
        told = tomllib.loads(config_text(LONG, 1, urls, renamed=renamed))
        named = {body["route"] for body in bodies(2_000, 1, routes=ROUTES)}
        assert named == set(told["routes"])
        steps = [step for route in told["routes"].values() for step in route["steps"]]
        assert {step["provider"] for step in steps} == set(told["providers"])
    assert told["providers"][NEW_NAME]["was"] == [RENAMED]
    assert len(told["providers"][NEW_NAME]["callback_token_env"]) == 2


def test_the_page_says_how_long_messages_took_and_why_they_expired() -> None:
    groups, _ = grouped([*quick(), sent("5xx-last", "otp", None)], SPANS, LONG)
    played = LongOutcome(
        seed=7,
        seconds=700.0,
        lasted_s=dict.fromkeys((*KINDS, WELL), LASTED_S),
        groups=groups,
        changes={"a rate, by SIGHUP": 0.4},
        counts={"accepted": 40, "final: expired": 1, f"{REASON}away": 1, f"{NEVER_SENT}away": 1},
        faults=[],
    )
    storm = Counter(
        {
            "accepted": 1_000,
            "final: expired": 21,
            f"{REASON}EXPIRED_EXPIRED": 20,
            f"{ARRIVED}EXPIRED_EXPIRED": 2,
            f"{REASON}http_503": 1,
            f"{NEVER_SENT}http_503": 1,
        }
    )
    written = "\n".join(page_long.sections([played], [storm]))
    assert (
        "| 503 to everything | SMS alone | codes | 2 | 1.0 | 1.0 | 1.0 | 320 | worth | 0 | 50% |"
        in written
    )
    assert f"| `away` | long faults | {page_long.WHY['away']} | 1 | 2.5% | 1 | 0 |\n" in written
    assert f"| `EXPIRED_EXPIRED` | storms | {page_long.SAID} | 20 | 2.0% | 0 | 2 |\n" in written
    assert f"| `http_503` | storms | {page_long.FAILED} | 1 | 0.1% | 1 | 0 |\n" in written
    assert "Of all accepted: 2.1% under storms, 2.5% under long faults.\n" in written
    assert "| a rate, by SIGHUP | 0.4 |" in written
    assert page_long.sections([], [storm]) == []
