"""Which messages a report's counts are of, whatever moments their records have."""

from __future__ import annotations

import datetime

import pytest

from gateway.core.money.days import Days
from gateway.core.records.message import Message
from gateway.finance.question import Query
from gateway.finance.reports.counted import CountedAs, CountedMessages
from tests.worlds.cascade_world import MINUTE, T0, World

TODAY = datetime.date(2100, 1, 1)
NEVER_MS = 10**17


def arrived(at_ms: int) -> Message:
    """Delivered and seen a minute after it was accepted, by a clock that says when."""
    world = World()
    world.send()
    world.now_ms += MINUTE
    world.report("seen")
    for step in world.message.steps[:1]:
        step.delivered_ms = step.seen_ms = step.done_ms = at_ms
    return world.message


@pytest.mark.parametrize("at_ms", [T0 + MINUTE, NEVER_MS, -NEVER_MS, T0 - MINUTE])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("count", ["delivered", "parts", "seen"])
def test_a_moment_that_cannot_be_counts_within_the_messages_life(
    count: CountedAs, zone: str, at_ms: int
) -> None:
    message = arrived(at_ms)
    for day, fits in ((TODAY, True), (TODAY - datetime.timedelta(1), False)):
        query = Query(day, day, filters=(("channel", "viber"),))
        sought = CountedMessages.of(query, count, Days(zone), None)
        assert sought.fits(message) is fits


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_the_hour_is_one_that_can_be(zone: str) -> None:
    query = Query(TODAY, TODAY, filters=(("hour", "0" if zone == "UTC" else "1"),))
    assert CountedMessages.of(query, "seen", Days(zone), None).fits(arrived(NEVER_MS))
