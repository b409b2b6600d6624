"""The cascade by example: one story a test."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.core import events
from gateway.core.model import (
    Claim,
    Content,
    MessageStatus,
    StepStatus,
    read_ref,
    step_ref,
)
from gateway.core.policy import LOOK_UP_DELAYS_MS
from providers.contract import Fault, Receipt
from ratelimit.caps import Cap, Slot
from tests.worlds.cascade_world import DAY, ID, MINUTE, T0, World, policy, request

NOT_ON_VIBER = Fault("7002", "EC_UNKNOWN_USER", True)
BUSY = Fault("20", "REJECTED_FLOODING_FILTER", False)
EVERY_CAP = Cap("one-a-day", 1, DAY, "1d", "marketing", None)
SMS_CAP = Cap("one-sms", 1, DAY, "1d", "marketing", "sms")


def test_a_delivered_viber_message_is_billed_once_and_sends_no_sms() -> None:
    world = World()
    world.send()
    for _ in range(50):
        world.report("delivered")
    assert world.statuses() == ["delivered", "skipped"]
    assert world.message.status == MessageStatus.DELIVERED
    assert world.message.closed
    sums = world.sums()
    assert (sums["sent"], sums["delivered"], sums["billed"], sums["cost"]) == (1, 1, 9_000, 5_000)
    assert sums["sms_only_cost"] == 40_000
    assert world.submitted == [0]


@pytest.mark.parametrize("end", ["undelivered", "expired", "rejected"])
def test_a_step_that_ends_without_delivery_falls_back_at_once(end: str) -> None:
    world = World()
    world.send()
    world.report(end, fault=NOT_ON_VIBER)
    assert world.lane == ("sms", "marketing")
    assert world.statuses() == [end, "queued"]
    world.send()
    world.report("delivered")
    assert world.message.status == MessageStatus.DELIVERED
    assert world.submitted == [0, 1]
    assert world.sums("viber")["undelivered"] == 1
    assert world.sums("sms")["delivered"] == 1
    assert world.sums()["billed"] == 70_000


def test_a_silent_step_falls_back_after_its_wait_and_grace() -> None:
    world = World()
    world.send()
    assert world.message.due_ms == T0 + 15 * MINUTE + 10_000
    world.timer()
    assert world.statuses() == ["expired", "queued"]


def test_a_refusal_for_good_falls_back_and_one_that_may_pass_is_tried_again() -> None:
    world = World(policy(attempts_max=2))
    world.happen(events.Claimed(0))
    world.happen(events.Refused(0, BUSY))
    assert world.statuses()[0] == "retrying"
    world.timer()
    assert world.lane == ("viber", "marketing")
    world.happen(events.Claimed(0))
    world.happen(events.Refused(0, BUSY))
    assert world.statuses() == ["rejected", "queued"], "two attempts are the limit"
    other = World()
    other.happen(events.Claimed(0))
    other.happen(events.Refused(0, NOT_ON_VIBER))
    assert other.statuses() == ["rejected", "queued"]
    assert other.message.steps[0].fault == NOT_ON_VIBER


def test_when_every_step_failed_claim_and_slot_are_free_again() -> None:
    world = World(policy(caps=(EVERY_CAP,)))
    assert world.held
    world.send()
    world.report("undelivered")
    assert world.held
    world.send()
    world.report("undelivered", fault=Fault("1", "EC_UNKNOWN_SUBSCRIBER", True))
    assert world.message.status == MessageStatus.UNDELIVERED
    assert world.message.reason == "EC_UNKNOWN_SUBSCRIBER"
    assert not world.held
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
    assert not world.held


def test_the_slot_moves_with_the_cascade() -> None:
    world = World(policy(caps=(SMS_CAP, EVERY_CAP)))
    assert [s.channel for s in world.person.slots] == ["viber"]
    world.send()
    world.report("expired")
    assert [s.channel for s in world.person.slots] == ["sms"]


def test_no_step_starts_after_the_time_to_live() -> None:
    world = World(send=request(ttl_ms=2_000))
    world.send()
    world.now_ms += 3_000
    world.report("undelivered")
    assert (world.message.status, world.message.reason) == (MessageStatus.EXPIRED, "ttl")
    queued = World(send=request(ttl_ms=2_000))
    queued.now_ms += 2_000
    assert not queued.happen(events.Claimed(0)).submit
    assert queued.message.status == MessageStatus.EXPIRED
    waiting = World(send=request(ttl_ms=2_000))
    waiting.timer()
    assert waiting.message.status == MessageStatus.EXPIRED
    assert not waiting.held


def test_a_late_viber_delivery_after_the_sms_arrived_is_double_and_billed_once() -> None:
    world = World()
    world.send()
    world.timer()
    world.send()
    world.report("delivered")
    world.report("delivered", step=0)
    sums = world.sums()
    assert (sums["delivered"], sums["double_delivered"]) == (1, 1)
    assert sums["billed"] == 70_000
    assert sums["cost"] == 45_000
    assert sums["undelivered"] == 0, "the step that was given up arrived after all"
    assert world.message.delivered_step == 1


def test_a_late_viber_delivery_cancels_a_fallback_that_is_only_queued() -> None:
    world = World()
    world.send()
    world.timer()
    world.report("delivered", step=0)
    assert world.statuses() == ["delivered", "skipped"]
    assert not world.happen(events.Claimed(1)).submit
    assert world.message.closed


def test_a_late_delivery_revives_an_undelivered_message_and_takes_its_claim_again() -> None:
    world = World(policy(caps=(EVERY_CAP,)), request(route="viber-only"))
    world.send()
    world.report("expired")
    assert world.message.status == MessageStatus.EXPIRED
    assert not world.held
    world.report("delivered")
    assert world.message.status == MessageStatus.DELIVERED
    assert world.held


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
    assert not world.held
    newer = "1M7Q5CQG0000000000ZZ"
    world.person.claims["autumn"] = Claim(newer, 0)
    world.report("delivered")
    assert world.held, "what arrived holds the claim, not what is still on its way"
    delivered_first = Claim(newer, T0 + DAY)
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
    assert world.message.steps[0].provider_id == "abc"
    assert (world.sums()["sent"], world.sums()["delivered"]) == (1, 1)


def test_a_step_was_sent_when_its_request_began_however_late_that_is_recorded() -> None:
    world = World()
    world.now_ms = T0 + 40
    world.happen(events.Claimed(0))
    world.now_ms = T0 + 90
    world.happen(events.Accepted(0, sent_ms=T0 + 50))
    assert world.message.steps[0].sent_ms == T0 + 50
    outrun = World()
    outrun.happen(events.Claimed(0))
    outrun.now_ms = T0 + 90
    outrun.report("delivered", at_ms=T0 + 3)
    assert (outrun.message.steps[0].sent_ms, outrun.message.steps[0].done_ms) == (T0, T0 + 3)


def test_seen_without_delivered_delivers_and_delivered_after_seen_changes_nothing() -> None:
    world = World()
    world.send()
    world.report("seen")
    assert world.message.status == MessageStatus.SEEN
    assert [e.status for e in world.events] == ["queued", "sent", "delivered", "seen"]
    world.report("delivered")
    world.report("expired")
    assert world.statuses() == ["seen", "skipped"]
    assert world.sums()["delivered"] == 1


def test_a_lost_answer_is_looked_up_and_never_sent_again_blindly() -> None:
    world = World()
    world.send("lost")
    assert world.statuses()[0] == "unknown"
    assert world.message.due_ms == T0 + LOOK_UP_DELAYS_MS[0]
    assert world.timer().look_up
    world.happen(events.NotKnown(0))
    assert world.statuses()[0] == "unknown", "asked once is not enough"
    assert world.timer().look_up
    world.happen(events.NotKnown(0))
    assert world.statuses()[0] == "queued"
    found = World()
    found.send("lost")
    found.timer()
    found.report("sent")
    assert found.statuses()[0] == "sent"
    assert found.submitted == [0]


def test_a_lost_answer_nobody_explains_falls_back_when_the_steps_time_is_over() -> None:
    world = World()
    world.send("lost")
    for _ in range(len(LOOK_UP_DELAYS_MS)):
        assert world.timer().look_up
    assert world.message.due_ms == T0 + 15 * MINUTE + 10_000
    world.timer()
    assert world.statuses() == ["unknown", "queued"]
    assert world.sums("viber")["undelivered"] == 1
    world.report("expired", step=0)
    assert world.sums("viber")["undelivered"] == 1


def test_a_category_may_prefer_to_send_again_after_a_lost_answer() -> None:
    world = World(policy(resend_unknown=True))
    world.send("lost")
    assert world.statuses()[0] == "queued"


def test_what_was_put_back_costs_no_attempt() -> None:
    world = World()
    world.happen(events.Claimed(0))
    world.happen(events.PutBack(0))
    assert world.statuses()[0] == "queued"
    assert world.message.steps[0].attempts == 0


def test_what_could_not_be_sent_waits_no_longer_than_its_step_may() -> None:
    world = World()
    world.happen(events.Claimed(0))
    world.happen(events.NotSent(0, Fault("connect", "connection refused", False)))
    assert world.statuses()[0] == "retrying"
    world.now_ms += 16 * MINUTE
    world.happen(events.TimerDue())
    world.happen(events.Claimed(0))
    world.happen(events.NotSent(0, Fault("connect", "connection refused", False)))
    assert world.statuses() == ["undelivered", "queued"]


def test_cancelling_stops_further_steps_and_a_delivery_under_way_is_still_paid_for() -> None:
    queued = World()
    assert queued.happen(events.Cancelled()).refused is None
    assert queued.statuses() == ["skipped", "skipped"]
    assert not queued.held
    assert queued.happen(events.Cancelled()).refused == "final"
    out = World()
    out.send()
    out.happen(events.Cancelled())
    assert out.held, "its viber step may still arrive"
    out.report("delivered")
    assert out.message.status == MessageStatus.CANCELLED
    assert out.sums()["billed"] == 9_000
    silent = World()
    silent.send()
    silent.happen(events.Cancelled())
    silent.timer()
    assert silent.submitted == [0]
    assert not silent.held
    assert silent.message.closed


def test_an_opted_out_person_gets_nothing_that_was_still_waiting() -> None:
    world = World()
    assert not world.happen(events.Claimed(0, "marketing")).submit
    assert world.message.status == MessageStatus.SUPPRESSED
    code = World(send=request(category="otp", campaign=None))
    assert code.happen(events.Claimed(0, "marketing")).submit
    assert not code.happen(events.Claimed(0, "all")).submit


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


def test_a_provider_that_charges_on_sent_is_paid_even_for_what_never_arrived() -> None:
    world = World(policy(charged_on="sent"), request(route="sms-only"))
    world.send()
    assert world.sums()["cost"] == 40_000
    world.report("undelivered", cost=Decimal("0.05"), currency="EUR")
    assert world.sums()["cost"] == 50_000
    assert world.sums()["billed"] == 0


def test_another_providers_word_about_a_step_is_not_heard() -> None:
    world = World()
    world.send()
    effects = world.happen(events.Reported(0, Receipt("delivered", ref=ID + ".0"), "sms"))
    assert not effects.changed
    assert world.message.steps[0].status == StepStatus.SENT


def test_a_dead_senders_claim_nobody_recovered_becomes_a_lost_answer() -> None:
    world = World(send=request(ttl_ms=1_000))
    world.happen(events.Claimed(0))
    world.timer()
    assert world.statuses()[0] == "sending"
    world.timer()
    assert world.statuses()[0] == "unknown"


def test_a_refusal_that_is_learnt_after_a_lost_answer_is_a_refusal() -> None:
    world = World()
    world.happen(events.Claimed(0))
    world.happen(events.LostAnswer(0))
    assert world.statuses()[0] == "unknown"
    world.happen(events.Refused(0, NOT_ON_VIBER))
    assert world.statuses() == ["rejected", "queued"]
    assert world.message.steps[0].sent_ms == 0


def test_a_reference_that_was_known_already_may_have_been_refused_so_it_is_looked_up() -> None:
    world = World(policy(resend_unknown=True), send=request(category="otp", campaign=None))
    world.send("lost")
    world.happen(events.Claimed(0))
    world.happen(events.Accepted(0, again=True))
    assert world.statuses()[0] == "unknown"
    assert world.sums()["sent"] == 0, "nobody knows yet whether it was taken or refused"
    world.timer()
    assert world.look_ups == 1
    world.happen(events.Refused(0, NOT_ON_VIBER))
    assert world.statuses() == ["rejected", "queued"]
    assert (world.sums()["sent"], world.sums()["cost"]) == (0, 0)


def test_a_reference_that_was_known_already_and_was_taken_is_sent_once() -> None:
    world = World(policy(resend_unknown=True), send=request(category="otp", campaign=None))
    world.send("lost")
    world.happen(events.Claimed(0))
    world.happen(events.Accepted(0, again=True))
    world.report("sent")
    assert world.statuses()[0] == "sent"
    world.happen(events.Accepted(0, again=True))
    assert (world.statuses()[0], world.sums()["sent"]) == ("sent", 1)


def test_a_reference_that_was_known_already_is_sent_where_nobody_can_be_asked() -> None:
    world = World(
        policy(resend_unknown=True, can_look_up=False),
        send=request(category="otp", campaign=None),
    )
    world.send("lost")
    world.happen(events.Claimed(0))
    world.happen(events.Accepted(0, again=True))
    assert (world.statuses()[0], world.sums()["sent"]) == ("sent", 1)


def test_after_a_refusal_the_provider_is_given_another_reference() -> None:
    world = World()
    world.happen(events.Claimed(0))
    world.happen(events.Refused(0, BUSY))
    world.timer()
    world.happen(events.Claimed(0))
    step = world.message.steps[0]
    assert step_ref(ID, 0, step.series) == ID + ".0.1"
    assert read_ref(ID + ".0.1") == (ID, 0, 1)
    world.report("rejected")
    assert world.statuses()[0] == "sending", "a report about the refused reference changes nothing"
    world.happen(events.PutBack(0, refused=True))
    assert step.series == 2


@pytest.mark.parametrize(
    "other", ["", "x", ID, ID + ".", ID + ".x", ID + ".0.1.2", "." + ID, ID + ".²"]
)
def test_what_is_no_reference_of_ours_is_not_read_as_one(other: str) -> None:
    assert read_ref(other) is None
