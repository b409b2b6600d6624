"""Whom a campaign leaves out: who was in another one, and who reacted lately."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core import admission, events
from gateway.core.campaigns import audience
from gateway.core.campaigns.campaigns import Campaign, Declared
from gateway.core.people import identities
from gateway.core.people.opt_outs import NONE
from gateway.core.policy import Policy
from gateway.core.records.person import (
    DAY_MS,
    REMEMBERED_MS,
    Person,
    pack_person,
    unpack_person,
)
from providers.contract import Fault
from tests.worlds.cascade_world import DAY, T0, World, policy, request

GONE = Fault("7002", "EC_UNKNOWN_USER", True)
THIRD = Campaign(exclude_campaigns=("wave-1", "wave-2"))
SILENT = Campaign(silent_for="90d", silent_ms=90 * DAY)
FIRST = request(campaign="wave-1")


def declared(campaigns: Mapping[str, Campaign] | None = None) -> Policy:
    return replace(policy(), declared=Declared(campaigns or {"wave-3": THIRD}))


def told(rules: Policy, now_ms: int, *people: Person, campaign: str = "wave-3") -> str:
    """What a request of a campaign comes to."""
    asked = request(id="another", campaign=campaign)
    copies = [unpack_person(pack_person(person)) for person in people]
    decision = admission.admit(asked, copies, NONE, rules, now_ms)
    if isinstance(decision, admission.Suppressed):
        return f"{decision.reason}: {decision.detail}"
    return type(decision).__name__


def reached(rules: Policy, answer: str = "delivered") -> World:
    """Somebody to whom a message of the first wave was sent, with that outcome."""
    world = World(rules, FIRST)
    world.send()
    world.report(answer)
    return world


def test_who_was_in_an_earlier_wave_is_left_out_of_a_later_one() -> None:
    rules = declared()
    world = reached(rules)
    assert told(rules, T0, world.person) == "excluded: in wave-1"
    assert told(rules, T0, world.person, campaign="wave-4") == "Admitted"
    assert told(rules, T0, Person()) == "Admitted"


def test_who_is_about_to_be_reached_is_left_out_until_nothing_arrived() -> None:
    rules = declared()
    world = World(rules, FIRST)
    assert told(rules, T0, world.person) == "excluded: in wave-1"
    for _ in range(2):
        world.send()
        world.report("undelivered", fault=GONE)
    assert told(rules, T0, world.person) == "Admitted"


def test_a_campaigns_own_message_is_named_before_somebody_elses() -> None:
    rules = declared({"wave-1": Campaign(exclude_campaigns=("wave-0",))})
    world = World(rules, FIRST)
    world.person.reached = {audience.mark_of("wave-0"): T0 // DAY_MS}
    assert told(rules, T0, world.person, campaign="wave-1") == "Duplicate"


def test_a_year_after_its_delivery_it_is_forgotten_and_until_then_the_claim_may_be_over() -> None:
    rules = declared()
    person = reached(rules).person
    assert told(rules, T0 + REMEMBERED_MS - DAY, person) == "excluded: in wave-1"
    assert told(rules, T0 + REMEMBERED_MS, person) == "Admitted"
    assert person.until_ms == T0 + REMEMBERED_MS
    audience.prune(person, T0 + REMEMBERED_MS)
    assert not person.reached


def test_what_no_campaign_asks_for_is_known_by_the_claim_alone() -> None:
    world = reached(policy())
    assert not world.person.reached
    rules = declared()
    assert told(rules, T0 + rules.dedupe_ms - 1, world.person) == "excluded: in wave-1"
    assert told(rules, T0 + rules.dedupe_ms, world.person) == "Admitted"


def test_of_ten_thousand_campaigns_the_last_are_remembered_in_some_bytes_each() -> None:
    names = [f"wave-{n}" for n in range(10_000)]
    rules = declared({"all": Campaign(exclude_campaigns=tuple(names))})
    person = Person()
    for n, name in enumerate(names):
        assert audience.note_reached(person, name, rules.declared, T0 + n * DAY // 30)
    assert len(person.reached) == audience.REACHED_MAX
    assert {audience.mark_of(name) for name in names[-40:]} <= set(person.reached)
    size = len(pack_person(person)) - len(pack_person(Person()))
    assert size <= 9 * audience.REACHED_MAX
    assert not audience.note_reached(person, "another", rules.declared, T0)


def test_who_reacted_lately_is_left_out_of_a_campaign_for_the_silent() -> None:
    rules = declared({"wave-3": SILENT})
    world = reached(rules, "seen")
    assert told(rules, T0 + 90 * DAY - 1, world.person) == "excluded: reacted within 90d"
    assert told(rules, T0 + 90 * DAY, world.person) == "Admitted"
    assert world.person.until_ms >= T0 + REMEMBERED_MS
    assert told(rules, T0, reached(rules).person) == "Admitted", "nobody reacted"


def test_a_reaction_to_a_message_without_a_campaign_counts_as_well() -> None:
    rules = declared({"wave-3": SILENT})
    world = World(rules, request(campaign=None, category="transactional"))
    world.send()
    world.report("seen")
    assert told(rules, T0, world.person) == "excluded: reacted within 90d"
    world.now_ms += 9 * DAY
    world.happen(events.Reacted(0, "clicked", world.now_ms))
    assert told(rules, T0 + 95 * DAY, world.person) == "excluded: reacted within 90d"


@pytest.mark.parametrize("kind", ["seen", "clicked", "replied"])
def test_where_nobody_asks_a_reaction_is_not_remembered(kind: Any) -> None:
    world = reached(policy())
    before = pack_person(world.person)
    world.happen(events.Reacted(0, kind, T0))
    assert pack_person(world.person) == before


def test_of_somebody_who_was_forgotten_nothing_is_noted() -> None:
    rules = declared({"wave-3": replace(SILENT, exclude_campaigns=("wave-1",))})
    world = World(rules, FIRST)
    world.send()
    world.happen(events.Cancelled(erase=True))
    world.report("seen", 0)
    assert (world.person.reached, world.person.reacted_s) == ({}, 0)


def test_every_record_of_a_person_says_what_it_knows_and_a_home_takes_it_over() -> None:
    rules = declared({"wave-3": replace(SILENT, exclude_campaigns=("wave-1",))})
    other = Person(reached=reached(rules).person.reached)
    assert told(rules, T0 + 40 * DAY, Person(), other) == "excluded: in wave-1"
    home = Person(reached={7: T0 // DAY_MS})
    found = {"e:anna@shop.example": replace(other, home="p:79161234567", reacted_s=T0 // 1000)}
    assert identities.enlist(home, "p:79161234567", found, [], T0)
    assert home.reached == other.reached | {7: T0 // DAY_MS}
    assert home.reacted_s == T0 // 1000
    assert not audience.take_over(home, found.values())


def test_an_address_that_changes_hands_counts_as_reached_with_both() -> None:
    phone, email = "p:79161234567", "e:anna@shop.example"
    home = Person(aliases=[email], linked_ms=T0, reached={7: 40}, reacted_s=T0 // 1000)
    records = {phone: home, email: Person(home=phone, linked_ms=T0)}
    for parted, other in ((email, phone), (phone, email)):
        writes = {w.identity: w.after for w in identities.split(parted, other, records, T0)}
        for identity in (phone, email):
            after = writes.get(identity, records[identity])
            assert (after.reached, after.reacted_s) == ({7: 40}, T0 // 1000)
            assert not after.home
