"""Which request becomes a message, and what it is worth."""

from __future__ import annotations

import msgspec

from gateway.core.addresses import Addresses
from gateway.core.admission import Admitted, Decision, Duplicate, Suppressed, admit
from gateway.core.channels import SmsContent
from gateway.core.people.opt_outs import EVERY_CHANNEL, NONE, OptOuts
from gateway.core.people.persons import cap_states, full_cap
from gateway.core.plan import Rejection
from gateway.core.policy import CategoryRule, Policy
from gateway.core.records.content import Content, content_with
from gateway.core.records.message import StepStatus
from gateway.core.records.person import Person
from gateway.core.records.request import MessageRequest
from ratelimit.caps import Cap, Slot
from tests.worlds.cascade_world import DAY, MINUTE, PRICES, T0, policy, request


def decide(
    send: MessageRequest,
    *persons: Person,
    rules: Policy | None = None,
    opt_outs: OptOuts = NONE,
    now_ms: int = T0,
) -> Decision:
    return admit(send, persons or [Person()], opt_outs, rules or policy(), now_ms)


def test_an_accepted_message_stands_in_its_first_steps_lane_with_prices_and_parts_fixed() -> None:
    long_text = "я" * 71
    accepted = decide(request(content=Content(long_text)))
    assert isinstance(accepted, Admitted)
    message = accepted.message
    assert accepted.lane == ("viber", "marketing")
    assert [s.status for s in message.steps] == [StepStatus.QUEUED, StepStatus.PLANNED]
    assert [(s.candidate.cost, s.sell, s.parts) for s in message.steps] == [
        (5_000, 9_000, 1),
        (40_000, 70_000, 2),
    ]
    assert message.baseline_cost == 80_000
    assert message.expires_ms == message.due_ms == T0 + 3 * DAY
    assert accepted.post.measures == {"accepted": 1}


def test_the_sms_text_decides_the_parts_where_it_differs() -> None:
    accepted = decide(request(content=content_with("я" * 71, {"sms": SmsContent("short")})))
    assert isinstance(accepted, Admitted)
    assert accepted.message.steps[1].parts == 1


def test_what_sms_alone_would_cost_is_known_for_a_route_without_sms() -> None:
    accepted = decide(request(route="viber-only", content=Content("я" * 71)))
    assert isinstance(accepted, Admitted)
    assert accepted.message.baseline_cost == 80_000


def test_ttl_is_the_callers_or_the_categorys() -> None:
    own = decide(request(ttl_ms=MINUTE))
    code = decide(request(category="otp", campaign=None))
    assert isinstance(own, Admitted)
    assert isinstance(code, Admitted)
    assert own.message.expires_ms == T0 + MINUTE
    assert code.message.expires_ms == T0 + 5 * MINUTE


def test_a_message_without_a_price_an_unknown_route_or_category_is_rejected_by_its_key() -> None:
    rules = policy()
    no_price = msgspec.structs.replace(
        rules, quote=lambda provider, *_: None if provider == "sms" else PRICES[provider]
    )
    for decision, pointer in (
        (decide(request(route="sms-only"), rules=no_price), "/to"),
        (decide(request(route="pigeon")), "/route"),
        (decide(request(), rules=msgspec.structs.replace(rules, categories={})), "/category"),
    ):
        assert isinstance(decision, Rejection)
        assert decision.pointer == pointer
    assert isinstance(decide(request(route="viber-only"), rules=no_price), Admitted)
    without_sms = decide(request(), rules=no_price)
    assert isinstance(without_sms, Admitted)
    assert [step.channel for step in without_sms.message.steps] == ["viber"]


def test_a_category_without_a_route_takes_messages_that_name_one() -> None:
    rules = msgspec.structs.replace(policy(), categories={"marketing": CategoryRule("", MINUTE)})
    named = decide(request(route="sms-only"), rules=rules)
    assert isinstance(named, Admitted)
    assert (named.message.route, named.message.expires_ms) == ("sms-only", T0 + MINUTE)
    unnamed = decide(request(), rules=rules)
    assert isinstance(unnamed, Rejection)
    assert (unnamed.pointer, "name one in `route`" in unnamed.detail) == ("/category", True)


def test_an_opted_out_person_gets_nothing_in_that_scope() -> None:
    marketing: OptOuts = {EVERY_CHANNEL: "marketing"}
    assert isinstance(decide(request(), opt_outs=marketing), Suppressed)
    assert isinstance(decide(request(category="otp"), opt_outs=marketing), Admitted)
    assert isinstance(decide(request(category="otp"), opt_outs={EVERY_CHANNEL: "all"}), Suppressed)


def test_an_opt_out_of_one_channel_leaves_the_others() -> None:
    other = decide(request(), opt_outs={"viber": "all"})
    assert isinstance(other, Admitted)
    assert other.lane == ("sms", "marketing")
    first, second = other.message.steps
    assert (first.status, first.fault and first.fault.code) == (StepStatus.SKIPPED, "opted_out")
    assert second.status == StepStatus.QUEUED
    assert isinstance(decide(request(route="viber-only"), opt_outs={"viber": "all"}), Suppressed)
    both: OptOuts = {"viber": "marketing", "sms": "all"}
    assert isinstance(decide(request(), opt_outs=both), Suppressed)


def test_whom_no_step_could_reach_is_told_so_and_not_that_they_opted_out() -> None:
    by_mail = request(addresses=Addresses(email="anna@shop.example"))
    assert isinstance(decide(by_mail, opt_outs={"viber": "all"}), Rejection)


def test_a_claim_under_either_identity_makes_a_duplicate_that_names_the_winner() -> None:
    phone, user = Person(), Person()
    first = decide(request(user="u1"), phone, user)
    assert isinstance(first, Admitted)
    assert user == Person(), "only the first record takes anything"
    for persons in ((phone,), (user, phone)):
        again = decide(request(id="1M7Q5CQG0000000000ZZ"), *persons)
        assert isinstance(again, Duplicate)
        assert again.message == first.message.id
        assert again.post.measures == {"duplicates": 1}
    assert isinstance(decide(request(id="1M7Q5CQG0000000000ZZ", campaign="b"), phone), Admitted)


def test_a_refused_request_leaves_the_persons_as_they_were() -> None:
    rules = policy(caps=(Cap("one", 1, DAY, "1d", None, "viber"),))
    person = Person()
    assert isinstance(decide(request(), person, rules=rules), Admitted)
    before = msgspec.msgpack.encode(person)
    other = request(id="1M7Q5CQG0000000000ZZ", campaign="winter")
    refused = decide(other, person, rules=rules)
    assert isinstance(refused, Suppressed)
    assert refused.full is not None
    assert refused.full.cap.name == "one"
    assert msgspec.msgpack.encode(person) == before


def test_caps_are_shown_as_they_are_asked() -> None:
    """Of a message that stands in two records that of the first counts: there it moved last."""
    rules = policy(caps=(Cap("one", 1, DAY, "1d", "marketing", "sms"),))
    moved = Person(slots=[Slot("m", T0, "marketing", "sms")])
    before = Person(slots=[Slot("m", T0, "marketing", "viber")])
    for people in ((moved, before), (before, moved)):
        full = full_cap(people, rules, "marketing", "sms", T0)
        (shown,) = cap_states(people, rules, T0)
        assert (shown.count >= 1) == (full is not None) == (people[0] is moved)


def test_a_duplicate_is_named_before_a_full_cap() -> None:
    rules = policy(caps=(Cap("one", 1, DAY, "1d"),))
    person = Person()
    decide(request(), person, rules=rules)
    again = decide(request(id="1M7Q5CQG0000000000ZZ"), person, rules=rules)
    assert isinstance(again, Duplicate)
