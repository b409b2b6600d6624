"""A virtual day of cascades keeps every promise of the rules, decision by decision."""

from __future__ import annotations

from collections import Counter

import pytest

from gateway.core.money.budgets import Budget
from gateway.core.records.message import StepStatus
from tests.simulation.day import RATES, Day, cost_of, live
from tests.worlds.cascade_world import PRICES
from tests.worlds.dispatch_limiter import most_in_a_second
from tests.worlds.virtual_clock import VirtualClock

HOUR_MS = 3_600_000
DEAREST = PRICES["viber"].cost + PRICES["sms"].cost  # a message of both steps
BUDGETS = (
    Budget("sales", 30 * DEAREST, 2 * HOUR_MS, "2h", category="marketing"),
    Budget("codes", 20 * DEAREST, 8 * HOUR_MS, "8h", "refuse", category="otp"),
)


def lived(
    seed: int, messages: int = 200, days: float = 6.0, budgets: tuple[Budget, ...] = ()
) -> Day:
    return VirtualClock().run(live, seed, messages, days, budgets)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_day_of_cascades_ends_well(seed: int) -> None:
    day = lived(seed)
    sums: Counter[str] = Counter()
    for post in day.posts:
        sums.update(post.measures)
    messages = list(day.messages.values())
    assert sums["accepted"] == len(messages) > 350
    assert all(message.closed for message in messages), "no message is left alone"
    assert not any(ids for lanes in day.lanes.values() for ids in lanes.values())
    # The ledger and the providers' own books agree to the last unit.
    assert sums["cost"] == cost_of(day)
    assert sums["delivered"] + sums["double_delivered"] == sum(day.delivered.values())
    assert sums["delivered"] == sum(m.delivered_step >= 0 for m in messages)
    assert sums["billed"] == sum(m.billed or 0 for m in messages)
    assert sums["double_delivered"] > 0, "a day without a late receipt proves little"
    for message in messages:
        day.check_holding(message, day.persons[message.holder.removeprefix("p:")])
        open_steps = {StepStatus.QUEUED, StepStatus.SENDING, StepStatus.RETRYING}
        assert not open_steps & {step.status for step in message.steps}


def test_a_day_meets_every_fate_and_every_refusal() -> None:
    day = lived(4)
    assert len(day.fates) >= 15
    assert day.refused["Duplicate"] >= 40, "the same campaign to the same people again"
    assert day.refused["Suppressed"] > 0, "a third marketing message of the day"


def test_budgets_hold_all_day_and_end_with_nothing_reserved() -> None:
    """That none is exceeded is held against each decision while it is made."""
    day = lived(6, messages=100, budgets=BUDGETS)
    messages = list(day.messages.values())
    assert all(message.closed for message in messages)
    assert day.resumed > 40, "with room what waited went on by itself"
    assert not day.budgets.waiting
    assert day.refused["Suppressed"] > 10
    assert not any(amount for message in messages for amount in message.reserved.values())
    assert not any(day.budgets.reserved.values()), "all was used or released"
    for budget in BUDGETS:
        booked = sum(
            post.measures.get("cost", 0)
            for post in day.posts
            if post.group.category == budget.category
        )
        assert booked > 0
        assert sum(amount for _, amount in day.budgets.used[budget.name]) == booked


def test_the_limits_hold_all_day() -> None:
    day = lived(5)
    for provider, rate in RATES.items():
        assert 0 < most_in_a_second(day.sends[provider]) <= rate
