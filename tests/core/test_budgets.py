"""What a message reserves of budgets and uses, and that the sum is never more than the limit."""

from __future__ import annotations

import datetime
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core import events as ev
from gateway.core.admission import Admitted, Decision, Suppressed, Unfunded, admit
from gateway.core.money.budgets import Budget, Funds, Lease, Move, settle
from gateway.core.policy import Policy, RouteStep
from gateway.core.records.held import Held
from gateway.core.records.message import Message
from gateway.core.records.message_codec import pack_message, unpack_message
from gateway.core.records.person import Person
from tests.worlds.cascade_world import DAY, HOUR, MINUTE, T0, World, policy, request

ALL = Budget("all", limit=100_000, window_ms=30 * DAY, window="30d")
SMS = replace(ALL, name="sms-only", channel="sms")
DEAREST = 5_000 + 40_000  # a Viber and an SMS


def rules(*budgets: Budget, **others: Any) -> Policy:
    return replace(policy(**others), budgets=budgets)


def leased(**left: int) -> dict[str, Lease]:
    return {name.replace("_", "-"): Lease(n, T0 + DAY, 7, 60_000 + n) for name, n in left.items()}


def decide(*budgets: Budget, funds: Funds, full: tuple[str, ...] = (), **fields: Any) -> Decision:
    person = [Person()]
    return admit(request(**fields), person, {}, rules(*budgets), T0, funds=funds, told_full=full)


def accepted(*budgets: Budget, **fields: Any) -> Message:
    decision = decide(*budgets, funds=Funds(leased(all=10**9, sms_only=10**9), T0), **fields)
    assert isinstance(decision, Admitted)
    return decision.message


def test_every_step_is_reserved_at_its_dearest_candidate() -> None:
    steps = (RouteStep(("viber", "viber-2"), MINUTE, 1_000), RouteStep(("sms",), MINUTE, 1_000))
    funds = Funds(leased(all=100_000), T0)
    decision = admit(request(), [Person()], {}, rules(ALL, steps=steps), T0, funds=funds)
    assert isinstance(decision, Admitted)
    assert decision.message.reserved == {"all": 6_000 + 40_000}
    assert funds.left("all") == 100_000 - 46_000


def test_a_budget_of_a_channel_counts_its_steps_and_a_skipped_step_costs_nothing() -> None:
    assert accepted(ALL, SMS).reserved == {"all": DEAREST, "sms-only": 40_000}
    assert accepted(SMS, route="viber-only").reserved == {}


@pytest.mark.parametrize(
    ("only", "counts"),
    [
        ({"app": "shop"}, True),
        ({"app": "bank"}, False),
        ({"campaign": "autumn"}, True),
        ({"campaign": "winter"}, False),
        ({"category": "marketing"}, True),
        ({"category": "otp"}, False),
        ({"country": "RU"}, True),
        ({"country": "KZ"}, False),
        ({"country": "RU", "app": "bank"}, False),
    ],
)
def test_a_budget_counts_what_all_its_filters_name(only: dict[str, Any], counts: bool) -> None:
    assert accepted(replace(ALL, **only)).reserved == ({"all": DEAREST} if counts else {})


def test_what_is_not_leased_is_asked_for_and_nothing_is_taken() -> None:
    funds = Funds(leased(all=10**9, sms_only=39_999), T0)
    decision = decide(ALL, SMS, funds=funds)
    assert isinstance(decision, Unfunded)
    assert decision.needs == {"sms-only": 40_000}
    assert (funds.left("all"), funds.left("sms-only")) == (10**9, 39_999)


def test_of_several_full_budgets_the_first_in_the_file_decides() -> None:
    refusing = replace(SMS, then="refuse")
    none = Funds(leased(all=0, sms_only=0), T0)
    first = decide(ALL, refusing, funds=none, full=("all", "sms-only"))
    assert isinstance(first, Admitted)
    assert first.message.held == Held("budget", budget="all")
    assert (first.message.reserved, first.lane) == ({}, None)
    other = decide(refusing, ALL, funds=none, full=("all", "sms-only"))
    assert isinstance(other, Suppressed)
    assert other.reason == "budget"
    assert other.budget is not None
    assert (other.budget.name, other.budget.limit, other.budget.used) == (
        "sms-only",
        100_000,
        60_000,
    )
    assert other.post.measures == {"suppressed": 1}


def test_a_lease_ends_and_trying_again_gives_back() -> None:
    leases = leased(all=100_000)
    funds = Funds(leases, T0)
    assert funds.take({"all": 60_000}) is None
    assert funds.take({"all": 60_000}) is not None
    funds.undo()
    assert funds.left("all") == 100_000
    assert Funds(leases, T0 + DAY).left("all") == 0
    funds.take({"all": 60_000})
    leases["all"].epoch += 1  # leased anew: what was taken was of the former
    funds.undo()
    assert leases["all"].left == 40_000


def test_the_money_of_a_message_from_acceptance_to_its_end() -> None:
    world = World(rules(ALL), send=request(), funds=Funds(leased(all=100_000), T0))
    assert world.message.reserved == {"all": DEAREST}
    world.send()
    moves = world.report("delivered").moves
    assert moves == [Move("all", -5_000, 5_000), Move("all", -40_000)]
    assert world.message.closed
    assert world.message.reserved == {"all": 0}
    again = world.report("delivered", step=0, cost=Decimal("0.009"), currency="EUR").moves
    assert again == [Move("all", 0, 4_000)], "a late price is used beside what was reserved"


def test_a_failure_that_costs_nothing_gives_back_what_was_used_but_reserves_nothing_anew() -> None:
    world = World(
        rules(ALL, charged_on="sent"), send=request(), funds=Funds(leased(all=100_000), T0)
    )
    world.happen(ev.Claimed(0))
    assert world.happen(ev.Accepted(0)).moves == [Move("all", -5_000, 5_000)]
    assert world.report("undelivered", cost=Decimal(0), currency="EUR").moves == [
        Move("all", 0, -5_000)
    ]
    assert world.message.reserved == {"all": 40_000}


def test_a_message_is_booked_where_it_was_reserved_and_where_it_counts_now() -> None:
    message = accepted(ALL)
    cost = World(rules(ALL), funds=Funds(leased(all=100_000), T0))
    cost.send()
    posts = cost.report("delivered").posts
    message.due_ms = 1
    renamed = replace(ALL, name="new")
    assert settle(message, posts, [renamed]) == [Move("new", 0, 5_000), Move("all", -5_000, 5_000)]
    assert message.reserved == {"all": 40_000}
    narrowed = replace(ALL, campaign="winter")  # it counts the message no more, and still has it
    assert settle(message, posts, [narrowed]) == [Move("all", -5_000, 5_000)]


def test_a_held_message_is_reserved_when_it_is_released_and_goes_on() -> None:
    world = World(rules(ALL), funds=Funds(leased(all=0), T0), told_full=("all",))
    assert world.message.held == Held("budget", budget="all")
    waits = world.happen(ev.Released())
    assert (waits.changed, waits.lacking) == (False, {"all": DEAREST})
    world.funds = Funds(leased(all=50_000), T0)
    goes = world.happen(ev.Released())
    assert goes.reserved == world.message.reserved == {"all": DEAREST}
    assert goes.lane == ("viber", "marketing")
    assert world.message.held is None


def test_a_held_message_waits_for_the_first_budget_that_is_full() -> None:
    world = World(rules(ALL, SMS), funds=Funds(leased(), T0), told_full=("all", "sms-only"))
    world.funds = Funds(leased(all=50_000), T0)
    moved = world.happen(ev.Released(full=frozenset(["sms-only"])))
    assert moved.changed
    assert world.message.held == Held("budget", budget="sms-only")


def test_a_held_message_whose_budget_is_gone_goes_on() -> None:
    world = World(rules(ALL), funds=Funds({}, T0), told_full=("all",))
    world.policy = rules()
    assert world.happen(ev.Released()).lane == ("viber", "marketing")
    assert world.message.reserved == {}


def test_held_beyond_its_ttl_it_expires_for_its_budget() -> None:
    world = World(rules(ALL), funds=Funds({}, T0), told_full=("all",))
    world.now_ms = world.message.due_ms
    world.happen(ev.TimerDue())
    shown = world.status_changes[-1]
    assert (shown.status, shown.reason) == ("expired", "budget")
    assert [step.fault.code for step in world.message.steps if step.fault] == ["budget", "budget"]


def test_a_record_keeps_what_is_reserved_from_those_who_know_of_no_budgets() -> None:
    message = accepted(ALL)
    record = pack_message(message)
    assert record[0] == 5
    assert unpack_message(message.id, record) == message
    held = World(rules(ALL), funds=Funds({}, T0), told_full=("all",)).message
    record = pack_message(held)
    assert record[0] == 5
    assert unpack_message(held.id, record) == held


def test_a_rolling_window_forgets_what_is_older_and_a_month_what_was_before_it() -> None:
    end_ms = ALL.part_end_ms(T0)
    assert T0 < end_ms <= T0 + 30 * DAY // 100
    assert end_ms > ALL.since_ms(T0 + 30 * DAY)
    assert end_ms <= ALL.since_ms(T0 + 31 * DAY)
    month = replace(ALL, window_ms=0, window="month")
    moment = datetime.datetime(2026, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
    now_ms = int(moment.timestamp()) * 1000
    assert month.part_end_ms(now_ms) == now_ms + 1_000
    assert month.part_end_ms(now_ms) > month.since_ms(now_ms)
    assert month.part_end_ms(now_ms) <= month.since_ms(now_ms + 1_000)
    there = replace(month, zone="Europe/Moscow")
    assert there.since_ms(now_ms) == month.part_end_ms(now_ms) - 3 * HOUR, "the year began there"
    assert month.kept_since_ms(now_ms) < month.since_ms(now_ms) - 29 * DAY


def test_the_highest_warning_that_is_reached() -> None:
    warned = replace(ALL, warn=(50, 80, 100))
    assert [warned.highest(n) for n in (49_999, 50_000, 99_999, 100_000, 10**9)] == [
        0,
        50,
        80,
        100,
        100,
    ]


STATUSES = ["sent", "delivered", "undelivered", "expired", "rejected", "seen"]
HAPPENINGS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["claim", "accept", "lose", "timer", "cancel", *STATUSES]),
        st.integers(0, 1),
        st.sampled_from([0, MINUTE, HOUR, DAY]),
    ),
    max_size=60,
)


@given(st.integers(0, 5 * DEAREST), HAPPENINGS, st.sampled_from(["sent", "delivered"]))
def test_whatever_happens_a_budget_is_exceeded_by_double_deliveries_alone(
    limit: int, happenings: list[tuple[int, str, int, int]], charged_on: str
) -> None:
    """Six messages race for a limit; nothing reports a price, so what is beyond it can only be of
    steps that arrived although nothing was reserved for them any more."""
    budget = replace(ALL, limit=limit)
    leases = {"all": Lease(limit, T0 + 1_000 * DAY, 1)}
    worlds = [
        World(
            rules(budget, charged_on=charged_on),
            send=request(id=f"{n}" * 20, to=f"7916123456{n}"),
            funds=Funds(leases, T0),
            told_full=("all",),
        )
        for n in range(6)
    ]
    sums: Counter[str] = Counter(reserved=limit - leases["all"].left)
    beyond = 0
    for n, what, step, later_ms in happenings:
        world = worlds[n]
        world.now_ms += later_ms
        was_closed = world.message.closed
        match what:
            case "claim":
                effects = world.happen(ev.Claimed(step))
            case "accept":
                effects = world.happen(ev.Accepted(step))
            case "lose":
                effects = world.happen(ev.LostAnswer(step))
            case "timer":
                effects = world.happen(ev.TimerDue())
            case "cancel":
                effects = world.happen(ev.Cancelled())
            case _:
                effects = world.report(what, step)
        for move in effects.moves:
            sums["reserved"] += move.reserved
            sums["used"] += move.used
            excess = max(move.used + move.reserved, 0)
            assert not excess or was_closed, "until it is final all it costs is reserved"
            beyond += excess
        assert sums["reserved"] == sum(w.message.reserved.get("all", 0) for w in worlds)
        booked = sum(post.measures.get("cost", 0) for w in worlds for post in w.posts)
        assert sums["used"] == booked, "what is used is what the ledger says"
        assert sums["reserved"] + sums["used"] <= limit + beyond
        assert all(not w.message.reserved.get("all") for w in worlds if w.message.closed)
    open_steps = [w for w in worlds if not w.message.closed and w.message.held is None]
    assert all(w.message.reserved for w in open_steps)
