"""The cascade where a table cannot tell it: people, prices, references.

The stories that are a row of events stand in `scenarios/`."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

import pytest
from msgspec.structs import replace

from gateway.core import events, timing
from gateway.core.cascade.events import TRANSITIONS
from gateway.core.ids import read_ref, step_ref
from gateway.core.policy import SENDING_LIMIT_MS, RouteStep
from gateway.core.records.content import Content
from gateway.core.records.message import ACCEPTED, MessageStatus, StepStatus
from gateway.core.records.person import DedupeClaim
from providers.contract import Fault, Receipt
from ratelimit.caps import Cap, Slot
from tests.worlds.cascade_world import DAY, ID, MINUTE, T0, World, policy, request

NOT_ON_VIBER = Fault("7002", "EC_UNKNOWN_USER", True)
BUSY = Fault("20", "REJECTED_FLOODING_FILTER", False)
EVERY_CAP = Cap("one-a-day", 1, DAY, "1d", "marketing", None)
SMS_CAP = Cap("one-sms", 1, DAY, "1d", "marketing", "sms")


def test_each_kind_of_event_has_its_transition() -> None:
    assert TRANSITIONS.keys() == set(get_args(events.Event))


def test_when_every_step_failed_claim_and_slot_are_free_again() -> None:
    world = World(policy(caps=(EVERY_CAP,)))
    assert world.held()
    world.send()
    world.report("undelivered")
    assert world.held()
    world.send()
    world.report("undelivered", fault=Fault("1", "EC_UNKNOWN_SUBSCRIBER", True))
    assert world.message.status == MessageStatus.UNDELIVERED
    assert world.message.reason == "EC_UNKNOWN_SUBSCRIBER"
    assert not world.held()
    assert world.sums()["billed"] == 0


def test_the_claim_of_a_delivered_message_lasts_for_the_window_from_delivery() -> None:
    world = World()
    world.send()
    world.now_ms += MINUTE
    world.report("delivered")
    assert world.person.claims["autumn"].until_ms == T0 + MINUTE + 30 * DAY


def test_a_full_cap_on_the_fallback_channel_ends_the_message_as_suppressed() -> None:
    world = World(policy(caps=(SMS_CAP,)))
    world.person.slots.append(Slot("another", T0, "marketing", "sms"))
    world.send()
    world.report("expired")
    assert world.message.status == MessageStatus.SUPPRESSED
    assert world.message.reason == "frequency_cap"
    assert world.statuses() == ["expired", "skipped"]
    assert not world.held()


def test_a_step_is_passed_over_only_for_one_whose_cap_has_room() -> None:
    world = World(policy(caps=(SMS_CAP,), when_away="skip"))
    world.person.slots.append(Slot("another", T0, "marketing", "sms"))
    world.happen(events.Claimed(0, away=frozenset(["viber"])))
    assert world.statuses() == ["retrying", "planned"]
    world.person.slots.pop(0 if world.person.slots[0].message == "another" else 1)
    world.timer()
    world.happen(events.Claimed(0, away=frozenset(["viber"])))
    assert world.statuses() == ["skipped", "queued"]


def test_the_slot_moves_with_the_cascade() -> None:
    world = World(policy(caps=(SMS_CAP, EVERY_CAP)))
    assert [s.channel for s in world.person.slots] == ["viber"]
    world.send()
    world.report("expired")
    assert [s.channel for s in world.person.slots] == ["sms"]


def test_a_late_delivery_revives_an_undelivered_message_and_takes_its_claim_again() -> None:
    world = World(policy(caps=(EVERY_CAP,)), request(route="viber-only"))
    world.send()
    world.report("expired")
    assert world.message.status == MessageStatus.EXPIRED
    assert world.sums()["undelivered_messages"] == 1
    assert not world.held()
    world.report("delivered")
    assert world.message.status == MessageStatus.DELIVERED
    assert world.sums()["undelivered_messages"] == 0
    assert world.held()


@pytest.mark.parametrize("at_ms", [None, T0 + 1, -1])
def test_a_late_delivery_takes_back_that_it_was_undelivered_whenever_that_was(
    at_ms: int | None,
) -> None:
    world = World(send=request(route="viber-only"))
    world.send()
    world.report("expired", at_ms=at_ms)
    world.report("delivered")
    assert (world.sums()["undelivered"], world.sums()["delivered"]) == (0, 1)


def test_a_late_delivery_is_not_forgotten_with_a_newer_message_that_fails() -> None:
    world = World(send=request(route="viber-only"))
    world.send()
    world.report("expired")
    assert not world.held()
    newer = "1M7Q5CQG0000000000ZZ"
    world.person.claims["autumn"] = DedupeClaim(newer, 0)
    world.report("delivered")
    assert world.held(), "what arrived holds the claim, not what is still on its way"
    delivered_first = DedupeClaim(newer, T0 + DAY)
    world.person.claims["autumn"] = delivered_first
    other = World(send=request(route="viber-only"))
    other.person = world.person
    other.send()
    other.report("delivered")
    assert world.person.claims["autumn"] == delivered_first


def test_a_delivery_a_day_late_counts_against_the_cap_from_when_it_came() -> None:
    world = World(policy(caps=(EVERY_CAP,)), request(route="viber-only"))
    world.send()
    world.now_ms += 2 * DAY
    world.report("delivered")
    assert world.person.slots == [Slot(ID, T0 + 2 * DAY, "marketing", "viber")]


def test_a_receipt_that_outruns_the_answer_counts() -> None:
    world = World()
    world.happen(events.Claimed(0))
    world.report("delivered")
    world.happen(events.Accepted(0, provider_id="abc"))
    assert world.statuses() == ["delivered", "skipped"]
    assert world.message.steps[0].attempts[0].provider_id == "abc"
    assert (world.sums()["sent"], world.sums()["delivered"]) == (1, 1)


def test_a_step_was_sent_when_its_request_began_however_late_that_is_recorded() -> None:
    world = World()
    world.now_ms = T0 + 40
    world.happen(events.Claimed(0))
    world.now_ms = T0 + 90
    world.happen(events.Accepted(0, sent_ms=T0 + 50))
    assert world.message.steps[0].attempts[0].sent_ms == T0 + 50
    outrun = World()
    outrun.happen(events.Claimed(0))
    outrun.now_ms = T0 + 90
    outrun.report("delivered", at_ms=T0 + 3)
    assert (outrun.message.steps[0].attempts[0].sent_ms, outrun.message.steps[0].done_ms) == (
        T0,
        T0 + 3,
    )


def test_seen_without_delivered_delivers_and_delivered_after_seen_changes_nothing() -> None:
    world = World()
    world.send()
    world.report("seen")
    assert world.message.status == MessageStatus.SEEN
    assert [e.status for e in world.status_changes] == ["queued", "sent", "delivered", "seen"]
    world.report("delivered")
    world.report("expired")
    assert world.statuses() == ["seen", "skipped"]
    assert world.sums()["delivered"] == 1


def test_a_receipt_that_outruns_an_answer_leaves_the_content_to_a_step_that_is_being_sent() -> None:
    world = World()
    world.send("lost")
    while world.message.current == 0:
        world.timer()
    world.happen(events.Claimed(1))
    world.report("sent", 0)
    world.happen(events.StepNotSent(1, BUSY))
    world.timer()
    assert world.message.content, "it is sent again"


def test_a_receipts_price_replaces_the_lists_and_both_are_kept() -> None:
    world = World(send=request(route="sms-only"))
    world.send()
    world.report("delivered", cost=Decimal("0.0355"), currency="EUR")
    assert world.sums()["cost"] == 35_500
    assert world.sums()["sms_only_cost"] == 35_500
    notes = [p.note for p in world.posts if p.note]
    assert notes == [{"list": 40_000, "charged": 35_500}]
    other = World(send=request(route="sms-only"))
    other.send()
    other.report("delivered", cost=Decimal(9), currency="USD")
    assert other.sums()["cost"] == 40_000, "another currency cannot be booked"


def test_a_price_of_one_part_counts_once_for_each_part_we_sent() -> None:
    world = World(send=request(route="sms-only", content=Content("я" * 71)))
    world.send()
    world.report("delivered", part_cost=Decimal("0.0355"), currency="EUR")
    assert world.sums()["cost"] == 71_000


@pytest.mark.parametrize("price", ["-1", "1e30", "NaN"])
def test_a_price_that_is_none_does_not_cost_us_the_delivery(price: str) -> None:
    world = World(send=request(route="sms-only"))
    world.send()
    world.report("delivered", cost=Decimal(price), currency="EUR")
    assert world.message.status == MessageStatus.DELIVERED
    assert world.sums()["cost"] == 40_000


def test_another_providers_word_about_a_step_is_not_heard() -> None:
    world = World()
    world.send()
    effects = world.happen(events.Reported(0, Receipt("delivered", ref=ID + ".0"), "sms"))
    assert not effects.changed
    assert world.message.steps[0].status == StepStatus.SENT


def test_after_a_refusal_the_provider_is_given_another_reference() -> None:
    world = World()
    world.happen(events.Claimed(0))
    world.happen(events.StepRefused(0, BUSY))
    world.timer()
    world.happen(events.Claimed(0))
    step = world.message.steps[0]
    assert step_ref(ID, 0, step.series) == ID + ".0.1"
    assert read_ref(ID + ".0.1") == (ID, 0, 1)
    world.report("rejected")
    assert world.statuses()[0] == "sending", "a report about the refused reference changes nothing"
    world.happen(events.PutBack(0, refused=True))
    assert step.series == 2


def test_what_was_never_claimed_is_booked_once_however_often_it_is_said_to_be_sent() -> None:
    """Found by the invariants (2026-11-29): without a moment it was not known to be booked."""
    world = World(policy(charged_on="sent"))
    world.happen(events.ProviderGone("viber"))
    for _ in range(2):
        world.happen(events.Accepted(0))
    assert 0 < world.sums()["cost"] == world.message.steps[0].charged


@pytest.mark.parametrize("says", [True, False])
def test_an_older_record_does_not_say_what_it_was_charged_for_and_is_charged_no_more(
    says: bool,
) -> None:
    world = World(policy(charged_on="sent", can_look_up=False))
    world.happen(events.Claimed(0))
    world.happen(events.StepRefused(0, BUSY))
    world.timer()
    world.happen(events.Claimed(0))
    world.happen(events.Accepted(0))
    (attempt,) = world.message.steps[0].attempts
    assert (attempt.series, attempt.charged_series) == (1, 1)
    if not says:
        attempt.charged_by = 0
        assert attempt.charged_series is None
    world.happen(events.Accepted(0, series=0))
    world.happen(events.Reported(0, Receipt("undelivered"), "viber", 0))
    world.happen(events.Reported(0, Receipt("delivered"), "viber", 0))
    price = world.message.steps[0].candidates[0].cost
    assert world.sums()["cost"] == (2 * price if says else price)


def test_a_late_refusal_is_only_for_a_step_whose_answer_is_lost() -> None:
    world = World()
    late = events.StepRefused(0, NOT_ON_VIBER, late=("viber", 0))
    world.happen(events.Claimed(0))
    assert not world.happen(late).changed
    world.happen(events.LostAnswer(0))
    for other in (("sms", 0), ("viber", 1)):
        assert not world.happen(replace(late, late=other)).changed
    assert world.statuses()[0] == "unknown"
    world.happen(late)
    assert world.statuses()[0] == "rejected"
    assert world.sums()["cost"] == 0


@pytest.mark.parametrize(
    "other", ["", "x", ID, ID + ".", ID + ".x", ID + ".0.1.2", "." + ID, ID + ".²"]
)
def test_what_is_no_reference_of_ours_is_not_read_as_one(other: str) -> None:
    assert read_ref(other) is None


@pytest.mark.parametrize(
    "answer",
    [events.StepRefused(0, BUSY), events.LostAnswer(0), None],
    ids=["retrying", "unknown", "sending"],
)
def test_a_campaign_of_an_older_record_has_its_whole_time_from_its_first_claim(
    answer: events.Event | None,
) -> None:
    """It says nothing of a clock, and waited in its lane for longer than its step may take."""
    world = World()
    world.now_ms += 60 * MINUTE
    world.happen(events.Claimed(0))
    step = world.message.step
    step.clock = ACCEPTED
    if answer is not None:
        world.happen(answer)
    else:
        world.message.due_ms = world.now_ms + SENDING_LIMIT_MS
    world.timer()
    assert world.message.current == 0
    assert world.message.due_ms > world.now_ms
    assert timing.patience_ms(world.message, step, T0 + 61 * MINUTE) >= 14 * MINUTE


@pytest.mark.parametrize("status", ["delivered", "seen"])
def test_nothing_arrives_later_than_its_receipt_whatever_a_providers_clock_says(
    status: str,
) -> None:
    world = World()
    world.send()
    world.now_ms += MINUTE
    world.report(status, at_ms=T0 + 3 * 60 * MINUTE)
    first = world.message.steps[0]
    assert first.delivered_ms == first.done_ms == T0 + MINUTE
    assert first.seen_ms == (T0 + MINUTE if status == "seen" else 0)


@pytest.mark.parametrize("status", ["delivered", "seen"])
def test_nothing_arrives_before_it_was_claimed(status: str) -> None:
    """A receipt by SMPP names the minute, others the second: either lies before the claim."""
    world = World()
    world.now_ms += 42_700
    world.send()
    world.now_ms += 3_000
    world.report(status, at_ms=T0)
    first = world.message.steps[0]
    assert first.delivered_ms == first.done_ms == T0 + 42_700
    assert first.seen_ms == (T0 + 42_700 if status == "seen" else 0)


def test_a_providers_clock_that_is_ahead_delays_no_fallback() -> None:
    seen = RouteStep(("viber",), 15 * MINUTE, 0, until="seen", react_ms=5 * MINUTE)
    world = World(policy(steps=(seen, RouteStep(("sms",), 15 * MINUTE, 0))))
    world.send()
    world.now_ms += MINUTE
    world.report("delivered", at_ms=T0 + 3 * 60 * MINUTE)
    assert world.message.due_ms == T0 + 6 * MINUTE
    world.timer()
    assert world.statuses() == ["delivered", "queued"]
